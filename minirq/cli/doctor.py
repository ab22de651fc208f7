"""`minirq doctor`: what is wrong, and what to do."""

from __future__ import annotations

import click

from minirq.cli.options import config_options, open_store
from minirq.cli.table import json_line
from minirq.connection import Config, safe_url
from minirq.inspect.health import look

_COLORS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command()
@config_options
@click.pass_context
def doctor(ctx: click.Context, config: Config, as_json: bool) -> None:
    """Check Redis, the workers and the queues, and say what to do about problems. This changes nothing.

    Exits with 1 if anything is bad. If the database has many keys, this takes some seconds.
    """
    store = open_store(config, starts_server=False)
    found = look(store)
    is_bad = any(finding.mark == "bad" for finding in found)
    if as_json:
        click.echo(json_line({"is_bad": is_bad, "findings": found}))
        ctx.exit(int(is_bad))
    click.echo(safe_url(store.client))
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        mark = click.style(f"{finding.mark:<4}", fg=_COLORS[finding.mark])
        click.echo(f"{mark}  {finding.subject:<{width}}  {finding.text}")
        if finding.advice:
            click.echo(f"      {'':<{width}}  {finding.advice}")
    ctx.exit(int(is_bad))
