"""Every default of a job, stated once. Seconds, unless the name says otherwise.

The scripts get those they decide on from here (`lib/defaults` is made of them).
"""

from __future__ import annotations

#: how long a job may run; -1 is no limit
JOB_TIMEOUT = 180
#: how long a result is kept; 0 keeps nothing, -1 keeps it for ever
RESULT_TTL = 500
#: how long a job that failed or was canceled is kept, with payload and errors
FAILURE_TTL = 30 * 24 * 3600
#: a job whose process died is run again this many times; the death after that fails it
LOSS_LIMIT = 2
#: entries that the index of finished jobs may keep, without those that are kept for ever
MOST_FINISHED = 100_000
#: from here on, workers and the doctor complain of a queue's failed jobs
MANY_FAILED = 100_000

LUA_CONSTANTS = {
    "DEFAULT_FAILURE_TTL_MS": FAILURE_TTL * 1000,
    "DEFAULT_LOSS_LIMIT": LOSS_LIMIT,
}
