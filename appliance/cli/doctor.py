"""`sealift doctor`: whether this machine can do what it is for."""

from collections.abc import Iterator

import typer

from appliance.actions.doctor import Finding
from appliance.actions.doctor import doctor as examine
from appliance.cli import context as shared
from appliance.cli.marks import marked
from appliance.errors import PreflightError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("doctor")
    def doctor(context: typer.Context) -> None:
        """Look at room, memory, processor, clock, names and modes; --json adds the machine's facts for a sender."""
        own = shared.of(context)
        findings, machine = examine(own.config, clock=own.clock)
        is_good = all(finding.is_good for finding in findings)
        facts = {"findings": [one.to_json() for one in findings], "machine": machine.to_json(), "good": is_good}
        own.result(facts, "\n".join(_lines(findings)))
        if not is_good:
            raise typer.Exit(PreflightError.exit_code)


def _lines(findings: list[Finding]) -> Iterator[str]:
    for one in findings:
        yield marked(one.name, one.text, is_good=one.is_good)
        if not one.is_good:
            yield f"    fix: {one.fix}"
