"""An injection: an exception that another thread raises by itself, and what it says.

It is raised as soon as that thread runs Python code; a sleep or a blocking read is not cut short.
"""

from __future__ import annotations

import ctypes

#: what a JobInterrupted says
STOP_MESSAGE = "the job was asked to stop"


def timeout_message(timeout: float) -> str:
    """Return what a JobTimeoutException says; `timeout` in seconds."""
    return f"the job ran longer than its timeout of {timeout:g} s"


def inject(thread: int, exception: type[BaseException], message: str) -> None:
    """Have a thread raise an exception."""
    # it is raised without arguments, so a class of its own carries the message
    told = type(exception.__name__, (exception,), {"__str__": lambda _: message})
    told.__module__, told.__qualname__ = exception.__module__, exception.__qualname__
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(told))


def recall(thread: int) -> None:
    """Take back what a thread has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
