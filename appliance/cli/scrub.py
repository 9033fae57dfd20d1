"""`sealift scrub`: prove what the store holds, again, from its disk."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from appliance.actions import scrub as action
from appliance.actions.scrub import Aside, Options, ScrubFacts
from appliance.cli import context as shared
from appliance.errors import StoreDamagedError
from media.errors import UsageError

_RATE: Final = re.compile(r"([0-9]{1,9})(|[KMG]B|[KMG]iB)/s")
_UNITS: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("scrub")
    def scrub(
        context: typer.Context,
        serial: Annotated[int | None, typer.Option("--serial", min=1, help="Only this stored release.")] = None,
        since: Annotated[
            str, typer.Option("--since", metavar="DATE", help="Only releases received on that day (UTC) or later.")
        ] = "",
        rate: Annotated[str, typer.Option("--rate", metavar="50MB/s", help="Read no faster than this.")] = "",
        set_aside: Annotated[
            bool, typer.Option("--set-aside", help="Move bad objects to quarantine; needs --by and --reason.")
        ] = False,
        by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides to set objects aside.")] = "",
        reason: Annotated[str, typer.Option("--reason", help="Why; goes into the record.")] = "",
    ) -> None:
        """Read every stored object from the disk and hash it against its name; compare the releases' own files.

        A scrub of the whole store goes on where an interrupted one stopped. Nothing is changed or deleted.
        """
        own = shared.of(context)
        if (by or reason) and not set_aside:
            raise UsageError(what="--by and --reason say who sets objects aside", fix="give --set-aside too")
        options = Options(
            serial=serial,
            since=_day(since) if since else None,
            rate=_rate(rate) if rate else 0,
            aside=Aside(name=by, reason=reason) if set_aside else None,
        )
        with own.progress(in_bytes=True) as bar:
            task = bar.add_task("scrubbing", total=None)

            def show(done: int, total: int, path: str) -> None:
                bar.update(task, completed=done, total=total, description=path.rpartition("/")[2][:32])

            facts = action.scrub(own.config, clock=own.clock, progress=show, options=options)
            bar.update(task, description="done")
        own.result(facts.to_json(), _text(facts))
        if facts.figures.bad:
            raise typer.Exit(StoreDamagedError.exit_code)


def _text(facts: ScrubFacts) -> str:
    figures = facts.figures
    scope = "the whole store" if facts.whole else f"serial {', '.join(map(str, facts.serials)) or 'none'}"
    lines = [
        f"{scope}: {figures.objects} objects, {figures.bytes} bytes, {len(facts.serials)} releases; {figures.bad} bad"
    ]
    if facts.resumed:
        lines.append("  it went on where an earlier scrub had stopped")
    lines += [f"✗ {text}" for text in facts.texts]
    if left := figures.bad - len(facts.texts):
        lines.append(f"✗ {left} more, in --json and in the record")
    if figures.bad:
        lines += [
            "  why: the disk, its cable or the memory changed or lost what was stored; none of it is used unhashed",
            "  fix: check the disk, then `sealift receive VOLUME...` that release again from a full set;",
            "       a delta set that leaves these bytes out is refused",
        ]
    lines += [f"✗ version {digest[:12]} is damaged; no caller is routed to it" for digest in facts.hurt]
    lines += [f"  moved to quarantine: object {name[:12]}" for name in facts.aside]
    lines.append(f"  record {facts.sequence if facts.sequence >= 0 else 'waits for the ledger to start'}")
    return "\n".join(lines)


def _rate(text: str) -> int:
    found = _RATE.fullmatch(text)
    if found is None or not int(found[1]):
        raise UsageError(what="that is no rate", why="expected a number and a unit", fix="give it like --rate 50MB/s")
    return int(found[1]) * _UNITS[found[2]]


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(
            what="that is no date", why="expected YYYY-MM-DD", fix="give it like --since 2026-11-20"
        ) from error
