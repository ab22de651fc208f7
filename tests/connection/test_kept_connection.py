"""The connection that is kept at hand: it is as good as one from the pool, and nobody else misses it."""

from __future__ import annotations

import os
import sys

import jobs
import pytest
import redis as redis_py

from minirq import Queue
from minirq.connection.client import KeptConnection


@pytest.fixture
def connections(redis: redis_py.Redis) -> KeptConnection:
    return KeptConnection(redis.connection_pool)


def test_a_connection_is_kept_at_hand(connections: KeptConnection) -> None:
    first = connections.take()
    connections.give_back(first)
    again = connections.take()
    assert again is first
    other = connections.take()
    assert other is not first  # each is used by one at a time
    connections.give_back(first)
    connections.give_back(other)


def test_a_connection_that_was_cut_meanwhile_is_opened_anew(
    redis: redis_py.Redis, connections: KeptConnection
) -> None:
    connection = connections.take()
    connection.send_command("CLIENT", "ID")
    number = connection.read_response()
    connections.give_back(connection)
    redis.client_kill_filter(_id=number)
    again = connections.take()
    again.send_command("CLIENT", "ID")
    assert again.read_response() != number
    connections.give_back(again)


def test_a_connection_whose_descriptor_is_gone_is_opened_anew(connections: KeptConnection) -> None:
    connection = connections.take()
    connection.send_command("PING")
    connection.read_response()
    connections.give_back(connection)
    os.close(connection._sock.detach())
    again = connections.take()
    again.send_command("PING")
    assert again.read_response() in (b"PONG", "PONG")
    connections.give_back(again)


def test_queues_that_come_and_go_leave_no_connections_behind(redis_url: str) -> None:
    client = redis_py.Redis.from_url(redis_url)
    client.ping()
    before = len(client.client_list())
    for n in range(20):
        Queue(connection=client).enqueue(jobs.add, n)
    assert len(client.client_list()) <= before + 1


def test_after_an_error_of_the_connection_it_is_not_kept(connections: KeptConnection) -> None:
    connection = connections.take()
    connection.send_command("PING")  # nobody has read the answer
    connections.discard(connection)
    fresh = connections.take()
    fresh.send_command("ECHO", "mine")
    assert fresh.read_response() in (b"mine", "mine")


def test_a_small_pool_gets_each_connection_back(redis_url: str) -> None:
    pool = redis_py.ConnectionPool.from_url(redis_url, max_connections=1)
    client = redis_py.Redis(connection_pool=pool)
    Queue(connection=client).enqueue(jobs.add, 1)
    queue = Queue(connection=client)
    queue.enqueue(jobs.add, 2)
    assert client.ping()  # it would raise without a free connection
    pool.disconnect()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_has_a_connection_of_its_own(redis: redis_py.Redis) -> None:
    queue = Queue(connection=redis)
    queue.enqueue(jobs.add, 1)
    child = os.fork()
    if child == 0:
        try:
            for n in range(50):
                queue.enqueue(jobs.add, n)
        except BaseException:
            os._exit(1)
        os._exit(0)
    for n in range(50):
        queue.enqueue(jobs.add, n)
    assert os.waitpid(child, 0)[1] == 0
    assert queue.count == 101
