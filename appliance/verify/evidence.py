"""What people said about a release besides signing it: the rehearsal, and who carried each volume.

The rehearsal is read for its level, which a site's policy judges. Custody is evidence about carriers, never an input to
trust in bytes: whatever is wrong with it becomes a finding for a person, and nothing in `custody/` can end a receive in
any other way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.verify.bag import SignedBag
from appliance.verify.freshness import CustodyAcceptance
from appliance.verify.sitecustody import (
    NOTHING_KNOWN,
    SiteCustody,
    chain_head,
    head_finding,
    recorded_seals,
    seals_finding,
)
from media import canonical, custody, dsse, layout, limits
from media.clock import to_text
from media.custody import CustodyEntry, HandOver, HandOverKind, PaperEntry
from media.digest import sha256_hex
from media.errors import CustodyError, MalformedError, SealiftError
from media.people import People, Role
from media.volume import Volume, VolumeIndex

# What a record says of custody stays below a few hundred kilobytes, also when every character takes four bytes.
_MOST_LISTED: Final = 64
_MOST_SEALS: Final = 8
_TEXT_CHARS: Final = 80
_FINDING_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCustody:
    """What the custody of one volume says.

    Args:
        volume: Its number.
        entries: The hand-overs that could be read, in order.
        findings: What a person must judge.
        files: The hand-overs' files as they were, to be kept with the release.
        head: What the last holder reads out of the chain.
        paper: Hand-overs that the site entered from paper.
        seals_recorded: The seals that the volume must bear.
        seals_found: The seals that a person saw on it; None when nobody looked.
        head_given: The head as its last holder named it; None when nobody did.
    """

    volume: int
    entries: tuple[CustodyEntry, ...]
    findings: tuple[str, ...]
    files: dict[str, bytes]
    head: str = ""
    paper: tuple[PaperEntry, ...] = ()
    seals_recorded: tuple[str, ...] = ()
    seals_found: tuple[str, ...] | None = None
    head_given: str | None = None


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


def read_custody(
    bag: SignedBag, volume: Volume, people: People, index: VolumeIndex, *, site: SiteCustody = NOTHING_KNOWN
) -> VolumeCustody:
    """Return what a volume's sealed entry and hand-overs say; what is wrong is a finding, never an exception.

    Args:
        bag: The volume.
        volume: The same, from the signed index.
        people: Of the trusted root.
        index: The signed index.
        site: What people of the site know of it apart from it.
    """
    paper = tuple(each for each in site.paper if each.volume == volume.id)
    release = index.release
    findings: list[str] = []
    files: dict[str, bytes] = {}
    sealed_sha256, sealed = _sealed(bag, volume, people, findings, name=index.sealed_entry(volume.number))
    if sealed is not None and sealed.release != release:
        findings.append("the sealed entry is about another release")
    if bag.bag.top.has_odd_custody:
        findings.append("custody is no folder of the volume")
    elif not bag.bag.top.has_custody:
        findings.append("there is no folder custody/")
    else:
        files = _files(bag, findings)
    entries: tuple[CustodyEntry, ...] = ()
    try:
        facts = custody.read_chain(list(files.values()), people, sealed_sha256, volume.id, sealed=sealed, paper=paper)
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
    recorded = recorded_seals(entries, sealed, paper)
    found, given = site.seals.get(volume.number), site.heads.get(volume.number)
    for finding in (seals_finding(found, recorded), head_finding(given, entries, sealed_sha256)):
        findings += [finding] if finding is not None else []
    if volume.id in site.rejected:
        findings.append("this site has rejected this volume")
    return VolumeCustody(
        volume=volume.number,
        entries=entries,
        findings=tuple(findings),
        files=files,
        head=chain_head(entries, sealed_sha256),
        paper=paper,
        seals_recorded=recorded,
        seals_found=found,
        head_given=given,
    )


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
    """Return custody as the ledger and the receipt hold it: short, whatever people wrote into their entries.

    The store keeps the hand-overs' own files; `files_sha256` names all of them, in the order of volumes and numbers.
    """
    findings = [f"volume {each.volume}: {finding}" for each in volumes for finding in each.findings]
    entries = [(each.volume, entry) for each in volumes for entry in each.entries]
    files = [[each.volume, name, sha256_hex(raw)] for each in volumes for name, raw in sorted(each.files.items())]
    accepted = acceptance if findings else None
    return {
        "complete": not findings,
        "entries": [_entry(volume, entry) for volume, entry in entries[:_MOST_LISTED]],
        "entries_in_all": len(entries),
        "findings": [_short(finding, _FINDING_CHARS) for finding in findings[:_MOST_LISTED]],
        "findings_in_all": len(findings),
        "files_sha256": sha256_hex(canonical.dumps(files)),
        "paper": [_paper(each.volume, entry) for each in volumes for entry in each.paper][:_MOST_LISTED],
        "looked_at": [_looked_at(each) for each in volumes],
        "accepted_by": None if accepted is None else {"name": accepted.name, "reason": accepted.reason},
    }


def _sealed(
    bag: SignedBag, volume: Volume, people: People, findings: list[str], *, name: str
) -> tuple[str, HandOver | None]:
    """Return the digest of the file that the first hand-over follows, and what it says where that can be read."""
    if name not in bag.tags:
        findings.append("there is no sealed entry")
        return "", None
    said = None
    try:
        entry = custody.read_entry(bag.bag.file(name), people)
    except SealiftError as error:
        findings.append(f"the sealed entry is unreadable: {error.what}")
    else:
        said = entry.hand_over
        if entry.hand_over.kind != HandOverKind.SEALED or entry.hand_over.volume != volume.id:
            findings.append("the sealed entry is about another volume")
    return bag.tags[name], said


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
        "from": _short(said.from_),
        "to": _short(said.to),
        "at": to_text(said.at),
        "place": _short(said.place),
        "seals": [_short(seal) for seal in said.seals[:_MOST_SEALS]],
        "method": str(said.method),
        "sha256": entry.sha256,
    }


def as_recorded(paper: PaperEntry) -> PaperEntry:
    """Return a hand-over on paper as the record of a receive holds it: its texts shortened, of its seals the first."""
    return replace(
        paper,
        from_=_short(paper.from_),
        to=_short(paper.to),
        seals=tuple(_short(seal) for seal in paper.seals[:_MOST_SEALS]),
        entered_by=_short(paper.entered_by),
    )


def _paper(volume: int, entry: PaperEntry) -> dict[str, Any]:
    held = as_recorded(entry)
    return {
        "volume": volume,
        "from": held.from_,
        "to": held.to,
        "at": to_text(held.at),
        "seals": list(held.seals),
        "entered_by": held.entered_by,
        "sequence": held.sequence,
    }


def _looked_at(each: VolumeCustody) -> dict[str, Any]:
    """Return what people compared on one volume, and what they could have."""
    found = each.seals_found
    return {
        "volume": each.volume,
        "head": each.head,
        "head_given": each.head_given,
        "seals_recorded": [_short(seal) for seal in each.seals_recorded[:_MOST_SEALS]],
        "seals_found": None if found is None else [_short(seal) for seal in found[:_MOST_SEALS]],
        "seals_agree": None if found is None else seals_finding(found, each.seals_recorded) is None,
    }


def _short(text: str, most: int = _TEXT_CHARS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
