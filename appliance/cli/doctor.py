"""`sealift doctor`: whether this machine can do what it is for, and the repairs that are safe."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from appliance.actions import mend as mending
from appliance.actions.doctor import Finding
from appliance.actions.doctor import doctor as examine
from appliance.actions.mend import Mended
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.marks import marked
from appliance.cli.opened import ledger_of
from appliance.errors import PreflightError
from appliance.verify.fit import Machine
from media.errors import SealiftError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("doctor")
    def doctor(
        context: typer.Context,
        mend: Annotated[bool, typer.Option("--mend", help="Do the repairs that are safe, then look again.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="With --mend: say what would be done.")] = False,
    ) -> None:
        """Look at disks, memory, processor, GPU, clock, network, names, modes and services.

        --json adds the machine's facts for a sender. Ends with 52 when something is wrong.
        """
        own = shared.of(context)
        findings, machine = _examined(own)
        mended: tuple[Mended, ...] = ()
        if mend and not dry_run:
            mended = mending.mend(own.config, findings, clock=own.clock)
            if mended:
                findings, machine = _examined(own)
        is_good = all(finding.is_good is not False for finding in findings)
        plan = mending.planned(findings) if mend and dry_run else ()
        facts = {
            "findings": [one.to_json() for one in findings],
            "machine": machine.to_json(),
            "good": is_good,
            "mended": [one.to_json() for one in mended],
            "would_mend": [list(one) for one in plan],
        }
        lines = [*_mended(mended), *(f"  would {repair} {subject}" for repair, subject in plan), *_lines(findings)]
        own.result(facts, "\n".join(lines))
        if not is_good:
            raise typer.Exit(PreflightError.exit_code)


def _examined(own: Context) -> tuple[list[Finding], Machine]:
    with ExitStack() as stack:
        ledger = None
        with suppress(SealiftError):  # before the first start there is none
            ledger = stack.enter_context(ledger_of(own))
        return examine(own.config, clock=own.clock, ledger=ledger)


def _mended(mended: Iterable[Mended]) -> Iterator[str]:
    for one in mended:
        yield marked("mended", f"{one.repair} {one.subject}" + (f": {one.why}" if one.why else ""), is_good=one.is_done)


def _lines(findings: list[Finding]) -> Iterator[str]:
    for one in findings:
        yield marked(one.name, one.text, is_good=one.is_good)
        if one.is_good is not True:
            for label, words in (("why", one.why), ("fix", one.fix)):
                if words and not (label == "why" and one.is_good is None):
                    yield f"    {label}: {words}"
