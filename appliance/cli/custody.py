"""`sealift custody`: who carried the media, as the receiving side sees and records it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.actions import custody as action
from appliance.actions import receipt as receipts
from appliance.actions.custody import PaperHandOver, Rejection
from appliance.audit.facts import Appended
from appliance.cli import context as shared
from appliance.cli.context import Context


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Who carried the media.", no_args_is_help=True)
    app.add_typer(commands, name="custody")

    @commands.command("show")
    def show(
        context: typer.Context,
        volumes: Annotated[list[Path], typer.Argument(metavar="VOLUME...", help="Folders of mounted volumes.")],
        head: Annotated[
            bool, typer.Option("--head", help="Only the 16 characters that go to the receiver apart from the medium.")
        ] = False,
    ) -> None:
        """Say what the hand-overs on these volumes tell, and what is odd about them."""
        own = shared.of(context)
        found = action.show(own.config, volumes, clock=own.clock)
        if head:
            heads = {str(facts["volume"]): facts["head"] for facts in found}
            own.result({"heads": heads}, "\n".join(f"{number}={each}" for number, each in heads.items()))
            return
        own.result({"volumes": found}, "\n".join(map(_text, found)))

    @commands.command("enter")
    def enter(
        context: typer.Context,
        volume: Annotated[str, typer.Option("--volume", metavar="ID", help="The volume's id.")],
        sender: Annotated[str, typer.Option("--from", metavar="NAME", help="Who gave it.")],
        receiver: Annotated[str, typer.Option("--to", metavar="NAME", help="Who took it.")],
        at: Annotated[
            str,
            typer.Option(
                "--at", metavar="TIME", help="When, as on the form: 2026-11-20 08:00+01:00; without a zone UTC."
            ),
        ],
        place: Annotated[str, typer.Option("--place", help="Where.")],
        by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who enters it now.")],
        seal: Annotated[list[str] | None, typer.Option("--seal", help="A seal's number; may be repeated.")] = None,
        condition: Annotated[str, typer.Option("--condition", help="What was seen.")] = "",
    ) -> None:
        """Record a hand-over that was written on paper."""
        own = shared.of(context)
        paper = PaperHandOver(
            volume=volume,
            sender=sender,
            receiver=receiver,
            at=at,
            place=place,
            seals=tuple(seal or ()),
            condition=condition,
            entered_by=by,
        )
        _recorded(own, action.enter(own.config, paper, clock=own.clock))

    @commands.command("reject")
    def reject(
        context: typer.Context,
        by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who rejects it.")],
        reason: Annotated[str, typer.Option("--reason", help="Why.")],
        volume: Annotated[str, typer.Option("--volume", metavar="ID", help="The volume's id, as on its label.")] = "",
        code: Annotated[str, typer.Option("--code", metavar="TEXT", help="What the label's QR code holds.")] = "",
        seal: Annotated[
            list[str] | None, typer.Option("--seal", help="A seal that was found; may be repeated.")
        ] = None,
        label: Annotated[str, typer.Option("--label", help="What the label says, where that is odd.")] = "",
    ) -> None:
        """Record that a medium was sent back without mounting it; receiving it later needs a decision by name."""
        own = shared.of(context)
        rejection = Rejection(
            volume=volume or (action.volume_of_label(code) if code else ""),
            by=by,
            reason=reason,
            seals=tuple(seal or ()),
            label=label,
        )
        _recorded(own, action.reject(own.config, rejection, clock=own.clock))

    @commands.command("receipt")
    def receipt(
        context: typer.Context, serial: Annotated[int, typer.Argument(help="Serial of a stored release.")]
    ) -> None:
        """Write the receipt of a stored release again."""
        own = shared.of(context)
        name = receipts.write_again(own.config, serial, clock=own.clock)
        own.result({"receipt": name}, name)


def _recorded(own: Context, appended: Appended) -> None:
    where = f"record {appended.sequence}" if appended.sequence >= 0 else "kept until the ledger starts"
    own.result({"sequence": appended.sequence}, where)


def _text(facts: Mapping[str, Any]) -> str:
    lines = [f"volume {facts['volume']} ({facts['id']}) of {facts['release']}"]
    for entry in facts["entries"]:
        seals = f", seals {', '.join(entry['seals'])}" if entry["seals"] else ""
        lines.append(f"  {entry['at']} {entry['kind']}: {entry['from']} -> {entry['to']}, {entry['place']}{seals}")
    lines += [
        f"  {entry['at']} paper: {entry['from']} -> {entry['to']}, entered by {entry['entered_by']}"
        for entry in facts["paper"]
    ]
    lines.append(f"  head {facts['head']}")
    lines += [f"  odd: {finding}" for finding in facts["findings"]] or ["  complete"]
    return "\n".join(lines)
