"""The script of a key ceremony: numbered steps, what is said and by whom, boxes to tick and lines for witnesses.

It is made from the joining files and the proposal themselves, so the digests that are read aloud stand in it. It is
printed twice: one copy is filled in and kept for as long as media of this sender are trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bundler.invitation import refused
from bundler.joining import Joining
from bundler.pdf import Sheet
from bundler.proposal import Proposal, changes
from bundler.sheet import spaced
from media.clock import to_text
from media.people import People, Role, SignaturePolicy

_LEAST_WITNESSES: Final = 1
_INDENT: Final = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Args:
        who: Does it.
        does: What.
        says: What is said aloud; empty for nothing.
        shown: Digests and commands, line by line.
        witnessed: A line for the witnesses' initials and the time stands below it.
    """

    who: str
    does: str
    says: str = ""
    shown: tuple[str, ...] = ()
    witnessed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A ceremony on paper.

    Args:
        title: Names the root.
        warning: For what is not production; empty otherwise.
        facts: What and where.
        steps: In order.
        witnesses: Who looks on and signs.
        signers: Who signs the root.
        at: When the script was made.
    """

    title: str
    warning: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    witnesses: tuple[str, ...]
    signers: tuple[str, ...]
    at: datetime

    def to_text(self) -> str:
        """Return the script for a printer without fonts."""
        lines = [self.title, "=" * len(self.title), *([f"*** {self.warning} ***"] if self.warning else []), ""]
        lines += [f"{name:<16} {found or '_' * 40}" for name, found in self.facts]
        for number, step in enumerate(self.steps, start=1):
            lines += ["", f"[ ] {number}. {step.who}: {step.does}"]
            lines += [f'       says: "{step.says}"'] if step.says else []
            lines += [f"       {line}" for line in step.shown]
            lines += ["       witnesses' initials ____________   time ________"] if step.witnessed else []
        lines += ["", "What happened otherwise than written here:", "", "_" * 70, "", "_" * 70, "", "_" * 70, ""]
        for heading, names in (
            ("Signed the root", self.signers),
            ("Witnesses: I saw every step ticked", self.witnesses),
        ):
            lines += ["", heading]
            lines += [line for name in names for line in ("", f"  {name:<30} ____________________ date __________")]
        return "\n".join(lines) + "\n"

    def to_pdf(self) -> bytes:
        """Return the script as PDF."""
        sheet = Sheet(self.title, at=self.at)
        if self.warning:
            sheet.text(self.warning, bold=True)
        sheet.facts(self.facts)
        sheet.heading("Steps")
        for number, step in enumerate(self.steps, start=1):
            sheet.box(f"{number}. {step.who}: {step.does}")
            if step.says:
                sheet.text(f"says: \u201c{step.says}\u201d", indent=_INDENT)
            for line in step.shown:
                sheet.mono(line, indent=_INDENT)
            if step.witnessed:
                sheet.lines(["witnesses' initials", "time"])
        sheet.heading("What happened otherwise than written here")
        for _ in range(3):
            sheet.lines([""])
        for heading, names in (
            ("Signed the root", self.signers),
            ("Witnesses: I saw every step ticked", self.witnesses),
        ):
            sheet.heading(heading)
            for name in names:
                sheet.lines([name, "signature", "date"])
        return sheet.to_bytes()


def ceremony_script(
    proposal: Proposal,
    joinings: Sequence[Joining],
    *,
    before: People | None,
    witnesses: Sequence[str],
    place: str,
    at: datetime,
    is_offline: bool,
) -> Script:
    """Return the script for signing a proposal.

    Args:
        proposal: What is signed.
        joinings: Of everyone who joins with it.
        before: The people of the root before; None for a first root.
        witnesses: Names of people who look on; no key of theirs is in the root.
        place: Where it is held.
        at: When the script is made.
        is_offline: The machines must be off every network.

    Raises:
        CeremonyError: Nobody looks on, or a witness signs the root.
    """
    people = {person.id: person for person in proposal.people.people}
    named = {" ".join(person.name.split()).casefold() for person in people.values()}
    folded = [" ".join(each.split()).casefold() for each in witnesses]
    if len(folded) < _LEAST_WITNESSES or len(set(folded)) != len(folded) or "" in folded:
        raise refused("a ceremony without a witness", "somebody without a key looks on and signs the script")
    if shared := sorted(named & set(folded)):
        raise refused(f"{shared[0]} as a witness", "who holds a key in the root does not witness it")
    if absent := [each.id for each in joinings if each.id not in people]:
        raise refused(f"a joining file of {absent[0]}", "the proposal does not name this person")
    signers = {
        person.id: person.name
        for each in filter(None, (before, proposal.people))
        for person in each.with_role(Role.ROOT)
    }
    environment = str(proposal.people.environment)
    is_hybrid = proposal.people.policy is SignaturePolicy.HYBRID
    counted = "with a classic and an ML-DSA-87 signature" if is_hybrid else "with one signature"
    facts = (
        ("Root", f"version {proposal.root.version}, for {environment}"),
        ("Signature policy", f"{proposal.people.policy}: a person counts {counted}"),
        ("Sign a root", f"{proposal.people.thresholds['root']} people"),
        ("Sign a release", f"{proposal.people.thresholds['release']} people"),
        ("Place", place),
        ("Script made", to_text(at)),
        ("Held on", ""),
        ("Leads", ""),
    )
    return Script(
        title=f"Key ceremony: root {proposal.root.version}",
        warning=""
        if environment == "production"
        else f"{environment.upper()}: a production box refuses this root for ever",
        facts=facts,
        steps=(
            *_opening(is_offline=is_offline),
            *(step for joining in joinings for step in _joins(joining)),
            *_looks(proposal, before),
            *(_signs(person_id, name, is_offline=is_offline) for person_id, name in signers.items()),
            *_closing(proposal),
        ),
        witnesses=tuple(witnesses),
        signers=tuple(signers.values()),
        at=at,
    )


def _opening(*, is_offline: bool) -> list[Step]:
    steps = [
        Step(
            who="Lead",
            does="names everybody in the room, and what each is here for.",
            says="We make the root together.",
        ),
        Step(who="Witnesses", does="compare each person with an identity document.", witnessed=True),
        Step(who="Everyone", does="puts telephones and radios outside the room."),
    ]
    if is_offline:
        steps.append(
            Step(
                who="Each signer",
                does="pulls the network cable and switches radios off; commands below get --offline-required.",
                shown=("ip link; ip route",),
                witnessed=True,
            )
        )
    return steps


def _joins(joining: Joining) -> list[Step]:
    shown = [f"joining file {line}" for line in spaced(joining.sha256, 8, 4)]
    if joining.fingerprint:
        shown += [f"OpenPGP      {line}" for line in spaced(joining.fingerprint, 4, 10)]
    for use, own in joining.keys.items():
        shown += [f"{use:<8} {key.scheme:<20} {key.keyid[:16]}" for key in own]
    return [
        Step(
            who=joining.name,
            does=f"reads the SHA-256 of the own joining file ({joining.id}) aloud from the own screen.",
            says=f"I am {joining.name}. I made these keys, and nobody else can use them.",
            shown=tuple(shown),
        ),
        Step(who="Witnesses", does="compare every digit with the lines above.", witnessed=True),
    ]


def _looks(proposal: Proposal, before: People | None) -> list[Step]:
    return [
        Step(
            who="Lead",
            does="reads aloud what the root changes.",
            shown=tuple(f"- {change}" for change in changes(before, proposal.people)),
        ),
        Step(
            who="Each signer",
            does="runs this on the own machine and reads the digest aloud.",
            shown=("sealift-bundler root show PROPOSAL", *spaced(proposal.digest, 8, 4)),
        ),
        Step(who="Witnesses", does="hear the same digest from everyone.", witnessed=True),
    ]


def _signs(person_id: str, name: str, *, is_offline: bool) -> Step:
    options = " --offline-required" if is_offline else ""
    return Step(
        who=name,
        does="signs on the own machine, and hands the small file or its codes to the lead.",
        shown=(f"sealift-bundler root sign PROPOSAL --person {person_id} --home … --key …{options}",),
        witnessed=True,
    )


def _closing(proposal: Proposal) -> list[Step]:
    return [
        Step(
            who="Lead",
            does="merges what was handed in, and shows the root to everyone.",
            shown=(
                "sealift-bundler root merge PROPOSAL SIGNATURE… --ceremony CEREMONY",
                "sealift-bundler ceremony show CEREMONY",
            ),
        ),
        Step(
            who="Everyone",
            does=f"writes down the SHA-256 of {proposal.root.version}.root.json as the last command showed it.",
            shown=("________ ________ ________ ________", "________ ________ ________ ________"),
            witnessed=True,
        ),
        Step(who="Each signer", does="takes the own keys along; the lead keeps no key, no PIN and no passphrase."),
        Step(who="Lead", does="puts this script, signed, where the roots are kept; a copy goes elsewhere."),
    ]
