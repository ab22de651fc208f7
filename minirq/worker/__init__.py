"""What takes jobs and runs them: a supervisor with its children and its maintenance, or a simple worker.

worker      what Python code starts
supervisor  keeps child processes running and ends those that hang; runs no user code
maintenance heartbeat, delayed jobs, trimming; recovery: jobs of the dead; cancellation: requests to stop;
            fleet: queues without workers; tasks: the shape of all that
child       a process; loop: claim, run, settle; executor: runs; link: talks to Redis
crew        the loop of a process that runs many jobs at once; porter: claims and settles for it
board       what a child shows its supervisor
"""

from minirq.worker.worker import SimpleWorker, Worker

__all__ = ["SimpleWorker", "Worker"]
