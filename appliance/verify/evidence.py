"""What people said about a release besides signing it: the rehearsal, and who carried each volume.

The rehearsal is read for its level, which a site's policy judges. Custody is evidence about carriers, never an input to
trust in bytes: whatever is wrong with it becomes a finding for a person, and nothing in `custody/` can end a receive in
any other way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.verify.bag import SignedBag
from appliance.verify.freshness import CustodyAcceptance
from media import canonical, custody, dsse, layout, limits
from media.clock import to_text
from media.custody import CustodyEntry, HandOverKind
from media.digest import sha256_hex
from media.errors import CustodyError, MalformedError, SealiftError
from media.people import People, Role
from media.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCustody:
    """What the custody of one volume says.

    Args:
        volume: Its number.
        entries: The hand-overs that could be read, in order.
        findings: What a person must judge.
        files: The hand-overs' files as they were, to be kept with the release.
    """

    volume: int
    entries: tuple[CustodyEntry, ...]
    findings: tuple[str, ...]
    files: dict[str, bytes]


def rehearsal_level(untrusted: bytes | None, people: People, payload_digest: str) -> str | None:
    """Return the level that the signed rehearsal states; None when there is no rehearsal.

    Raises:
        BadSignatureError: It is not signed by a person who may rehearse.
        MalformedError, LimitExceededError: It does not read, or is about another payload.
    """
    if untrusted is None:
        return None
    what = "The rehearsal"
    statement = dsse.verify(untrusted, people, Role.REHEARSAL, payload_type=dsse.INTOTO)
    value = canonical.mapping(canonical.loads(statement.payload, allow_floats=True), what)
    predicate = canonical.mapping(value.get("predicate"), what)
    if canonical.sha256_hex(predicate.get("payload_digest"), what) != payload_digest:
        raise MalformedError(
            what="the rehearsal is about another payload",
            why=f"expected {payload_digest[:12]}, found {str(predicate.get('payload_digest'))[:12]}",
            fix="ask the sender for a release with its own rehearsal",
        )
    return canonical.text(predicate.get("level"), what, most=64)


def read_custody(bag: SignedBag, volume: Volume, people: People, release: str) -> VolumeCustody:
    """Return what a volume's sealed entry and hand-overs say; what is wrong is a finding, never an exception."""
    findings: list[str] = []
    files: dict[str, bytes] = {}
    sealed_sha256 = _sealed(bag, volume, people, findings)
    if not bag.bag.top.has_custody:
        findings.append("there is no folder custody/")
    else:
        files = _files(bag, findings)
    entries: tuple[CustodyEntry, ...] = ()
    try:
        facts = custody.read_chain(list(files.values()), people, sealed_sha256, volume.id)
        entries = facts.entries
        findings += facts.findings
    except SealiftError as error:
        findings.append(f"unreadable: {error.what}")
    names = {sha256_hex(content): name for name, content in files.items()}
    findings += [
        f"entry {entry.hand_over.entry} lies under another name than its own"
        for entry in entries
        if names.get(entry.sha256) != entry.file_name
    ]
    if any(entry.hand_over.release != release for entry in entries):
        findings.append("an entry is about another release")
    return VolumeCustody(volume=volume.number, entries=entries, findings=tuple(findings), files=files)


def require_custody(volumes: Sequence[VolumeCustody], acceptance: CustodyAcceptance | None) -> None:
    """Stop for a person when there is a finding that nobody has accepted.

    Raises:
        CustodyError: There is.
    """
    findings = [f"volume {each.volume}: {finding}" for each in volumes for finding in each.findings]
    if not findings:
        return
    if acceptance is None or not acceptance.name.strip() or not acceptance.reason.strip():
        raise CustodyError(
            what=f"custody needs a person's decision: {findings[0]}",
            why="; ".join(findings[1:])[:800] or "bytes and signatures are judged apart from this",
            fix="look at seals and paper forms, then --accept-custody NAME --reason TEXT, or return the medium",
        )


def custody_json(volumes: Sequence[VolumeCustody], acceptance: CustodyAcceptance | None) -> dict[str, Any]:
    """Return custody as the ledger and the receipt hold it."""
    findings = [f"volume {each.volume}: {finding}" for each in volumes for finding in each.findings]
    accepted = acceptance if findings else None
    return {
        "complete": not findings,
        "entries": [_entry(each.volume, entry) for each in volumes for entry in each.entries],
        "findings": findings,
        "accepted_by": None if accepted is None else {"name": accepted.name, "reason": accepted.reason},
    }


def _sealed(bag: SignedBag, volume: Volume, people: People, findings: list[str]) -> str:
    name = layout.sealed_custody_name(volume.number)
    if name not in bag.tags:
        findings.append("there is no sealed entry")
        return ""
    try:
        entry = custody.read_entry(bag.bag.file(name), people)
    except SealiftError as error:
        findings.append(f"the sealed entry is unreadable: {error.what}")
    else:
        if entry.hand_over.kind != HandOverKind.SEALED or entry.hand_over.volume != volume.id:
            findings.append("the sealed entry is about another volume")
    return bag.tags[name]


def _files(bag: SignedBag, findings: list[str]) -> dict[str, bytes]:
    medium = bag.bag.medium
    found: dict[str, bytes] = {}
    try:
        names = sorted(medium.files(layout.CUSTODY))
        if len(names) > limits.CUSTODY_ENTRIES:
            findings.append(f"there are more than {limits.CUSTODY_ENTRIES} entries")
            return {}
        for name in names:
            if layout.custody_number(name) is None:
                findings.append(f"{name} is no hand-over's file")
            else:
                found[name] = medium.read(f"{layout.CUSTODY}/{name}", limit=limits.CUSTODY_ENTRY_BYTES)
    except SealiftError as error:
        findings.append(f"unreadable: {error.what}")
    return found


def _entry(volume: int, entry: CustodyEntry) -> dict[str, Any]:
    said = entry.hand_over
    return {
        "volume": volume,
        "entry": said.entry,
        "kind": str(said.kind),
        "from": said.from_,
        "to": said.to,
        "at": to_text(said.at),
        "place": said.place,
        "seals": list(said.seals),
        "method": str(said.method),
        "sha256": entry.sha256,
    }
