"""Workers: how jobs are claimed and run. docs/architecture.md shows how these files work together.

worker       what Python code starts: `Worker` with child processes, `SimpleWorker` without; settings
supervisor   keeps child processes running and ends those that hang; process: one of them; child: its inside
runner       runs jobs one at a time; concurrent: many at once
fetcher      claims jobs and settles outcomes; link: its connection to Redis
executor     payload in, outcome out; interrupts: deadlines and stops; cleanup: between jobs; job_log
scoreboard   memory in which a child shows its supervisor what it runs
maintenance  heartbeat, delayed jobs, trimming; recovery: jobs of dead processes; cancellation: stop requests;
             fleet: queues without workers; tasks: the shape of all these
"""

from minirq.worker.worker import SimpleWorker, Worker

__all__ = ["SimpleWorker", "Worker"]
