"""`sealift-bundler custody`: enter hand-overs, show them, print the paper form."""

from pathlib import Path
from typing import Annotated

import typer

from bundler.cli import context as shared
from bundler.cli.bars import (
    NOT_WRITTEN,
    CeremonyFolder,
    DryRun,
    Home,
    KeyPlaces,
    Person,
    SecretFd,
    moment_of,
    own_keys,
    require_new,
)
from bundler.cli.carriers import require_custodian
from bundler.custody import HandedOver, chain, hand_over, next_entry
from bundler.custody import head as chain_head
from bundler.custodyform import form_sheet, paper_form, printable_form
from bundler.printable import save
from bundler.signatory import Ceremony
from media import clock

_Volume = Annotated[Path, typer.Argument(help="Where the volume is mounted.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Who held a volume, when, where and under which seals.", no_args_is_help=True)
    app.add_typer(group, name="custody")

    @group.command("hand-over")
    def hand_over_command(
        context: typer.Context,
        volume: _Volume,
        ceremony: CeremonyFolder,
        person: Person,
        sender: Annotated[str, typer.Option("--from", help="Who gave it.")],
        receiver: Annotated[str, typer.Option("--to", help="Who took it.")],
        place: Annotated[str, typer.Option("--place", help="Where.")],
        seals: Annotated[list[str] | None, typer.Option("--seal", help="A seal number as it is now.")] = None,
        condition: Annotated[str, typer.Option("--condition", help="What was seen, in a sentence.")] = "",
        paper: Annotated[bool, typer.Option("--paper", help="It was written on the paper form.")] = False,
        at: Annotated[str, typer.Option("--at", help="When, as 2026-11-20T08:00:00Z; now if left out.")] = "",
        home: Home = None,
        key: KeyPlaces = None,
        secret_fd: SecretFd = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which entry it would be.")] = False,
    ) -> None:
        """Append one hand-over to a volume's custody/ and sign it."""
        ours = shared.of(context)
        facts = HandedOver(
            sender=sender,
            receiver=receiver,
            place=place,
            seals=tuple(seals or ()),
            condition=condition,
            on_paper=paper,
            at=moment_of(at) if at else None,
        )
        held = Ceremony.load(ceremony)
        if dry_run:
            require_custodian(held, person)
            entry, so_far = next_entry(volume, person, facts, ceremony=held, clock=ours.clock)
            lines = [f"would be entry {entry.entry}: {sender} -> {receiver}, {place}; nothing was written"]
            lines += [f"to be judged already: {finding}" for finding in so_far.findings]
            ours.result(
                {"entry": entry.entry, "entered": False, "findings": list(so_far.findings)},
                "\n".join(lines),
            )
            return
        keys = own_keys(home, key, secret_fd)
        written = hand_over(volume, person, facts, ceremony=held, clock=ours.clock, home=keys)
        findings = chain(volume, ceremony=held).findings
        head = chain_head(volume)
        lines = [f"entered {written.name}", *(f"to be judged: {finding}" for finding in findings)]
        lines.append(f"head {head}: the holder now tells it to the receiver, apart from the medium")
        ours.result({"file": written.name, "findings": list(findings), "head": head}, "\n".join(lines))

    @group.command("show")
    def show_command(
        context: typer.Context,
        volume: _Volume,
        ceremony: CeremonyFolder,
        head: Annotated[
            bool, typer.Option("--head", help="Only the 16 characters that go to the receiver apart from the medium.")
        ] = False,
    ) -> None:
        """Show a volume's hand-overs and what is odd about them."""
        if head:
            told = chain_head(volume)
            shared.of(context).result({"head": told}, told)
            return
        facts = chain(volume, ceremony=Ceremony.load(ceremony))
        entries = [entry.hand_over for entry in facts.entries]
        lines = [
            f"{each.entry}. {clock.to_text(each.at)}  {each.from_} -> {each.to}, {each.place}"
            f"{', seals ' + ', '.join(each.seals) if each.seals else ''} ({each.method})"
            for each in entries
        ]
        lines += [f"to be judged: {finding}" for finding in facts.findings]
        lines.append(f"head {chain_head(volume)}")
        shown = [
            {"entry": each.entry, "at": clock.to_text(each.at), "from": each.from_, "to": each.to, "place": each.place}
            for each in entries
        ]
        shared.of(context).result(
            {
                "complete": facts.complete,
                "entries": shown,
                "findings": list(facts.findings),
                "head": chain_head(volume),
            },
            "\n".join(lines),
        )

    @group.command("form")
    def form_command(
        context: typer.Context,
        volume: _Volume,
        out: Annotated[
            Path | None, typer.Option("--out", help="Write it to print, instead: .pdf, or .html for any browser.")
        ] = None,
        dry_run: DryRun = False,
    ) -> None:
        """Print the paper form of a volume."""
        ours = shared.of(context)
        if out is not None:
            made = form_sheet(volume) if out.suffix.lower() == ".pdf" else printable_form(volume)
            if dry_run:
                require_new(out)
            else:
                save(out, made)
            said = f"the form for {out.name} is made; {NOT_WRITTEN}" if dry_run else f"the form is in {out.name}"
            ours.result({"file": out.name, "dry_run": dry_run}, said)
            return
        text = paper_form(volume)
        ours.result({"form": text}, text)
