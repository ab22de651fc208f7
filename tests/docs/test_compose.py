"""The container files: what can be checked without a container engine."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import yaml
from click.testing import CliRunner
from support import ROOT
from support.waits import until

from minirq.cli.main import cli
from minirq.connection import connect
from minirq.embedded.server import find_binaries

COMPOSE = ("docker-compose.yml", "docker-compose.valkey.yml")


def read(name: str) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"]
    return services


@pytest.mark.parametrize("name", COMPOSE)
def test_the_server_keeps_jobs(name: str) -> None:
    command = shlex.join(read(name)["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_redis_is_healthy_and_private_and_kept() -> None:
    redis = read("docker-compose.yml")["redis"]
    assert redis["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in redis["ports"])
    assert redis["volumes"] == ["redis-data:/data"]
    assert redis["restart"] == read("docker-compose.yml")["worker"]["restart"] == "unless-stopped"


def test_the_worker_waits_for_redis_and_has_time_to_stop() -> None:
    worker = read("docker-compose.yml")["worker"]
    assert worker["depends_on"]["redis"]["condition"] == "service_healthy"
    assert int(worker["stop_grace_period"].rstrip("s")) > 8
    assert (ROOT / worker["build"] / "Dockerfile").exists()


@pytest.mark.parametrize("name", COMPOSE)
def test_redis_has_a_password_that_no_command_line_shows(name: str) -> None:
    server = read(name)["redis"]
    script = server["command"][-1]
    assert 'requirepass "%s"' in script
    assert "$$REDISCLI_AUTH" in script  # the container's variable, not its value
    assert "exec " in script  # signals reach the server
    assert "${" not in shlex.join(server["command"])
    assert read("docker-compose.yml")["redis"]["environment"] == {
        "REDISCLI_AUTH": "${REDIS_PASSWORD:?copy .env.example to .env and set a password}"
    }


@pytest.mark.parametrize("script", [read(name)["redis"]["command"][-1] for name in COMPOSE], ids=COMPOSE)
def test_the_server_takes_its_settings_and_its_password(script: str, home: Path) -> None:
    home.mkdir()
    server = home / re.findall(r"exec (\S+)", script)[0]
    server.symlink_to(find_binaries()[0].path)
    mine = {"$$": "$", "/tmp/auth.conf": str(home / "auth.conf"), "/data": str(home)}
    for there, here in mine.items():
        script = script.replace(there, here)
    command = ["sh", "-c", f"{script} --port 0 --unixsocket {home}/s"]
    environ = {"PATH": f"{home}:/usr/bin:/bin", "REDISCLI_AUTH": "s3cret", "LC_ALL": "C"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            until((home / "s").exists)
            shown = Path(f"/proc/{process.pid}/cmdline")
            assert not shown.exists() or b"s3cret" not in shown.read_bytes()
            with connect(f"unix://:s3cret@{home}/s") as client:
                assert client.config_get("appendonly") == {"appendonly": "yes"}
            with connect(f"unix://{home}/s") as client, pytest.raises(redis_py.AuthenticationError):
                client.ping()
        finally:
            process.terminate()


def test_images_are_pinned_and_containers_have_no_rights_to_spare() -> None:
    images = [read(name)["redis"]["image"] for name in COMPOSE]
    images += re.findall(r"^FROM (\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images)
    for service in read("docker-compose.yml").values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert [read(name)["redis"]["user"] for name in COMPOSE] == ["redis", "valkey"]


def test_every_variable_is_in_the_example_and_has_a_default_or_says_what_to_do() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+):[-?][^}]+\}", text))
    assert used == set(re.findall(r"\$\{(\w+)", text))
    assert used == set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.M))


def test_the_worker_command_and_its_variables_exist() -> None:
    command = read("docker-compose.yml")["worker"]["command"]
    text = CliRunner().invoke(cli, [command[0], "--help"]).output
    assert all(word in text for word in command if word.startswith("-"))
    assert "--processes" in text  # MINIRQ_WORKER_PROCESSES


def test_what_the_image_copies_is_there_and_is_not_ignored() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.M):
        for source in line.split():
            assert (ROOT / source).exists(), source
            assert Path(source).parts[0] in kept, source


def test_the_image_is_not_root_and_takes_signals() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = re.findall(r"^USER (\w+)$", dockerfile, re.M)
    assert user == ["minirq"]
    assert f"useradd --create-home --uid 10001 {user[0]}" in dockerfile
    assert re.search(r'^ENTRYPOINT \["minirq"\]$', dockerfile, re.M)
    assert "MINIRQ_EMBEDDED=0" in dockerfile
