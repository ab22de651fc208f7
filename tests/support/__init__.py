"""What the tests share: workers, servers, waits on conditions.

Imported as `support.NAME` everywhere. The folder `app` beside it is the application whose functions the tests
run as jobs: `jobs`, and `harmful` with those that hurt their process.
"""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
APP = TESTS / "app"
