"""Chain of custody: who held a volume, when, where, with which seals (CUST-1 to CUST-20).

Hand-overs are evidence about carriers, for people to judge; they never decide whether bytes are trusted. So a chain is
read to the end and what is odd about it is returned as findings; only what cannot be read or is not signed stops.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, Self

from securesystemslib.signer import Signer  # type: ignore[attr-defined]  # re-exported without __all__

from media import canonical, clock, digest, dsse, layout, limits
from media.errors import BadSignatureError, LimitExceededError, MalformedError, UnsupportedFormatError
from media.people import People, Role

HEAD_CHARS: Final = 16
"""Hexadecimal digits of the last entry's digest that a holder reads out (CUST-22)."""

_FIELDS: Final = (
    "at",
    "condition",
    "entered_by",
    "entry",
    "format",
    "from",
    "kind",
    "method",
    "place",
    "previous",
    "release",
    "seals",
    "to",
    "volume",
)


class HandOverKind(StrEnum):
    """What an entry records."""

    SEALED = "sealed"
    HANDED_OVER = "handed-over"
    RECEIVED = "received"
    REJECTED = "rejected"


class Method(StrEnum):
    """How it was recorded: signed on the spot, or on paper and entered later by the receiver."""

    SIGNED = "signed"
    PAPER = "paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """One entry of a chain.

    Args:
        entry: Its number; 0 is the sealed entry inside the bag, hand-overs follow from 1.
        previous: SHA-256 of the file of the entry before; empty for the sealed one.
        release: The release's name.
        volume: The volume's id.
        kind: What it records.
        from_: Who gave; in JSON "from".
        to: Who took.
        at: When, by the clock of who entered it.
        place: Where.
        seals: Numbers of the seals that were found or put on.
        condition: What was seen, in a sentence.
        method: How it was recorded.
        entered_by: Id of the person who entered and signed it.
    """

    entry: int
    previous: str
    release: str
    volume: str
    kind: HandOverKind
    from_: str
    to: str
    at: datetime
    place: str
    seals: tuple[str, ...]
    condition: str
    method: Method
    entered_by: str

    @property
    def label(self) -> str:
        """What findings call it."""
        return f"entry {self.entry}"

    @classmethod
    def from_payload(cls, untrusted: bytes) -> Self:
        """Read the payload of an entry's envelope.

        Raises:
            LimitExceededError: More bytes than an entry may have.
            MalformedError: Not in canonical form, or a field is wrong.
            UnsupportedFormatError: A later version of the format.
        """
        what = "A custody entry"
        value = canonical.mapping(canonical.loads_canonical(untrusted, max_bytes=limits.CUSTODY_ENTRY_BYTES), what)
        if canonical.integer(value.get("format"), what, minimum=1) > layout.FORMAT:
            raise UnsupportedFormatError(
                what="A custody entry has a later format version",
                why=f"this program reads version {layout.FORMAT}",
                fix="Enter the hand-over from paper instead.",
            )
        canonical.exact_keys(value, _FIELDS, (), what)
        kind = canonical.one_of(value["kind"], HandOverKind, what)
        entry = canonical.integer(value["entry"], what, maximum=limits.CUSTODY_ENTRIES)
        is_first = kind == HandOverKind.SEALED
        if is_first != (entry == 0) or is_first != (value["previous"] == ""):
            raise _malformed("the sealed entry, and no other, has number 0 and nothing before it")
        return cls(
            entry=entry,
            previous="" if is_first else canonical.sha256_hex(value["previous"], what),
            release=layout.require_release_name(canonical.text(value["release"], what)),
            volume=canonical.text(value["volume"], what, most=16),
            kind=kind,
            from_=canonical.text(value["from"], what, most=200),
            to=canonical.text(value["to"], what, most=200),
            at=canonical.moment(value["at"], what),
            place=canonical.text(value["place"], what, most=200),
            seals=tuple(
                canonical.text(each, what, most=64) for each in canonical.array(value["seals"], what, most=limits.SEALS)
            ),
            condition=canonical.text(value["condition"], what, most=500, may_be_empty=True),
            method=canonical.one_of(value["method"], Method, what),
            entered_by=canonical.text(value["entered_by"], what, most=32),
        )

    def to_payload(self) -> bytes:
        """Return the canonical bytes that are signed.

        Raises:
            MalformedError: A field is one that `from_payload` would refuse.
        """
        value: dict[str, Any] = {
            "format": layout.FORMAT,
            "entry": self.entry,
            "previous": self.previous,
            "release": self.release,
            "volume": self.volume,
            "kind": str(self.kind),
            "from": self.from_,
            "to": self.to,
            "at": clock.to_text(self.at),
            "place": self.place,
            "seals": list(self.seals),
            "condition": self.condition,
            "method": str(self.method),
            "entered_by": self.entered_by,
        }
        payload = canonical.dumps(value)
        self.from_payload(payload)
        return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyEntry:
    """An entry whose signature holds.

    Args:
        hand_over: What it says.
        sha256: Of its file; what the next entry names.
        file_name: The name its file must have below `custody/`.
    """

    hand_over: HandOver
    sha256: str
    file_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyFacts:
    """What a volume's chain says.

    Args:
        entries: In order of their numbers.
        complete: There is a chain and nothing is odd about it.
        findings: What a person must judge, one sentence each.
    """

    entries: tuple[CustodyEntry, ...]
    complete: bool
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEntry:
    """A hand-over that was written on paper and entered at the receiving site, never on the medium (CUST-20).

    Args:
        volume: The volume's id.
        from_: Who gave.
        to: Who took.
        at: When, as on the form.
        seals: Numbers of the seals that the form names.
        entered_by: Who entered it at the site.
        sequence: Of its record in the site's ledger; -1 while it waits for the ledger.
    """

    volume: str
    from_: str
    to: str
    at: datetime
    seals: tuple[str, ...]
    entered_by: str
    sequence: int

    @property
    def label(self) -> str:
        """What findings call it."""
        return f"the paper of {clock.to_text(self.at)}"


def sign(hand_over: HandOver, *signers: Signer) -> bytes:
    """Return the file of an entry, signed with each key of the person who enters it.

    Raises:
        MalformedError: A field is one that `read_entry` would refuse.
    """
    return dsse.sign(dsse.CUSTODY, hand_over.to_payload(), *signers)


def read_entry(untrusted: bytes, people: People) -> CustodyEntry:
    """Return one entry, if a person with the role custody entered and signed it.

    Raises:
        BadSignatureError: The signature does not hold, or is by somebody else than the entry says.
        MalformedError: It cannot be read.
    """
    try:
        statement = dsse.verify(untrusted, people, Role.CUSTODY, payload_type=dsse.CUSTODY)
        hand_over = HandOver.from_payload(statement.payload)
    except (LimitExceededError, UnsupportedFormatError) as error:
        raise MalformedError(what=error.what, why=error.why, fix=error.fix) from error
    if [person.id for person in statement.signers] != [hand_over.entered_by]:
        raise BadSignatureError(
            what=f"Custody entry {hand_over.entry} is not signed by who entered it",
            why=f"entered by {hand_over.entered_by}",
            fix="Ask the people named on the paper form.",
        )
    sha256 = digest.sha256_hex(untrusted)
    return CustodyEntry(hand_over=hand_over, sha256=sha256, file_name=layout.custody_name(hand_over.entry, sha256))


def read_chain(
    entries: Sequence[bytes],
    people: People,
    sealed_sha256: str,
    volume_id: str,
    *,
    sealed: HandOver | None = None,
    paper: Sequence[PaperEntry] = (),
) -> CustodyFacts:
    """Return what the hand-overs of one volume say and everything that is odd about them (CUST-10 to CUST-19).

    Args:
        entries: The bytes of each file below `custody/`, in any order; nobody trusts their names.
        people: Of the trusted root.
        sealed_sha256: SHA-256 of this volume's sealed entry in attest/, which the first hand-over names.
        volume_id: The volume's id from the signed index.
        sealed: What the sealed entry says, to compare the first hand-over with.
        paper: What the receiver entered from paper; it takes its place in the chain by its time.

    Raises:
        BadSignatureError: An entry is not signed by a person with the role custody.
        MalformedError: An entry cannot be read, or there are too many.
    """
    if len(entries) > limits.CUSTODY_ENTRIES:
        raise _malformed(f"there are more than {limits.CUSTODY_ENTRIES} entries")
    for raw in entries:
        if len(raw) > limits.CUSTODY_ENTRY_BYTES:
            raise _malformed(f"an entry is larger than {limits.CUSTODY_ENTRY_BYTES} bytes")
    found = sorted(
        (read_entry(raw, people) for raw in entries), key=lambda entry: (entry.hand_over.entry, entry.sha256)
    )
    carried = _in_time([entry.hand_over for entry in found], [each for each in paper if each.volume == volume_id])
    findings = _linked(found, sealed_sha256, volume_id) if carried else ["no hand-over is recorded after sealing"]
    for before, this in pairwise(carried):
        findings += _compared(this, before)
    if carried and sealed is not None:
        findings += _compared_with_sealed(carried[0], sealed)
    return CustodyFacts(entries=tuple(found), complete=not findings, findings=tuple(findings))


def same_person(one: str, other: str) -> bool:
    """Tell whether two names are spelled alike; case, width and runs of blanks do not count (CUST-12)."""
    first, second = (" ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in (one, other))
    return first == second


def _in_time(signed: Sequence[HandOver], paper: Sequence[PaperEntry]) -> list[HandOver | PaperEntry]:
    """Return the medium's entries in order of their numbers, and what paper alone tells before the first later one."""
    carried: list[HandOver | PaperEntry] = list(signed)
    for each in sorted(paper, key=lambda entry: (entry.at, entry.sequence)):
        if not any(_is_the_same(each, other) for other in carried):
            later = (place for place, other in enumerate(carried) if other.at > each.at)
            carried.insert(next(later, len(carried)), each)
    return carried


def _is_the_same(paper: PaperEntry, other: HandOver | PaperEntry) -> bool:
    return (
        same_person(paper.from_, other.from_)
        and same_person(paper.to, other.to)
        and paper.at == other.at
        and set(paper.seals) == set(other.seals)
    )


def _linked(found: Sequence[CustodyEntry], sealed_sha256: str, volume_id: str) -> list[str]:
    findings = []
    if len(releases := {entry.hand_over.release for entry in found}) > 1:
        findings.append(f"the entries name {len(releases)} releases")
    expected, previous_sha256 = 1, sealed_sha256
    for entry in found:
        this = entry.hand_over
        if this.entry < expected:
            findings.append(f"entry {this.entry} is there twice")
        elif this.entry > expected:
            findings.append(f"gap: entry {expected} is missing before entry {this.entry}")
        if this.previous != previous_sha256:
            findings.append(f"tear: entry {this.entry} does not follow the one before it")
        if this.volume != volume_id:
            findings.append(f"entry {this.entry} is about another volume")
        if this.kind == HandOverKind.SEALED:
            findings.append(f"entry {this.entry} is a sealed entry, which belongs inside the bag")
        if this.kind == HandOverKind.REJECTED:
            findings.append(f"entry {this.entry} rejects the volume")
        expected, previous_sha256 = this.entry + 1, entry.sha256
    return findings


def _compared(this: HandOver | PaperEntry, before: HandOver | PaperEntry) -> list[str]:
    if isinstance(this, HandOver) and isinstance(before, HandOver):
        both = f"entries {before.entry} and {this.entry}"
    else:
        both = f"{before.label} and {this.label}"
    findings = []
    if this.at < before.at:
        findings.append(f"time runs backwards between {both}")
    if not same_person(this.from_, before.to):
        findings.append(f"gap: {before.label} went to another person than {this.label} came from")
    if set(this.seals) != set(before.seals):
        findings.append(f"the seals differ between {both}")
    return findings


def _compared_with_sealed(first: HandOver | PaperEntry, sealed: HandOver) -> list[str]:
    findings = []
    if first.at < sealed.at:
        findings.append(f"time runs backwards between sealing and {first.label}")
    if isinstance(first, HandOver) and first.release != sealed.release:
        findings.append(f"{first.label} is about another release")
    if isinstance(first, PaperEntry) and not same_person(first.from_, sealed.to):
        findings.append(f"gap: the sealed volume was with another person than {first.label} came from")
    if sealed.seals and not set(first.seals) <= set(sealed.seals):
        findings.append(f"{first.label} has a seal that was not reserved")
    return findings


def _malformed(why: str) -> MalformedError:
    return MalformedError(
        what="The custody record is malformed", why=why, fix="Ask the people named on the paper form, then decide."
    )
