"""`sealift-bundler check`: check written media with the product's own code."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import byte_bar
from bundler.mediumcheck import CheckReport, check
from bundler.signatory import Ceremony


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("check")
    def command(
        context: typer.Context,
        volumes: Annotated[list[Path], typer.Argument(help="Where the volumes are mounted, all of them.")],
        ceremony: Annotated[
            Path | None, typer.Option("--ceremony", help="The root to trust; else the medium's own is taken.")
        ] = None,
        code: Annotated[str, typer.Option("--code", help="The release code on the trust sheet.")] = "",
        some: Annotated[bool, typer.Option("--some", help="Judge these volumes although others are missing.")] = False,
    ) -> None:
        """Check signatures, people, metadata, statements, lists, every byte, and custody."""
        ours = shared.of(context)
        known = None if ceremony is None else Ceremony.load(ceremony)
        with byte_bar(ours) as progress:
            report = check(volumes, ceremony=known, code="".join(code.split()).lower(), some=some, progress=progress)
        ours.result(_facts(report), _text(report))


def _facts(report: CheckReport) -> dict[str, object]:
    return {
        "release": report.release,
        "serial": report.serial,
        "sites": list(report.sites),
        "stale_after": report.stale_after,
        "code": report.code,
        "environment": report.environment,
        "signature_policy": report.policy,
        "root_is_known": report.root_is_known,
        "signers": list(report.signers),
        "files": report.files,
        "bytes": report.bytes,
        "base": list(report.base),
        "custody": {
            str(number): {"complete": facts.complete, "entries": len(facts.entries), "findings": list(facts.findings)}
            for number, facts in report.custody.items()
        },
        "litter": list(report.litter),
        "volumes_not_given": list(report.not_given),
    }


def _text(report: CheckReport) -> str:
    lines = [
        f"{report.release}, serial {report.serial} ({report.environment}), for {', '.join(report.sites)}",
        f"  code       {report.code or 'not known without volume 1'}",
        f"  sealed by  {', '.join(report.signers)}",
        f"  metadata   by enough people of the root, signature policy {report.policy}",
        f"  {report.files} files, {report.bytes:,} bytes: every byte is what was signed",
    ]
    if report.base:
        serials = ", ".join(map(str, report.base))
        lines.append(f"  a delta set: the site must hold serial {serials}; what lies there was not looked at")
    if report.not_given:
        lines.append(f"  NOT LOOKED AT: volume {', '.join(map(str, report.not_given))}")
    for number, facts in report.custody.items():
        count = f"{len(facts.entries)} hand-over{'' if len(facts.entries) == 1 else 's'}"
        lines.append(f"  volume {number}: {count}{'' if facts.complete else ', to be judged:'}")
        lines += [f"    {finding}" for finding in facts.findings]
    if report.litter:
        lines.append(f"  not looked at: {', '.join(report.litter)}")
    if not report.root_is_known:
        lines.append("  THE ROOT IS THE MEDIUM'S OWN: this proves agreement, not origin; give --ceremony")
    return "\n".join(lines)
