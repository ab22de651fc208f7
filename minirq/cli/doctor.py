"""`minirq doctor`: what is wrong, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from minirq.cli.options import config_options, open_store
from minirq.connection import Config, safe_url
from minirq.inspect.health import look

_COLORS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
@click.pass_context
def doctor(ctx: click.Context, config: Config, as_json: bool) -> None:
    """Look at the server, the workers and the queues for what is wrong. It changes nothing.

    Exits with 1 if anything is bad. In a database of many keys the search for lost jobs takes some seconds.
    """
    store = open_store(config, starts_server=False)
    found = look(store)
    is_bad = any(finding.mark == "bad" for finding in found)
    if as_json:
        click.echo(json.dumps({"is_bad": is_bad, "findings": [asdict(finding) for finding in found]}))
        ctx.exit(int(is_bad))
    click.echo(safe_url(store.client))
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        mark = click.style(f"{finding.mark:<4}", fg=_COLORS[finding.mark])
        click.echo(f"{mark}  {finding.subject:<{width}}  {finding.text}")
        if finding.advice:
            click.echo(f"      {'':<{width}}  {finding.advice}")
    ctx.exit(int(is_bad))
