"""The format of a worker's log on stderr: lines for people, or JSON objects for machines.

Only minirq's own loggers are set up. What the application logs is the application's to set up, and its
`logging.basicConfig()` works as usual. Times carry their offset from UTC, since a job may change the zone.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from minirq.text import safe_text

#: what log lines carry beside their message, where it applies
FIELDS = ("job_id", "queue", "func", "attempt", "worker", "seconds", "exc_type")

_YELLOW, _RED, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[0m"
_COLORS = {logging.WARNING: _YELLOW, logging.ERROR: _RED, logging.CRITICAL: _RED}
#: longest message that is shown, characters
_LONGEST = 5000


def set_up_logs(*, level: int | str, as_json: bool, may_color: bool) -> None:
    """Send minirq's log to stderr; colours only where it is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    is_colored = may_color and sys.stderr.isatty()
    handler.setFormatter(JsonLines() if as_json else TextLines(is_colored=is_colored))
    logger = logging.getLogger("minirq")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False  # the application may set up the root logger too


def set_up_logs_unless_done(level: int | str) -> None:
    """Send minirq's log to stderr unless the application has set up logging."""
    if not logging.getLogger("minirq").hasHandlers():
        set_up_logs(level=level, as_json=False, may_color=not os.environ.get("NO_COLOR"))


class TextLines(logging.Formatter):
    """Time, level unless it is INFO, message. A traceback follows on lines of its own."""

    def __init__(self, *, is_colored: bool = False) -> None:
        super().__init__()
        self._is_colored = is_colored

    def format(self, record: logging.LogRecord) -> str:
        """Make one line; what could forge another one is escaped."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone()
        words = [time.isoformat(" ", timespec="seconds"), safe_text(record.getMessage(), _LONGEST)]
        if record.levelno != logging.INFO:
            words.insert(1, self._level(record))
        lines = [" ".join(words)]
        if record.exc_info:
            lines += [safe_text(line, _LONGEST) for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)

    def _level(self, record: logging.LogRecord) -> str:
        color = _COLORS.get(record.levelno)
        return f"{color}{record.levelname}{_PLAIN}" if color and self._is_colored else record.levelname


class JsonLines(logging.Formatter):
    """One object a line: ts, level, logger, message, and those of FIELDS that the line carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Make one line."""
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)
