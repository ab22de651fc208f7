"""Every default of a job, stated once. Seconds, unless the name has another unit.

The scripts get those they decide on from here (`lib/defaults` is made of them).
"""

from __future__ import annotations

#: what every key begins with
DEFAULT_NAMESPACE = "minirq"
#: bytes of a job's id at most: a script reads it from the head of the payload
MAX_ID_BYTES = 255
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
#: from here on, workers and the doctor warn about a queue's failed jobs
MANY_FAILED = 100_000

#: When a call is sent again because its reply was lost, the job's record shows that it has acted. So a record
#: outlasts its job's end by this long: with a TTL of 0 (without the result), with another short TTL, and once
#: the call was sent again. All outlast the default lease.
TOMBSTONE, LEAST_KEPT, DOUBT = 60, 20, 600

LUA_CONSTANTS = {
    "TOMBSTONE_MS": TOMBSTONE * 1000,
    "LEAST_KEPT_MS": LEAST_KEPT * 1000,
    "DOUBT_MS": DOUBT * 1000,
    "DEFAULT_FAILURE_TTL_MS": FAILURE_TTL * 1000,
    "DEFAULT_LOSS_LIMIT": LOSS_LIMIT,
}
