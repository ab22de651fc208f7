"""`minirq explain`: why a job does not run."""

from __future__ import annotations

import json

import click

from minirq.cli.options import config_options, open_store
from minirq.connection import Config
from minirq.inspect.explain import explain as explain_job
from minirq.text import safe_text


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_options
def explain(config: Config, job_id: str, as_json: bool) -> None:
    """Say why the job ID does not run, and what to do about it.

    It changes nothing and runs no code of the application.
    """
    found = explain_job(open_store(config, starts_server=False), job_id)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    call = f" ({safe_text(found.func)})" if found.func else ""
    click.echo(
        f"Job {safe_text(found.id)}{call} is {safe_text(found.status)} in queue {safe_text(found.queue)}."
    )
    for reason in found.reasons:
        click.echo(reason.text)
        if reason.advice:
            click.echo(f"  {reason.advice}")
