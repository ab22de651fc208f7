"""`minirq server`: start, stop and show the embedded server."""

from __future__ import annotations

import click

from minirq.cli.table import json_line
from minirq.connection import Config, Server, ensure_server, load_config, server_status, stop_server


@click.group()
def server() -> None:
    """Start, stop or show the embedded Redis server.

    minirq starts it when no Redis is configured. It keeps its data in MINIRQ_HOME (default:
    ~/.local/state/minirq) and runs until it is stopped.
    """


@server.command()
def start() -> None:
    """Start the server if it is not running."""
    config = load_config()
    running = ensure_server(config.home)
    click.echo(f"{'Started' if running.started else 'Already running'}: {_line(running)}")
    if running.copy:
        click.echo(f"It converts the data that another product wrote. A copy is in {running.copy}")
    _mention_configured_url(config)


@server.command()
def stop() -> None:
    """Stop the server. Its data stays."""
    home = load_config().home
    click.echo(f"Stopped the server of {home}." if stop_server(home) else f"No server was running in {home}.")


@server.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the server. Exits with 1 if none is running."""
    config = load_config()
    running = server_status(config.home)
    if as_json:
        click.echo(json_line(_facts(running, config)))
    elif running:
        click.echo(f"Running: {_line(running)}\n  url     {running.url}\n  data    {running.home}")
        _mention_configured_url(config)
    else:
        click.echo(f"No server is running in {config.home}.")
    ctx.exit(0 if running else 1)


def _line(running: Server) -> str:
    return f"{running.binary.name} {running.version}, pid {running.pid}, {running.socket}"


def _mention_configured_url(config: Config) -> None:
    if config.url is not None:
        click.echo("Note: a Redis URL is configured, so minirq uses that one and not this server.", err=True)


def _facts(running: Server | None, config: Config) -> dict[str, object]:
    if running is None:
        return {"running": False, "home": config.home}
    names = ("home", "url", "pid", "version", "binary")
    return {"running": True, **{name: getattr(running, name) for name in names}}
