"""`sealift standby`: two boxes of one site, introduced to each other in person, the second kept current."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from appliance.actions.pinned import plain_bytes
from appliance.actions.standby import introducing, keeping, pepper, sending, status, stopping, taking
from appliance.actions.standby.keeping import Grown
from appliance.actions.standby.sending import Sent
from appliance.actions.standby.stopping import Followed
from appliance.actions.standby.taking import TakenOver
from appliance.cli import context as shared
from appliance.cli import standby_drill, standby_lease
from appliance.cli.boxkeys import keyring_of
from appliance.cli.context import Context
from appliance.cli.opened import ledger_of, production_of, promoter_of
from appliance.keys.opening import open_keys
from appliance.standby.pairing import Relation
from media import durable
from media.errors import SealiftError, UsageError

_MOST_FILE = 256 * 1024
_PROMPTS = ("First person, the other box's code", "Second person, the other box's code")
By = Annotated[list[str] | None, typer.Option("--by", metavar="NAME", help="Who you are; give it twice.")]
Peer = Annotated[str, typer.Argument(metavar="BOX", help="Name of the other box, as `sealift standby status` says.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder, e.g. on a medium.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Verify and tell; change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = typer.Typer(help="Two boxes of one site: pair them, keep the second current.", no_args_is_help=True)
    app.add_typer(commands, name="standby")
    commands.command("card")(_card)
    commands.command("pair")(_pair)
    commands.command("join")(_join)
    commands.command("part")(_part)
    commands.command("status")(_status)
    commands.command("export")(_export)
    commands.command("import")(_import)
    commands.command("take")(_take)
    commands.command("sync")(_sync)
    standby_drill.add(commands)
    standby_lease.add(commands)


def _card(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", help="What people call this box, e.g. room-1.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to write the card.")],
) -> None:
    """Write this box's card for the other box, and show the code that people type there."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        made = introducing.make_card(own.config, name, ledger=ledger, keys=open_keys(own.config), clock=own.clock)
    _put(to, made.file)
    own.result(
        {**made.to_json(), "file": to.name},
        f"{to.name}: the card of {made.card.name}, ledger {made.card.origin}\n"
        f"  code, to be typed by two people at the other box: {made.card.code}",
    )


def _pair(
    context: typer.Context,
    card: Annotated[Path, typer.Argument(metavar="CARD", help="The other box's card.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to write this box's half.")],
    role: Annotated[str, typer.Option("--role", help="What this box is: primary, standby, production or test.")],
    by: By = None,
    code: Annotated[
        list[str] | None, typer.Option("--code", metavar="CODE", help="The other box's code, once for each person.")
    ] = None,
) -> None:
    """Say that the other box is the one of this card: two people type the code that it shows."""
    own = shared.of(context)
    roles = {
        "primary": (Relation.STANDBY, True),
        "standby": (Relation.STANDBY, False),
        "production": (Relation.TEST, True),
        "test": (Relation.TEST, False),
    }
    if role not in roles:
        raise UsageError(what="that is no role", why=role[:20], fix=f"--role {', '.join(roles)}")
    relation, is_first = roles[role]
    with ledger_of(own) as ledger:
        peer, half = introducing.offer(
            own.config,
            plain_bytes(card, f"the card {card.name}", limit=_MOST_FILE),
            relation=relation,
            is_first=is_first,
            codes=code or [typer.prompt(prompt, hide_input=True) for prompt in _PROMPTS],
            by=by or [],
            ledger=ledger,
            keys=open_keys(own.config),
        )
    _put(to, half)
    own.result(
        {"peer": peer.name, "origin": peer.origin, "relation": str(relation), "file": to.name},
        f"{to.name}: this box's half of the pairing with {peer.name}; bring it to the other box",
    )


def _join(
    context: typer.Context,
    half: Annotated[Path, typer.Argument(metavar="OWN_HALF", help="What `pair` wrote here.")],
    other: Annotated[Path, typer.Argument(metavar="OTHER_HALF", help="What `pair` wrote on the other box.")],
    dry_run: DryRun = False,
) -> None:
    """Complete the pairing with both halves; run it on each box."""
    own = shared.of(context)
    halves = [plain_bytes(path, f"the half {path.name}", limit=_MOST_FILE) for path in (half, other)]
    with ledger_of(own) as ledger:
        found, sequence = introducing.join(own.config, *halves, ledger=ledger, dry_run=dry_run)
    verb = "would be paired" if dry_run else "paired"
    own.result(
        {
            "peer": found.peer.name,
            "relation": str(found.relation),
            "is_first": found.is_first,
            "pairing_sha256": found.sha256,
            "sequence": sequence,
        },
        f"{verb} with {found.peer.name} ({found.relation}), ledger {found.peer.origin}; record {sequence}",
    )


def _part(
    context: typer.Context,
    peer: Peer,
    by: By = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "",
) -> None:
    """Forget a paired box; the mirror of its ledger stays."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        sequence = introducing.part(own.config, peer, by=by or [], reason=reason, ledger=ledger)
    text = f"parted from {peer}; record {sequence}"
    if own.config.standby.listen:
        text += "\n  it is answered, and asked, until sealift-standby.service is started anew: docs/operator/standby.md"
    own.result({"peer": peer, "sequence": sequence}, text)


def _status(context: typer.Context) -> None:
    """Say which boxes this one is paired with, how far their mirrors are and what waits."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        found = status.read(own.config, ledger=ledger, clock=own.clock)
    own.result({"boxes": [one.to_json() for one in found]}, "\n".join(one.line() for one in found) or "not paired")


def _export(
    context: typer.Context,
    peer: Peer,
    folder: Folder,
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="How many records the other box holds; it says so.")
    ] = None,
) -> None:
    """Write what the other box needs to be current, for it alone."""
    own = shared.of(context)
    with ledger_of(own) as ledger:
        made = keeping.make(
            own.config,
            peer,
            since=since,
            ledger=ledger,
            keys=open_keys(own.config),
            clock=own.clock,
        )
    files = keeping.write(folder, made)
    own.result(
        {
            "peer": peer,
            "start": made.start,
            "size": made.size,
            "more": made.more,
            "files": sorted(path.name for path in files.values()),
        },
        f"records {made.start} to {made.size - 1} for {peer}: {', '.join(path.name for path in files.values())}"
        + ("\n  more follow: export again, into another folder, and import them there one after another" * made.more),
    )


def _import(context: typer.Context, peer: Peer, folder: Folder, dry_run: DryRun = False) -> None:
    """Take a bundle of the other box: prove it, grow its mirror, then take over what it decided."""
    own = shared.of(context)
    envelope, leaves = keeping.read(folder)
    documents = keeping.read_evidence(folder)
    with ledger_of(own) as ledger:
        grown = keeping.grow(own.config, envelope, leaves, documents, peer=peer, ledger=ledger, dry_run=dry_run)
    faults: list[SealiftError] = []
    if not dry_run:
        sending.note_held(own.config, peer)
    text = f"{'would hold' if dry_run else 'holds'} {grown.size} records of {peer}, {grown.before} before"
    if grown.missing:
        text += f"\n  releases to receive and install here: serial {', '.join(map(str, grown.missing))}"
    if dry_run or grown.pair.relation is not Relation.STANDBY:
        own.result({**grown.to_json(), "taken": None}, text)
        return
    with _noting(faults):
        text += _secret_text(_secret(own, peer, grown))
    taken = _taken(own, peer)
    own.result({**grown.to_json(), "taken": taken.to_json()}, f"{text}\n{_taken_text(taken)}")
    if faults:
        raise faults[0]


def _take(context: typer.Context, peer: Peer) -> None:
    """Go on taking over what the mirror holds, after a release that was missing is installed."""
    own, faults = shared.of(context), list[SealiftError]()
    secret = ""
    with _noting(faults):
        secret = _secret_text(_secret(own, peer))
    taken = _taken(own, peer)
    own.result(taken.to_json(), f"{_taken_text(taken)}{secret}")
    if faults:
        raise faults[0]


def _sync(
    context: typer.Context,
    named: Annotated[str, typer.Argument(metavar="[BOX]", help="The other box; the site file's by default.")] = "",
) -> None:
    """Send the other box what it lacks, over the network, and take over what it has sent; a timer runs this."""
    own = shared.of(context)
    peer = named or (own.config.standby.peer if own.config.standby.peer_address else "")
    if not peer:
        own.result({"sent": None, "grown": None, "taken": None}, "the site file names no other box to reach")
        return
    # What goes wrong with one part keeps none of the others from being done; the unit fails at the end for the first.
    faults: list[SealiftError] = []
    grown, secret, taken = None, None, None
    sent: list[Sent] = []
    stopped = Followed(count=0, stay=())
    with _noting(faults), ledger_of(own) as ledger:
        grown = sending.take_in(own.config, peer, ledger=ledger)
    with _noting(faults):
        stopped = _stopped(own, peer)
    with _noting(faults):
        secret = _secret(own, peer, grown)
        if secret is None:
            raise pepper.waits(peer)
    with _noting(faults):
        with ledger_of(own) as ledger:  # also what an earlier turn brought, and was kept from taking over
            is_waiting = taking.is_waiting(own.config, peer, ledger=ledger, clock=own.clock)
        if is_waiting or (grown is not None and grown.pair.relation is Relation.STANDBY):
            taken = _taken(own, peer)
    with _noting(faults), ledger_of(own) as ledger:
        keys = open_keys(own.config)
        sent.append(sending.send(own.config, peer, ledger=ledger, keys=keys, clock=own.clock))
    drilled = standby_drill.when_due(own)
    facts = {
        "sent": sent[0].to_json() if sent else None,
        "grown": None if grown is None else grown.to_json(),
        "taken": None if taken is None else taken.to_json(),
        "stopped": list(stopped.stay),
        "drilled": None if drilled is None else drilled.to_json(),
    }
    lines = [_sent_text(peer, one) for one in sent]
    lines += [] if drilled is None else standby_drill.lines(drilled)
    lines += [] if grown is None else [f"holds {grown.size} records of {peer}, {grown.before} before"]
    lines += [f"took over {stopped.count} stops of callers and ends of them"] if stopped.count else []
    lines += [_stays_text(stopped.stay)] if stopped.stay and taken is None else []
    own.result(
        facts, "\n".join([*lines, *([] if taken is None else [_taken_text(taken)])]) + _secret_text(secret or ())
    )
    if faults:
        raise faults[0]


def _sent_text(peer: str, sent: Sent) -> str:
    if not sent.is_taken:
        return f"{peer} has {sent.start} records of this box, and did not take in yet what was sent before"
    more = "; more follow in the next turns" if sent.more else ""
    return f"{peer} has {sent.size} records of this box, {sent.start} before{more}"


def _secret(own: Context, peer: str, grown: Grown | None = None) -> tuple[str, ...] | None:
    """Hand what came of the secret of API keys, with a bundle or before, to the units that use it.

    Returns:
        The units that were started again; None where the secret waits for a person.

    Raises:
        SealiftError: It was refused, or could not be handed on.
    """
    if grown is not None and grown.refused is not None:
        raise grown.refused
    done = pepper.KEPT if grown is None else grown.pepper
    if done == pepper.KEPT:
        with ledger_of(own) as ledger:
            done = pepper.adopt_waiting(own.config, peer, ledger=ledger)
    if done == pepper.WAITS:
        return None
    if done == pepper.KEPT:
        return ()
    with keyring_of(own) as keyring:
        started = keyring.tell(pepper.PEPPER)
    pepper.told(own.config, peer)
    return started


def _secret_text(told: tuple[str, ...] | None) -> str:
    if told is None:
        return "\n  the other box has a newer secret of API keys: run `sealift standby take` here, by hand, as root"
    return f"\n  API keys of the other box work here; started again: {', '.join(told)}" if told else ""


def _stopped(own: Context, peer: str) -> Followed:
    """Follow the other box's stops by what its mirror holds, whatever else goes wrong in this turn."""
    with ledger_of(own) as ledger, promoter_of(own) as promoter:
        followed = stopping.take_over(own.config, peer, ledger=ledger, promoter=promoter, clock=own.clock)
    if followed.count:
        with production_of(own) as here:
            taking.settle(here, engines=False)
    return followed


def _taken(own: Context, peer: str) -> TakenOver:
    with ledger_of(own) as ledger, promoter_of(own) as promoter:
        taken = taking.take_over(own.config, peer, ledger=ledger, promoter=promoter, clock=own.clock)
    if taken.promotions or taken.keys or taken.stops:
        with production_of(own) as here:
            taking.settle(here, engines=bool(taken.promotions))
    return taken


def _taken_text(taken: TakenOver) -> str:
    text = (
        f"  took over {taken.people} changes of people, {taken.promotions} promotions,"
        f" {taken.policies} policies, {taken.keys} API keys, {taken.stops} stops of callers and ends of them"
    )
    if taken.passed:
        text += f"\n  passed over {taken.passed} promotions that were made apart there and left since (in the mirror)"
    text += f"\n  waits at record {taken.next}: {taken.waits}" if taken.waits else ""
    text += f"\n{_stays_text(taken.stopped)}" if taken.stopped else ""
    if taken.held_back:
        text += f"\n  thresholds of {taken.held_back} wait, too: until then the stricter of both boxes' hold here"
    return text


def _stays_text(stay: Sequence[str]) -> str:
    return "\n".join(f"  stays stopped here, and was freed there: {one}" for one in stay)


@contextmanager
def _noting(faults: list[SealiftError]) -> Iterator[None]:
    """Keep what goes wrong for the end."""
    try:
        yield
    except SealiftError as error:
        faults.append(error)


def _put(file: Path, content: bytes) -> None:
    try:
        durable.replace(file, content, mode=0o644)
    except OSError as error:
        raise UsageError(what=f"{file.name} cannot be written", why=error.strerror or "", fix="name another") from error
