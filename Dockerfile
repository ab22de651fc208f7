# A worker: minirq with the application in /app. Build it with your own code copied there instead of the example's.
FROM python:3.12.12-slim-bookworm

RUN useradd --create-home --uid 10001 minirq
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY minirq ./minirq
RUN pip install --no-cache-dir . && rm -rf /src/*

WORKDIR /app
COPY examples/stdlib_report/tasks.py ./

USER minirq
# a container without a URL is a mistake: do not start a private server
ENV MINIRQ_EMBEDDED=0 PYTHONUNBUFFERED=1
# the exec form, so that signals reach the worker
ENTRYPOINT ["minirq"]
CMD ["worker", "--path", "/app"]
