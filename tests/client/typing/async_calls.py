"""Right and wrong calls under asyncio; as in calls.py, each line that must be refused says so."""

# ruff: noqa: F841

from __future__ import annotations

from minirq import Retry
from minirq.aio import AsyncJob, AsyncQueue


def add(a: int, b: int = 0) -> int:
    return a + b


async def greet(name: str) -> str:
    return name


def nothing() -> None: ...


class Task:
    def method(self, a: int) -> bytes:
        return bytes(a)

    @staticmethod
    def static(a: int) -> float:
        return a

    @classmethod
    def of_class(cls, a: int) -> bool:
        return bool(a)


queue = AsyncQueue()


async def main() -> None:
    a: AsyncJob[int] = await queue.enqueue(add, 1)
    b: AsyncJob[int] = await queue.enqueue(add, 1, b=2)
    c: AsyncJob[str] = await queue.enqueue(greet, "Ann")
    d: AsyncJob[None] = await queue.enqueue(nothing)
    e: AsyncJob[bytes] = await queue.enqueue(Task().method, 1)
    f: AsyncJob[float] = await queue.enqueue(Task.static, 1)
    g: AsyncJob[bool] = await queue.enqueue(Task.of_class, 1)
    number: int = await a.wait(timeout=1)
    text: str = await c.wait()
    value: int | None = await a.result()

    await queue.enqueue(add, 1, job_timeout="10m", retry=Retry(3), job_id="x", at_front=True)
    await queue.enqueue(add, args=(1,), kwargs={"b": 2}, result_ttl=5)
    await queue.enqueue("myapp.tasks.anything", 1, option=2)

    await queue.enqueue(add)  # wrong: a is missing
    await queue.enqueue(add, "one")  # wrong: not an int
    await queue.enqueue(add, 1, 2, 3)  # wrong: too many
    await queue.enqueue(add, c=1)  # wrong: no such argument
    await queue.enqueue(greet, 5)  # wrong: not a str
    await queue.enqueue(Task().method, "x")  # wrong: not an int
    await queue.enqueue(nothing, 1)  # wrong: takes nothing
    await queue.enqueue(add, 1, job_timeout=None)  # wrong: -1 is no limit
    await queue.enqueue(add, 1, retry=3)  # wrong: a Retry
    await queue.enqueue(5)  # wrong: not a function
    h: AsyncJob[str] = await queue.enqueue(add, 1)  # wrong: its result is an int
    wrong: str = await a.wait()  # wrong: its result is an int
    none: AsyncJob[int] = queue.enqueue(add, 1)  # wrong: it has to be awaited
    texts: list[str] = await queue.wait_many([c])
    numbers: list[str] = await queue.wait_many([a])  # wrong: its result is an int
    async for job in queue.as_completed([a]):
        one: int = await job.wait()
    again: AsyncJob[int] = await a.requeue()
    known: bool = await a.is_finished() and await queue.is_empty()
    position: int | None = await queue.get_job_position(a)
    made: list[AsyncJob[str]] = await queue.enqueue_many([queue.prepare_data(greet, ("Ann",), ttl=5)])
    await (await queue.enqueue_call(add, args=(1,), timeout="10m")).cancel()
    await queue.enqueue_call(add, timeout=[])  # wrong: not a duration
    await queue.get_jobs("x")  # wrong: not an int
    await a.cancel(1)  # wrong: takes nothing
    count: int = queue.count()  # wrong: it has to be awaited
