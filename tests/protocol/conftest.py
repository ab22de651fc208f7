"""The scripts on stage: one queue, or two that one worker serves, and an owner `a` that may claim."""

from __future__ import annotations

import pytest
import redis as redis_py
from stage import Stage


@pytest.fixture
def stage(redis: redis_py.Redis) -> Stage:
    stage = Stage(redis, "q")
    stage.register("a")
    return stage


@pytest.fixture
def two(redis: redis_py.Redis) -> Stage:
    """Two queues, the first one served first."""
    two = Stage(redis, "high", "low")
    two.register("a")
    return two
