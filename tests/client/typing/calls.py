"""Right and wrong calls. Each line that a type checker must refuse says so; see test_types.py."""

from __future__ import annotations

from minirq import Job, Queue, Retry


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


queue = Queue()

a: Job[int] = queue.enqueue(add, 1)
b: Job[int] = queue.enqueue(add, 1, b=2)
c: Job[str] = queue.enqueue(greet, "Ann")
d: Job[None] = queue.enqueue(nothing)
e: Job[bytes] = queue.enqueue(Task().method, 1)
f: Job[float] = queue.enqueue(Task.static, 1)
g: Job[bool] = queue.enqueue(Task.of_class, 1)
number: int = a.wait(timeout=1)
text: str = c.wait()
value: int | None = a.result

queue.enqueue(add, 1, job_timeout="10m", retry=Retry(3), job_id="x", at_front=True)
queue.enqueue(add, args=(1,), kwargs={"b": 2}, result_ttl=5)
queue.enqueue(add, 1, on_worker_lost="fail")
queue.enqueue(add, 1, on_worker_lost=5)
queue.enqueue("myapp.tasks.anything", 1, option=2)

queue.enqueue(add)  # wrong: a is missing
queue.enqueue(add, "one")  # wrong: not an int
queue.enqueue(add, 1, 2, 3)  # wrong: too many
queue.enqueue(add, c=1)  # wrong: no such argument
queue.enqueue(greet, 5)  # wrong: not a str
queue.enqueue(Task().method, "x")  # wrong: not an int
queue.enqueue(nothing, 1)  # wrong: takes nothing
queue.enqueue(add, 1, job_timeout=None)  # wrong: -1 is no limit
queue.enqueue(add, 1, retry=3)  # wrong: a Retry
queue.enqueue(add, 1, on_worker_lost="ignore")  # wrong: "retry", "fail" or a number
queue.enqueue(5)  # wrong: not a function
h: Job[str] = queue.enqueue(add, 1)  # wrong: its result is an int
wrong: str = a.wait()  # wrong: its result is an int

texts: list[str] = queue.wait_many([c])
numbers: list[str] = queue.wait_many([a])  # wrong: its result is an int

again: Job[int] = a.requeue()
known: bool = a.is_finished and queue.is_empty()
position: int | None = queue.get_job_position(a)
waiting: list[str] = queue.get_job_ids(offset=1, length=2)
made: list[Job[str]] = queue.enqueue_many([queue.prepare_data(greet, ("Ann",), ttl=5)])
queue.enqueue_call(add, args=(1,), timeout="10m").cancel()
queue.enqueue_call(add, timeout=[])  # wrong: not a duration
Queue.prepare_data(add, retry=3)  # wrong: a Retry
queue.get_jobs("x")  # wrong: not an int
a.cancel(1)  # wrong: takes nothing
count: str = queue.count  # wrong: an int
