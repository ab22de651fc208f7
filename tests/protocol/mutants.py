"""Breaks the code in one place at a time, in a copy, and looks whether a test of the protocol notices.

Run by bin/mutants; arguments go to pytest instead of the default choice of tests, and `--only WORDS`
picks mutants by name. A test that notices nothing when its code is broken is no test.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# the slow ones last: most mutants do not live that long
NOUNS = (
    "enqueue",
    "claim",
    "settle",
    "reclaim",
    "promote",
    "maintain",
    "cancel",
    "aside",
    "keys",
    "payload",
    "machine",
)
TESTS = [f"tests/protocol/test_{noun}.py" for noun in NOUNS]
FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) \S*?([^/]+?)(?: - .*)?$", re.MULTILINE)

LUA = "minirq/protocol/lua"
CLAIM, FINISH, RECLAIM = f"{LUA}/lib/claim.lua", f"{LUA}/finish.lua", f"{LUA}/reclaim.lua"
PARK, BEAT, PROMOTE = f"{LUA}/lib/park.lua", f"{LUA}/beat.lua", f"{LUA}/promote.lua"
CANCEL, REQUEUE, ENQUEUE = f"{LUA}/cancel.lua", f"{LUA}/requeue.lua", f"{LUA}/enqueue.lua"
MAINTAIN = f"{LUA}/maintain.lua"
ASIDE, EMPTY = f"{LUA}/lib/aside.lua", f"{LUA}/empty.lua"
STOP, INTERRUPT = f"{LUA}/stop.lua", f"{LUA}/lib/interrupt.lua"


@dataclass(frozen=True)
class Mutant:
    """One change: `old` occurs once in the file and is replaced by `new`."""

    name: str
    file: str
    old: str
    new: str = ""


MUTANTS = [
    Mutant(
        "claim: serves unregistered and buried owners",
        CLAIM,
        "if lease < 0 then lost = true elseif",
        "if",
    ),
    Mutant("claim: serves late owners", CLAIM, " elseif lease <= now then late = true end", " end"),
    Mutant("settle: a miss does not say how long its job pauses", FINISH, "return -pause_ms", "return 1"),
    Mutant("settle: a miss does not say that its job has failed", FINISH, "return 4", "return 1"),
    Mutant(
        "claim: takes many of a queue that is served one by one",
        CLAIM,
        'meta[2] == "0" and 1 or want',
        "want",
    ),
    Mutant(
        "claim: leaves a copy in the queue",
        CLAIM,
        'if consumed > 0 and not is_moved then call("LTRIM", queue, 0, -consumed - 1) end',
    ),
    Mutant(
        "claim: takes one job out of the queue twice", CLAIM, "consumed > 0 and not is_moved", "consumed > 0"
    ),
    Mutant(
        "claim: takes a list that was settled in part for empty",
        FINISH,
        "    emptied[number] = true\n  else\n",
        "  else\n    emptied[number] = true\n",
    ),
    Mutant("claim: forgets what ran before", CLAIM, "if f[2] then -- only", "if false then -- only"),
    Mutant("settle: forgets what ran before", FINISH, "if run > 1 then", "if run > 9 then"),
    Mutant("claim: counts no run", CLAIM, 'run == 0 and "1" or run + 1, "owner"', 'run, "owner"'),
    Mutant("claim: does not adopt", CLAIM, "adopt(this, number, prefix, owner, hand[number] or {}, paused)"),
    Mutant(
        "claim: keeps stale copies in hand",
        CLAIM,
        'clear_away(prefix, id, payload, job)\n        redis.call("LREM", processing, -1, payload)',
        "clear_away(prefix, id, payload, job)",
    ),
    Mutant(
        "claim: adopts what another owner runs",
        CLAIM,
        'job.status == "started" and job.owner == owner',
        'job.status == "started"',
    ),
    Mutant("claim: hands out what is in hand", CLAIM, "if not known[id] then", "if true then"),
    Mutant(
        "claim: takes an id in hand for that of another queue",
        FINISH,
        "local number = in_hand[i]",
        "local number = 1",
    ),
    Mutant(
        "company: anybody joins anybody",
        CLAIM,
        'return with, keeps == "" or',
        "return with, true or",
    ),
    Mutant(
        "company: all lost jobs keep each other's",
        CLAIM,
        'return again and f[1] or "alone", f[3]',
        'return "", f[3]',
    ),
    Mutant("company: a second death separates nobody", CLAIM, "lost == 1 and f[1]", "f[1]"),
    Mutant("company: knows no loss limit", CLAIM, " and tonumber(f[2] or DEFAULT_LOSS_LIMIT) > 1"),
    Mutant("company: is not asked for", FINISH, "want, hand, keeps, emptied)", 'want, hand, "", emptied)'),
    Mutant("company: one that died alone has fellows", RECLAIM, "if #survivors > 1", "if #survivors > 0"),
    Mutant("company: deaths are not told apart", RECLAIM, '"died_with", death', '"died_with", "x"'),
    Mutant("company: owners of one process die apart", RECLAIM, 'string.gsub(owner, "%+%d+$", "")', "owner"),
    Mutant("company: a requeue keeps the death", REQUEUE, ',\n  "died_with", "skipped_ms"'),
    Mutant(
        "company: keeps what was brought and does not fit",
        CLAIM,
        "skip(prefix, id, payload, with, skipped_ms)\n          back[#back + 1] = payload",
        "skip(prefix, id, payload, with, skipped_ms)",
    ),
    Mutant(
        "company: takes more beside what an old request claimed",
        CLAIM,
        "once the process is free\n          this.must_drain = true",
        "once the process is free",
    ),
    Mutant(
        "skip: never", CLAIM, 'elseif this.was_free and this.company == "others" then', "elseif true then"
    ),
    Mutant(
        "skip: at once", CLAIM, 'elseif this.was_free and this.company == "others" then', "elseif false then"
    ),
    Mutant(
        "skip: leaves copies",
        CLAIM,
        'for _, payload in ipairs(picked) do call("LREM", queue, -1, payload) end',
    ),
    Mutant(
        "skip: says nothing of it",
        CLAIM,
        "elseif this.rules and this.skipped > 0 or this.company",
        "elseif this.company",
    ),
    Mutant("skip: any number", CLAIM, "MOST_SKIPPED_BYTES = 500,", "MOST_SKIPPED_BYTES = 2^50,"),
    Mutant("skip: any number of bytes", CLAIM, ", 4194304", ", 2^50"),
    Mutant("skip: for ever", CLAIM, "local SKIPPED_MS = 10000", "local SKIPPED_MS = 2^50"),
    Mutant("skip: begins to count anew", CLAIM, "if not skipped_ms then", "if true then"),
    Mutant(
        "skip: counts on after a start",
        CLAIM,
        'if lost > 0 then redis.call("HDEL", job, "skipped_ms") end',
    ),
    Mutant("skip: whoever is gone is waited for", CLAIM, 'f[1] == "queued" and f[2] == since_ms', "true"),
    Mutant("skip: a paused queue is waited for", CLAIM, "hint and not paused and", "hint and"),
    Mutant("skip: who is free keeps the order", CLAIM, 'this.company = "lost"\n', "\n"),
    Mutant("skip: every process drains", CLAIM, "> now then return false end", "> now then end"),
    Mutant("skip: the dead drain", CLAIM, "drained_by) or -1) > now", "drained_by) or 1) > 0"),
    Mutant(
        "skip: a new one drains each time", CLAIM, '"meta", "skipped")', '"meta", "skipped", "drained_by")'
    ),
    Mutant("skip: remembers who drained", CLAIM, 'call("HDEL", prefix .. "meta", "drained_by")'),
    Mutant(
        "claim: does not look at the ttl",
        CLAIM,
        " and not seen[id] and not (expires_ms > 0 and expires_ms <= now) then",
        " and not seen[id] then",
    ),
    Mutant(
        "claim: runs canceled jobs",
        CLAIM,
        'if (not status or status == "queued") and not seen[id]',
        'if (not status or status == "queued" or status == "canceled") and not seen[id]',
    ),
    Mutant(
        "claim: leaves canceled jobs without their payload",
        CLAIM,
        'park(prefix, id, payload, "canceled", job.failure_ttl_ms, job.waiters, blemished)',
    ),
    Mutant("claim: runs two copies", CLAIM, "seen[id] = true\n          this", "this"),
    Mutant(
        "claim: takes any number of bytes", CLAIM, "local MOST_BYTES = 1048576", "local MOST_BYTES = 2^50"
    ),
    Mutant(
        "claim: counts bytes for each queue alone",
        CLAIM,
        "local call, queue, jobs_prefix, jobs, behind =",
        "this.bytes = 0 local call, queue, jobs_prefix, jobs, behind =",
    ),
    Mutant("claim: does not know pauses", CLAIM, "until_ms == -1 or until_ms > now", "false"),
    Mutant(
        "claim: keeps what a paused queue had brought",
        CLAIM,
        "elseif runnable and paused then",
        "elseif false then",
    ),
    Mutant(
        "claim: does not ring again",
        CLAIM,
        "if left > 0 then ring(prefix_of(queue)) end",
    ),
    Mutant(
        "claim: keeps the bell it may not follow",
        CLAIM,
        'do\n      if redis.call("EXISTS", queue) == 1 then ring(prefix_of(queue)) end',
        "do",
    ),
    Mutant("finish: does not look at the run", FINISH, "if status and f[2] + 0 ~= run then return 0 end"),
    Mutant(
        "finish: does not look into the owner's list",
        FINISH,
        "queue.prefix, queue.by_id[id]\n",
        'queue.prefix, queue.by_id[id] or ""\n',
    ),
    Mutant(
        "finish: settles what is not started", FINISH, ' or (status and status ~= "started") then', " then"
    ),
    Mutant(
        "finish: does not say `settled before`",
        FINISH,
        "return settled_before and 2 or 0",
        "return 0",
    ),
    Mutant(
        "finish: says `settled before` to any owner",
        FINISH,
        ' and call("HGET", job, "owner") == owner',
    ),
    Mutant("finish: leaves the job in hand", FINISH, 'call("DEL", processing)'),
    Mutant(
        "finish: leaves one of several jobs in hand",
        FINISH,
        'for _, payload in ipairs(queue.gone) do call("LREM", processing, -1, payload) end',
    ),
    Mutant(
        "finish: runs again what was asked to stop", FINISH, "if stop and (verb ==", "if false and (verb =="
    ),
    Mutant(
        "finish: keeps what was deleted while it ran",
        FINISH,
        "if not status or f[5] then",
        "if not status then",
    ),
    Mutant(
        "finish: counts no attempt at a retry",
        FINISH,
        '"status", "queued", "attempts", counted,',
        '"status", "queued", "attempts", attempts,',
    ),
    Mutant("park: does not tell who waits", PARK, "    tell(prefix, id, waiters)\n"),
    Mutant(
        "finish: forgets the index",
        FINISH,
        'for key, entries in pairs(batched) do call("ZADD", key, unpack(entries)) end',
    ),
    Mutant("park: gives no ttl", PARK, 'call("PEXPIRE", job, keep)'),
    Mutant("park: keeps no tombstone", PARK, "ttl_ms == 0 and TOMBSTONE_MS or LEAST_KEPT_MS", "1"),
    Mutant("park: forgets a call that was sent again", PARK, "then least_ms = DOUBT_MS end", "then end"),
    Mutant("park: tells a call that was sent again", PARK, "if waiter ~= IN_DOUBT then", "if true then"),
    Mutant(
        "park: drops a result that is waited for",
        PARK,
        "if waiters and waiters ~= IN_DOUBT and ttl_ms == 0 then ttl_ms = WAITED_MS end",
    ),
    Mutant(
        "park: keeps errors for ever",
        PARK,
        'if blemished then call("PEXPIRE", prefix .. "errors:" .. id, keep) end',
    ),
    Mutant("park: needs the right to publish", PARK, 'redis.pcall("PUBLISH"', 'redis.call("PUBLISH"'),
    Mutant("park: keeps all errors", PARK, 'redis.call("LTRIM", errors, 0, 9)'),
    Mutant("aside: takes every error for a broken key", ASIDE, "error(err, 0)", 'return "?"'),
    Mutant("aside: knows no numbers", ASIDE, '"attempt to"', '"never"'),
    Mutant("aside: knows no types", ASIDE, '"WRONGTYPE", 1', '"never", 1'),
    Mutant(
        "aside: keeps no payload", ASIDE, 'redis.call("SET", prefix .. "payload:" .. id, payload)', "id = id"
    ),
    Mutant(
        "aside: does not list what it sets aside", ASIDE, 'redis.call("ZADD", prefix .. "unknown", now, id)'
    ),
    Mutant("aside: leaves the status", ASIDE, 'redis.call("HSET", job, "status", "unknown")'),
    Mutant(
        "claim: takes a broken number for 0",
        CLAIM,
        "(before[5] or 0) + 0",
        "tonumber(before[5] or 0) or 0",
    ),
    Mutant(
        "claim: leaves what is broken in the queue",
        FINISH,
        'call("LREM", queue, -1, payload) else behind',
        "behind = behind + 1 else behind",
    ),
    Mutant(
        "claim: leaves what is broken in hand",
        FINISH,
        'is_broken(prefix, payload) then call("LREM", processing, -1, payload) end',
        "is_broken(prefix, payload) then end",
    ),
    Mutant("claim: hides errors that it cannot mend", FINISH, "if #aside == before then error(err, 0) end"),
    Mutant(
        "finish: stops at a broken job",
        FINISH,
        "  if ok then break end\n",
        "  if ok then break end\n  error(err, 0)\n",
    ),
    Mutant(
        "finish: leaves a broken job in hand",
        FINISH,
        "queue.gone[#queue.gone + 1] = queue.by_id[id]",
        "id = id",
    ),
    Mutant(
        "finish: sets aside what another holds",
        FINISH,
        "if is_held then set_aside(queue.prefix, id, payload, why) end",
        "set_aside(queue.prefix, id, payload, why)",
    ),
    Mutant(
        "reclaim: stops at a broken job",
        RECLAIM,
        "local ok, err = pcall(take_back, owner, payload)",
        "local ok, err = true, take_back(owner, payload)",
    ),
    Mutant(
        "promote: stops at a broken job",
        PROMOTE,
        "local ok, err = pcall(bring, id)",
        "local ok, err = true, bring(id)",
    ),
    Mutant(
        "requeue: needs a record",
        REQUEUE,
        ' or (redis.call("ZSCORE", prefix .. "unknown", id) and "unknown")',
    ),
    Mutant("cancel: does not know what is set aside", CANCEL, ' or status == "unknown" then', " then"),
    Mutant("empty: stops at a broken job", EMPTY, 'redis.pcall("HMGET"', 'redis.call("HMGET"'),
    Mutant(
        "park: stops at a mailbox that cannot be written", PARK, 'redis.pcall("RPUSH"', 'redis.call("RPUSH"'
    ),
    Mutant("beat: does not tell who holds a job", BEAT, "holders[#holders + 1] = owner"),
    Mutant("beat: renews buried owners", BEAT, "if score < 0 then lost = true end"),
    Mutant("beat: registers everybody", BEAT, "(i - 3 <= new and 0 or -1)", "0"),
    Mutant(
        "reclaim: does not look at the caller's clock",
        RECLAIM,
        'if math.abs(now - tonumber(ARGV[2])) > tonumber(ARGV[3]) then return { "refused" } end',
    ),
    Mutant(
        "reclaim: does not look at the lease",
        RECLAIM,
        'ZRANGEBYSCORE", owners, 0, now, "LIMIT"',
        'ZRANGEBYSCORE", owners, 0, "+inf", "LIMIT"',
    ),
    Mutant(
        "reclaim: takes what another owner runs",
        RECLAIM,
        'if status == "started" and f[3] == owner then',
        'if status == "started" then',
    ),
    Mutant(
        "reclaim: blames everybody",
        RECLAIM,
        'local guilty = has_run and (blame ~= "spared" or limit == 0)',
        "local guilty = true",
    ),
    Mutant("reclaim: blames another run", RECLAIM, 'ran[(f[2] or 0) .. " " .. id]', "next(ran)"),
    Mutant("reclaim: spares nobody", RECLAIM, '(blame ~= "spared" or limit == 0)', "true"),
    Mutant(
        "reclaim: has a job expire that has started in time",
        RECLAIM,
        'if has_run then redis.call("HDEL", job, "expires_ms") end',
    ),
    Mutant(
        "reclaim: has a job that has not started forget its ttl",
        RECLAIM,
        'if has_run then redis.call("HDEL", job, "expires_ms") end',
        'redis.call("HDEL", job, "expires_ms")',
    ),
    Mutant(
        "finish: has a retry expire",
        FINISH,
        'call("HDEL", job, "expires_ms") -- it has started in time',
    ),
    Mutant(
        "reclaim: spares what must not run again",
        RECLAIM,
        '(blame ~= "spared" or limit == 0)',
        'blame ~= "spared"',
    ),
    Mutant(
        "reclaim: knows no loss limit",
        RECLAIM,
        "guilty and lost > limit",
        "false",
    ),
    Mutant("reclaim: makes no pause", RECLAIM, "guilty and lost > 1 and pause_ms > 0", "false"),
    Mutant("reclaim: takes a late run for settled", RECLAIM, 'redis.call("HDEL", job, "owner")'),
    Mutant("reclaim: forgets the dead at once", RECLAIM, "-tonumber(buried[i + 1]) <= now", "true"),
    Mutant("reclaim: never forgets the dead", RECLAIM, "-tonumber(buried[i + 1]) <= now", "false"),
    Mutant(
        "reclaim: forgets at once to whom something may be brought",
        RECLAIM,
        "if linger_ms == 0 then",
        "if true then",
    ),
    Mutant(
        "reclaim: remembers to whom nothing can be brought",
        RECLAIM,
        "if linger_ms == 0 then",
        "if false then",
    ),
    Mutant(
        "reclaim: remembers nobody whose lease ran out",
        RECLAIM,
        '"ZADD", owners, -now - linger_ms, owner',
        '"ZADD", owners, -now, owner',
    ),
    Mutant(
        "reclaim: takes back any number of jobs",
        RECLAIM,
        "MOST_OWNERS, MOST_JOBS = 200, 64",
        "MOST_OWNERS, MOST_JOBS = 200, 1000",
    ),
    Mutant(
        "reclaim: looks at any number of the dead",
        RECLAIM,
        "MOST_OWNERS, MOST_JOBS = 200, 64",
        "MOST_OWNERS, MOST_JOBS = 1000, 64",
    ),
    Mutant(
        "reclaim: looks at the latest dead first",
        RECLAIM,
        '"ZREVRANGEBYSCORE", owners, "(0", "-inf"',
        '"ZRANGEBYSCORE", owners, "-inf", "(0"',
    ),
    Mutant(
        "reclaim: does not say that there is more",
        RECLAIM,
        'if sweep_is_due(owners) then reply[1] = "more" end',
    ),
    Mutant(
        "beat: does not say when the dead can be forgotten",
        BEAT,
        "if #buried > 0 then sweep_at(-tonumber(buried[2])) end",
    ),
    Mutant(
        "beat: does not say that a lease is too long",
        BEAT,
        "if has_endless_lease(owners) then sweep_at(now) end",
    ),
    Mutant(
        "reclaim: sweeps the dead only once",
        RECLAIM,
        "if empty_hands(buried[i]) == 0 and",
        'if redis.call("LLEN", prefix .. "processing:" .. buried[i]) == 0 and',
    ),
    Mutant("reclaim: drops canceled payloads", RECLAIM, 'elseif status == "canceled" or not', "elseif not"),
    Mutant(
        "reclaim: believes in endless leases",
        RECLAIM,
        'owners, now + LONGEST_LEASE_MS, "+inf", "LIMIT"',
        'owners, 2^50, "+inf", "LIMIT"',
    ),
    Mutant(
        "reclaim: leaves the jobs in the dead hands", RECLAIM, 'redis.call("LREM", processing, 1, payload)'
    ),
    Mutant(
        "promote: any delayed job comes early on request",
        PROMOTE,
        'f[1] and string.match(f[1], " (%d+)$") == (f[2] or "0")',
        "true",
    ),
    Mutant(
        "promote: what was given back waits on", PROMOTE, '"XX", now, ARGV[i]', '"XX", "NX", now, ARGV[i]'
    ),
    Mutant("settle: what a burst gives back fails", FINISH, "if gives_back then", "if false then"),
    Mutant("settle: a burst starts the clock", FINISH, 'gives_back and "0" or', "false or"),
    Mutant(
        "settle: a burst's mark is taken for a time",
        FINISH,
        'or (first_ms == "0" and not gives_back)',
        "or false",
    ),
    Mutant("beat: every worker promotes", BEAT, "if is_mine then return left", "if true then return left"),
    Mutant(
        "beat: nobody takes over from who promotes", BEAT, '"PX", math.ceil(lease_ms / 2)', '"PX", 2 ^ 40'
    ),
    Mutant("beat: forgets who promotes", BEAT, 'redis.call("SET", prefix .. "promoter"', 'redis.call("ECHO"'),
    Mutant(
        "beat: leaves what is overdue", BEAT, "return left and left < -OVERDUE_MS and 0 or -2", "return -2"
    ),
    Mutant("beat: calls everything overdue", BEAT, "left < -OVERDUE_MS", "left < 0"),
    Mutant("beat: breaks with an index", BEAT, 'redis.pcall("ZRANGE"', 'redis.call("ZRANGE"'),
    Mutant(
        "maintain: hands a queue to everybody",
        MAINTAIN,
        'redis.call("ZADD", KEYS[1], now + tonumber(ARGV[2]), name)',
    ),
    Mutant("maintain: comes early", MAINTAIN, '"-inf", now, "LIMIT"', '"-inf", "+inf", "LIMIT"'),
    Mutant("maintain: hands out any number", MAINTAIN, "tonumber(ARGV[1]))) do", "1000)) do"),
    Mutant(
        "maintain: does not say when to come again",
        MAINTAIN,
        "if first[2] then reply[1]",
        "if false then reply[1]",
    ),
    Mutant(
        "maintain: has what is asked for done again and again", MAINTAIN, 'KEYS[1], "NX", now', "KEYS[1], now"
    ),
    Mutant("maintain: stops at maxmemory", MAINTAIN, 'redis.call("ZREM", KEYS[1], "")'),
    Mutant("promote: leaves the entry", PROMOTE, '  redis.call("ZREM", scheduled, id)\n'),
    Mutant(
        "promote: trims any number at once",
        PROMOTE,
        "local MOST_TRIMMED = 1000",
        "local MOST_TRIMMED = 10000",
    ),
    Mutant(
        "promote: does not trim",
        PROMOTE,
        'if count > 0 then redis.call("ZREMRANGEBYRANK", index, 0, count - 1) end',
    ),
    Mutant("promote: does not say that there is more to trim", PROMOTE, "left == 0 and 1 or 0", "0"),
    Mutant(
        "promote: does not say that a sweep is due",
        PROMOTE,
        'sweep_is_due(prefix .. "owners") and 1 or 0',
        "0",
    ),
    Mutant("promote: leaves the payload", PROMOTE, 'redis.call("DEL", prefix .. "payload:" .. id)'),
    Mutant(
        "promote: comes early",
        PROMOTE,
        'scheduled, "-inf", now, "LIMIT"',
        'scheduled, "-inf", "+inf", "LIMIT"',
    ),
    Mutant(
        "cancel: leaves no tombstone",
        CANCEL,
        'redis.call("HSET", job, "status", "canceled", "ended_ms", now)',
        'redis.call("DEL", job)',
    ),
    Mutant("cancel: does not mark a started job", INTERRUPT, 'redis.call("HSETNX", job, "stop", status)'),
    Mutant("cancel: says nothing to the worker", INTERRUPT, 'redis.pcall("PUBLISH"', 'redis.pcall("ECHO"'),
    Mutant("stop: marks what does not run", STOP, 'if status == "started" then', "if status then"),
    Mutant(
        "cancel: does not tell who waits",
        CANCEL,
        "tell(prefix, id, f[2])\n  if f[2] and",
        "if f[2] and",
    ),
    Mutant("requeue: resets the run", REQUEUE, '"HDEL", job, "attempts"', '"HDEL", job, "run", "attempts"'),
    Mutant("requeue: keeps the losses", REQUEUE, '"attempts", "lost",', '"attempts",'),
    Mutant(
        "requeue: runs live jobs twice",
        REQUEUE,
        'if not is_ended(status) and status ~= "unknown" then return status end',
    ),
    Mutant("requeue: keeps the ttl", REQUEUE, 'redis.call("PERSIST", job)'),
    Mutant("requeue: acts twice when sent twice", REQUEUE, 'if f[2] == nonce then return "requeued" end'),
    Mutant(
        "enqueue: does not look at the nonce", ENQUEUE, 'if (old[2] or "") == nonce then', "if false then"
    ),
    Mutant(
        "enqueue: replaces live jobs",
        ENQUEUE,
        "if not is_ended(status) then return 0 end",
    ),
    Mutant(
        "enqueue: takes the id of a canceled job too early",
        ENQUEUE,
        'if status == "canceled" and',
        "if false and",
    ),
    Mutant("enqueue: resets the run of a replaced id", ENQUEUE, "if run then fields", "if false then fields"),
    Mutant("enqueue: answers with a doomed job", ENQUEUE, "(old[4] or old[5]) and -1 or 0", "0"),
    Mutant("enqueue: answers with an expired job", ENQUEUE, "tonumber(old[6]) <= now and -1 or 0", "0"),
    Mutant("enqueue: refuses a part of a call", ENQUEUE, "if reply[1] < 0 then return replies end", ""),
    Mutant("enqueue: keeps no sum", ENQUEUE, '"sum", redis.sha1hex(payload)', '"su", ""'),
    Mutant(
        "claim: takes an older payload", CLAIM, "if f[4] and is_stale(f[4], payload) then", "if false then"
    ),
    Mutant(
        "claim: adopts an older payload",
        CLAIM,
        "local stale = is_stale(job.sum, payload)",
        "local stale = false",
    ),
    Mutant(
        "claim: takes the payload beside an older one for it",
        CLAIM,
        "known[id] = not stale",
        "known[id] = true",
    ),
    Mutant("settle: keeps an older payload", FINISH, "and not is_stale(sum, payload)", "and false"),
    Mutant("reclaim: takes an older payload back", RECLAIM, "if is_stale(f[11], payload) then return end"),
    Mutant("promote: forgets failed jobs", PROMOTE, 'status == "finished" and redis', "redis"),
    Mutant("promote: forgets what is kept for ever", PROMOTE, '"-inf", "(+inf")', '"-inf", "+inf")'),
    Mutant(
        "cancel: leaves a payload", CANCEL, "tonumber(f[3]) == 0 and (not f[2] or f[2] == IN_DOUBT)", "false"
    ),
    Mutant("enqueue: shows errors of a life before", ENQUEUE, "if #blemishes > 0 then", "if false then"),
    Mutant("cancel: keeps an older payload", CANCEL, " or is_stale(f[6], payload)"),
    Mutant(
        "enqueue: forgets that it was sent again",
        ENQUEUE,
        "ipairs(doubted) do",
        "ipairs({}) do",
    ),
    Mutant("enqueue: runs what may have run", ENQUEUE, "if ARGV[2] and codes[i] == 1 then", "if false then"),
    Mutant("enqueue: forgets a part of a call", ENQUEUE, "#doubted > 0 and 2 or -1", "-1"),
    Mutant(
        "cancel: forgets a call that was sent again",
        CANCEL,
        'redis.call("HSET", job, "waiters", IN_DOUBT)',
        "",
    ),
    Mutant("enqueue: does not ring", ENQUEUE, " == #waiting then ring(prefix) end", " == 0 then end"),
    Mutant(
        "enqueue: does not ring at the front",
        ENQUEUE,
        "payload) == 1 then ring(prefix) end",
        "payload) == 0 then end",
    ),
    Mutant(
        "enqueue: does not ring for a single job",
        ENQUEUE,
        "jobs[2]) == 1 then ring(prefix) end",
        "jobs[2]) == 0 then end",
    ),
    Mutant(
        "enqueue: a single job overwrites what lives",
        ENQUEUE,
        'if call("EXISTS", job) == 0 then',
        "if true then",
    ),
    Mutant(
        "enqueue: is let through at maxmemory", ENQUEUE, 'call("HSET", job, "status", status) -- a', "-- a"
    ),
    Mutant(
        "all scripts: stop at maxmemory",
        f"{LUA}/lib/room.lua",
        'redis.call("ZREM", string.sub(KEYS[1], 1, -6) .. "owners", "")',
    ),
    Mutant("id_of in Lua: reads long ids", f"{LUA}/lib/ids.lua", "len <= 255", "len <= 65535"),
    Mutant("id_of in Lua: reads beyond the end", f"{LUA}/lib/ids.lua", " and #payload >= from + len - 1"),
    Mutant(
        "id_of in Python: reads long ids",
        "minirq/protocol/payload.py",
        "MAX_ID_BYTES = 255",
        "MAX_ID_BYTES = 256",
    ),
]


def mutate(copy: Path, mutant: Mutant) -> None:
    file = copy / mutant.file
    text = file.read_text("utf-8")
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {text.count(mutant.old)} times in {mutant.file}, not once: {mutant.old}")
    file.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def first_failure(mutant: Mutant | None, pytest_args: list[str]) -> str | None:
    """Run the tests on a copy; return the name of the first one that fails."""
    with tempfile.TemporaryDirectory(prefix="minirq-mutant-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        for part in ("minirq", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant:
            mutate(copy, mutant)
        environment = {
            **os.environ,
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MINIRQ_PROPERTY_SHRINK": "0",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *pytest_args]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    found = FIRST_FAILURE.search(done.stdout)
    if done.returncode != 1 or not found:
        sys.exit(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return found[1]


def main() -> int:
    parser = argparse.ArgumentParser("bin/mutants", description="Break the protocol, and see the tests fail.")
    parser.add_argument("--only", default="", metavar="WORDS", help="mutants with these words in their names")
    parser.add_argument(
        "tests", nargs="*", default=TESTS, metavar="TEST", help="default: all of the protocol"
    )
    given = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if given.only in mutant.name]
    if not mutants:
        parser.error(f"no mutant is named {given.only!r}")
    tests = given.tests
    with tempfile.TemporaryDirectory() as folder:  # all texts are found, before anything runs
        for mutant in mutants:
            shutil.copytree(ROOT / LUA, Path(folder) / LUA, dirs_exist_ok=True)
            shutil.copy(ROOT / "minirq/protocol/payload.py", Path(folder) / "minirq/protocol")
            mutate(Path(folder), mutant)
    if failed := first_failure(None, tests):
        sys.exit(f"{failed} fails without any mutant")
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, caught in zip(mutants, pool.map(lambda m: first_failure(m, tests), mutants), strict=True):
            print(f"{mutant.name:56} {f'caught by {caught}' if caught else 'SURVIVED'}", flush=True)
            survivors += caught is None
    print(f"{len(mutants)} mutants, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
