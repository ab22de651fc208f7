"""Which Redis, and how to reach it. Knows nothing of jobs, queues or keys.

`config` reads the settings, `embedded` runs a private server, `connect` makes the clients.
"""

from minirq.connection.client import check_server
from minirq.connection.config import Config, load_config
from minirq.connection.connect import connect, derive, safe_url
from minirq.embedded.server import Server, ensure_server, server_status, stop_server

__all__ = [
    "Config", "Server", "check_server", "connect", "derive", "ensure_server", "load_config", "safe_url",
    "server_status", "stop_server",
]  # fmt: skip
