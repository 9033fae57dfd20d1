"""Emergency notes on the sender's side: drafted, signed by root people one after the other, printed with its QR code.

Nothing here needs the stolen keys' owners, a network, or a new release. The rotated root that replaces the keys is made
beside it and travels with the next medium.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bundler import pdf
from bundler.errors import NotEmptyError, SigningError
from bundler.sheet import spaced
from bundler.signatory import Ceremony, Signatory, signed_part
from media import dsse, emergency
from media.clock import Clock, to_text
from media.dsse import Envelope
from media.emergency import MOST_BYTES, MOST_KEYS, PAYLOAD_TYPE, EmergencyNote, Reason, SignedNote
from media.errors import ThresholdError, UsageError
from media.people import People

_USES: Final = ("root", "release")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteState:
    """A note on its way: who signed it so far, and how many root people must."""

    note: EmergencyNote
    signed: tuple[str, ...]
    needed: int
    people: dict[str, tuple[str, ...]]

    @property
    def complete(self) -> bool:
        """Whether sites would act on it."""
        return len(self.signed) >= self.needed

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            **self.note.to_json(),
            "signed": list(self.signed),
            "needed": self.needed,
            "complete": self.complete,
            "people": {person: list(uses) for person, uses in self.people.items()},
        }


def draft(
    ceremony: Ceremony,
    revoked: Iterable[tuple[str, Sequence[str]]],
    *,
    number: int,
    reason: Reason,
    since: datetime,
    clock: Clock,
) -> EmergencyNote:
    """Return the note that takes people's keys away.

    Args:
        ceremony: The root chain; keys of every root in it count, since a site may hold an older one.
        revoked: Person id, and which of their keys (`root`, `release`; both when empty).
        number: One more than the last note of this sender.
        reason: Why.
        since: From when on the keys may have been in other hands.
        clock: For its date.

    Raises:
        SigningError: No root names such a person, or fewer root people than the threshold would be left to sign it.
        UsageError: Nobody is named, more keys than a note holds are, or it would lie in the future.
    """
    at = clock.now().replace(microsecond=0)
    if since > at:
        raise UsageError(what="the keys cannot be in doubt from a later time on", why=to_text(since), fix="give a past")
    roots, named = [People.from_root(signed_part(raw)) for raw in ceremony.chain], set[str]()
    for person_id, uses in revoked:
        known = [people for people in roots if any(person.id == person_id for person in people.people)]
        if not known:
            ceremony.person(person_id)
        for people in known:
            named.update(emergency.keys_of(people, person_id, uses or _USES))
    if not named:
        raise UsageError(what="no key is named", why="nobody was given", fix="give --revoke PERSON")
    if len(named) > MOST_KEYS:
        raise UsageError(what="one note cannot name so many keys", why=f"{len(named)}", fix="write two notes")
    left = [
        person.id
        for person in ceremony.people.with_role("root")
        if not set(person.keys.get("root", ())).issubset(named)
    ]
    if len(left) < ceremony.threshold("root"):
        raise SigningError(
            what="no site would act on this note",
            why=f"{ceremony.threshold('root')} root people must sign it with other keys, {len(left)} are left",
            fix="the root threshold is lost: every site pins a new root by hand (docs/runbooks/threshold-lost.md)",
        )
    return EmergencyNote(
        environment=ceremony.people.environment,
        root=ceremony.first_root_sha256,
        note=number,
        at=at,
        since=since.replace(microsecond=0),
        reason=reason,
        keys=tuple(sorted(named)),
    )


def sign(untrusted: bytes, ceremony: Ceremony, signatory: Signatory) -> bytes:
    """Return the note with one more person's signature, by their classic root key.

    Args:
        untrusted: A draft's payload, or an envelope that others signed.
        ceremony: The root chain.
        signatory: Who signs.

    Raises:
        MediaError, TrustError: It is no note of this ceremony, or a signature in it does not hold.
        SigningError: The person's keys are not there, or the note itself takes them away.
        UsageError: The person signed before, or the note would no longer fit one QR code.
    """
    known = begun(untrusted, ceremony, signatory.person.id)
    note, person = known.note, signatory.person
    with signatory.at_hand() as ready:
        classic = [
            each
            for each in ready.signers("root")
            if not ceremony.people.is_post_quantum(each.public_key.keyid) and each.public_key.keyid not in note.keys
        ]
        if not classic:
            raise SigningError(
                what=f"{person.name} cannot sign this note",
                why="it takes their root key away",
                fix="ask another person",
            )
        signer = classic[0]
        signed = (
            dsse.countersign(untrusted, signer) if known.signed else dsse.sign(PAYLOAD_TYPE, note.to_bytes(), signer)
        )
    if len(signed) > MOST_BYTES:
        raise UsageError(
            what="the note would not fit one QR code",
            why=f"{len(signed)} bytes, at most {MOST_BYTES}",
            fix="name fewer keys, or write two notes",
        )
    return signed


def begun(untrusted: bytes, ceremony: Ceremony, person_id: str) -> NoteState:
    """Return a draft, or a note that others signed, if this person may sign it next.

    Raises:
        MediaError, TrustError: It is no note of this ceremony, or a signature in it does not hold.
        SigningError: The root names no such person, or the note takes all their root keys away.
        UsageError: The person signed before.
    """
    if untrusted.startswith(b'{"payload"'):
        known = state(untrusted, ceremony)
    else:
        note = EmergencyNote.from_bytes(untrusted)
        people = dict(emergency.whose(ceremony.people, note))
        known = NoteState(note=note, signed=(), needed=ceremony.threshold("root"), people=people)
    person = ceremony.person(person_id)
    if person.id in known.signed:
        raise UsageError(what=f"{person.name} signed this note already", why="", fix="ask another root person")
    if set(person.keys.get("root", ())) <= set(known.note.keys):
        raise SigningError(
            what=f"{person.name} cannot sign this note",
            why="they have no root key, or it takes every one of them away",
            fix="ask another person",
        )
    return known


def state(untrusted: bytes, ceremony: Ceremony) -> NoteState:
    """Return who signed a note so far; every signature is verified.

    Raises:
        MediaError, TrustError: It is no note of this ceremony, or a signature in it does not hold.
    """
    note = EmergencyNote.from_bytes(Envelope.from_bytes(untrusted).payload)
    whose = dict(emergency.whose(ceremony.people, note))
    needed = ceremony.threshold("root")
    try:
        signed = tuple(person.id for person in finished(untrusted, ceremony).signers)
    except ThresholdError:
        made = {each.keyid for each in Envelope.from_bytes(untrusted).signatures} - set(note.keys)
        people = ceremony.people.with_role("root")
        signed = tuple(sorted(person.id for person in people if made & set(person.keys.get("root", ()))))
    return NoteState(note=note, signed=signed, needed=needed, people=whose)


def finished(untrusted: bytes, ceremony: Ceremony) -> SignedNote:
    """Return the note as a site would read it.

    Raises:
        MediaError, TrustError: A site would refuse it.
    """
    return emergency.read(untrusted, ceremony.people, first_root=ceremony.chain[0])


def sheet(untrusted: bytes, ceremony: Ceremony, *, sites: Sequence[str] = ()) -> bytes:
    """Return the printed note: what it says, what a site does with it, and the whole of it as one QR code.

    Raises:
        MediaError, TrustError: A site would refuse it.
    """
    signed = finished(untrusted, ceremony)
    note = signed.note
    page = pdf.Sheet(f"Sealift emergency note {note.note}", at=note.at)
    page.text("Stop believing these keys now. Nothing on this sheet lets anything in; it only keeps something out.")
    page.facts(
        [
            ("For", f"{note.environment}, sites {', '.join(sites)}" if sites else f"{note.environment}, every site"),
            ("Written", to_text(note.at)),
            ("Keys", f"{note.reason}; in doubt since {to_text(note.since)}"),
            *((f"  {person or 'others'}", ", ".join(uses)) for person, uses in _whose(ceremony, note)),
            ("Signed by", ", ".join(person.name for person in signed.signers)),
            ("First root", " ".join(spaced(note.root, 8, 4))),
        ]
    )
    page.heading("At the site")
    page.box("Call the sender on a number you know and have them read the first root and the note's number to you.")
    page.box("Read the code below with a hand scanner into a file, or copy the file from any stick.")
    page.mono("sealift trust note note.json --dry-run\nsealift trust note note.json\nsealift trust affected")
    page.box("Receive nothing that you cannot explain until the sender's new root came.")
    page.heading("The note")
    page.code(untrusted.decode("ascii"), size=110, error="l")
    page.lines(["Taken at the site by", "Date and time", "Witness"])
    return page.to_bytes()


def write(path: Path, data: bytes) -> None:
    """Write a note or its sheet; a file that is there is kept.

    Raises:
        NotEmptyError: It is there.
    """
    try:
        with path.open("xb") as stream:
            stream.write(data)
    except FileExistsError as error:
        raise NotEmptyError(what=f"{path.name} exists", why="nothing is overwritten", fix="name another") from error


def _whose(ceremony: Ceremony, note: EmergencyNote) -> list[tuple[str, tuple[str, ...]]]:
    return sorted(emergency.whose(ceremony.people, note).items())
