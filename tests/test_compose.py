"""The container files: what can be checked without a container engine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from minirq.cli.main import cli

ROOT = Path(__file__).parent.parent
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


def test_every_variable_is_in_the_example_and_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+):-[^}]+\}", text))
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
