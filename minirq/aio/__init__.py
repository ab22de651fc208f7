"""Queues and jobs for asyncio: the methods of `Queue` and `Job`, as coroutines.

from minirq.aio import AsyncQueue
async with AsyncQueue() as queue:
    job = await queue.enqueue("myapp.tasks.count_words", "moby.txt")
"""

from minirq.aio.job import AsyncJob
from minirq.aio.queue import AsyncQueue

__all__ = ["AsyncJob", "AsyncQueue"]
