"""A web application whose workers find the most frequent words of texts.

    minirq worker texts --path examples/fastapi_app                    # in one terminal
    uvicorn app:app --app-dir examples/fastapi_app                     # in another
    curl localhost:8000/jobs -H 'content-type: application/json' -d '{"text": "to be or not to be"}'

It needs fastapi and uvicorn. Only the worker runs the functions of tasks.py; the application enqueues jobs,
reads their status and waits for them, for any number of requests at once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from tasks import most_frequent

from minirq.aio import AsyncJob, AsyncQueue
from minirq.exceptions import InvalidJobOperation, JobCanceledError, JobFailedError, NoSuchJobError

#: the longest time that a request waits, seconds
LONGEST_WAIT = 30


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make one queue for the lifetime of the application. It connects at its first use."""
    async with AsyncQueue("texts") as queue:
        app.state.queue = queue
        yield


app = FastAPI(title="texts", lifespan=lifespan)


def queue_of(request: Request) -> AsyncQueue:
    return request.app.state.queue  # type: ignore[no-any-return]


async def job_of(job_id: str, queue: Annotated[AsyncQueue, Depends(queue_of)]) -> AsyncJob[Any]:
    job = await queue.fetch_job(job_id)
    if job is None:
        raise HTTPException(404, f"no job has the id {job_id}: it never existed, or its record has expired")
    return job


TheQueue = Annotated[AsyncQueue, Depends(queue_of)]
TheJob = Annotated[AsyncJob[Any], Depends(job_of)]


class Text(BaseModel):
    text: str
    count: int = 3


@app.post("/jobs", status_code=202)
async def create(text: Text, queue: TheQueue, response: Response) -> dict[str, str]:
    """Enqueue a job and return its URL."""
    job = await queue.enqueue(most_frequent, text.text, text.count)
    response.headers["location"] = f"/jobs/{job.id}"
    return {"id": job.id}


@app.get("/jobs/{job_id}")
async def show(job: TheJob) -> dict[str, Any]:
    """Return the status of a job, without waiting."""
    return await described(job)


@app.get("/jobs/{job_id}/result")
async def result(
    job: TheJob, response: Response, timeout: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 10
) -> dict[str, Any]:
    """Wait for a job's end; 202 if it has not ended within `timeout` seconds: ask again."""
    try:
        await job.wait(timeout)
    except TimeoutError:
        response.status_code = 202
    except (JobFailedError, JobCanceledError):
        pass  # the description contains the error
    except NoSuchJobError:
        raise HTTPException(404, f"job {job.id} was deleted") from None
    return await described(job)


@app.delete("/jobs/{job_id}", status_code=204)
async def cancel(job: TheJob) -> None:
    """Cancel a job."""
    try:
        await job.cancel()
    except InvalidJobOperation as error:
        raise HTTPException(409, str(error)) from None


@app.post("/batches")
async def batch(texts: list[Text], queue: TheQueue) -> StreamingResponse:
    """Enqueue many jobs and stream their results as they end, a line of JSON for each."""
    calls = (queue.prepare_data(most_frequent, [text.text, text.count]) for text in texts)
    jobs = await queue.enqueue_many(calls)
    places = {job.id: place for place, job in enumerate(jobs)}

    async def lines() -> AsyncIterator[str]:
        # a client that disconnects cancels this, and the waiting ends
        async for job in queue.as_completed(jobs, timeout=LONGEST_WAIT):
            yield json.dumps({"text": places[job.id], **await described(job)}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def described(job: AsyncJob[Any]) -> dict[str, Any]:
    status = await job.get_status()
    errors = await job.errors() if status == "failed" else []
    return {
        "id": job.id,
        "status": status,
        "result": await job.return_value(refresh=False),
        "error": errors[0].summary if errors else None,
    }
