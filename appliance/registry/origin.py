"""Where a stored release came from, verified again from what the store kept, with no medium and no network.

Everything is judged by the root that this box pinned and the chain in its trust record, up to the root that was trusted
when the release was signed; nothing the store says of a release is believed without the signature over it. Each
function is one step of a proof: it returns what it found, or raises what is wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.config import Config
from appliance.errors import ProofError, StoreDamagedError
from appliance.store.content import StoredRelease
from appliance.verify import trust
from appliance.verify.evidence import as_recorded, rehearsal_level
from appliance.verify.metadata import TrustChain, read_role, root_by_root
from appliance.verify.sitecustody import paper_from
from appliance.verify.tuforder import RoleFile
from media import bagit, canonical, custody, layout, limits
from media.custody import CustodyEntry, PaperEntry
from media.digest import payload_digest, same, sha256_hex
from media.errors import (
    BadSignatureError,
    DigestMismatchError,
    ExtraFileError,
    MediaError,
    MissingFileError,
    NoTrustError,
    SamePersonError,
    SealiftError,
    ThresholdError,
)
from media.openpgp import verify_detached
from media.people import Person, Role
from media.release import ReleaseTerms, Target
from media.volume import VolumeIndex

_READ_AGAIN: Final = "receive the release again from its medium; the running service is untouched"
_OWN_FILES: Final = (layout.BAGIT, layout.BAG_INFO, layout.MANIFEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTerms:
    """What release people signed with TUF: terms, targets, volumes, and who they are."""

    terms: ReleaseTerms
    targets: Mapping[str, Target]
    index: VolumeIndex
    signers: tuple[Person, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedVolume:
    """One volume whose tag manifest was verified again; `code` is the manifest's digest."""

    number: int
    id: str
    code: str
    signers: tuple[Person, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHandOvers:
    """Who carried one volume, by signed entries, and what is odd about the chain."""

    number: int
    entries: tuple[CustodyEntry, ...]
    findings: tuple[str, ...]


def chain_for(config: Config, stored: StoredRelease) -> TrustChain:
    """Return the roots up to the one under which the release was received, verified from the pinned one on.

    Raises:
        NoTrustError: No root is pinned, the record is lost, or it is older than the release.
        MediaError, TrustError: The chain does not hold together.
    """
    record = trust.load(config.at.trust, config.at.pinned_trust, may_begin=False)
    wanted = canonical.integer(stored.facts.get("root_version"), "release.json.root_version", minimum=1)
    for untrusted_chain in (record.root_chain, *reversed(record.former)):
        chain = _up_to(untrusted_chain, wanted, config.environment)
        if chain is not None and (not record.former or _signed_under(untrusted_chain, wanted, config, stored)):
            return chain
    raise NoTrustError(
        what=f"this box does not believe root {wanted}",
        why=f"its chain has {len(record.root_chain)} roots",
        fix="two people recover the trust record",
    )


def _up_to(untrusted_chain: tuple[str, ...], version: int, environment: str) -> TrustChain | None:
    return next((chain for chain in root_by_root(untrusted_chain, environment) if chain.version == version), None)


def _signed_under(untrusted_chain: tuple[str, ...], version: int, config: Config, stored: StoredRelease) -> bool:
    """Tell whether this chain's people signed the release; two epochs may both have a root of its version."""
    chain = _up_to(untrusted_chain, version, config.environment)
    try:
        return chain is not None and bool(signed_terms(stored, chain).signers)
    except (BadSignatureError, ThresholdError, SamePersonError):
        return False


def signed_terms(stored: StoredRelease, chain: TrustChain) -> SignedTerms:
    """Return what the metadata says, once people, payload and index agree with what the store holds.

    Raises:
        MediaError, TrustError: A signature does not hold or a file is not of the fixed shape.
        StoreDamagedError: The store's record names other files than people signed.
    """
    timestamp = read_role(_read(stored, layout.TIMESTAMP), "timestamp")
    snapshot = _role_at(stored, timestamp, "snapshot.json")
    targets_file = _role_at(stored, snapshot, "targets.json")
    signers = chain.load_release(timestamp, snapshot, targets_file)["targets"]
    terms, targets = ReleaseTerms.with_targets(targets_file.signed)
    index = VolumeIndex.from_bytes(_read(stored, layout.VOLUMES))
    index.require_covers(targets)
    found = payload_digest((path, target.length, target.sha256) for path, target in targets.items())
    if not same(found, terms.payload_digest) or index.payload_digest != terms.payload_digest:
        raise DigestMismatchError(
            what=f"release {terms.release}: the payload digest is not that of its targets",
            why=f"expected {terms.payload_digest[:12]}, found {found[:12]}",
            fix=_READ_AGAIN,
        )
    payload = {path: (each.length, each.sha256) for path, each in targets.items() if path.startswith("data/")}
    if payload != {path: (file.length, file.sha256) for path, file in stored.files.items()}:
        raise StoreDamagedError(
            what=f"the record of stored release {stored.serial} names other files than people signed",
            why="release.json and targets differ",
            fix=_READ_AGAIN,
        )
    return SignedTerms(terms=terms, targets=targets, index=index, signers=signers)


def signed_volumes(stored: StoredRelease, chain: TrustChain, index: VolumeIndex) -> tuple[SignedVolume, ...]:
    """Return each volume's id and signers, every kept file compared with the tag manifest they signed.

    Raises:
        BadSignatureError, ThresholdError, SamePersonError: The people who must have signed did not.
        MediaError: A kept file is missing, is not what was signed, or was signed by nobody.
    """
    return tuple(_signed_volume(stored, chain, number=each.number, volume_id=each.id) for each in index.volumes)


def paper_of(
    recorded: Mapping[str, Any], index: VolumeIndex, entered: Callable[[str], Iterable[Mapping[str, Any]]]
) -> tuple[PaperEntry, ...]:
    """Return the hand-overs on paper that counted in a receive: those that its record lists under `custody`.

    The record holds them shortened, and a shortened name or list of seals is another one. So each is taken from the
    record of its own, where there is one.

    Args:
        recorded: What the receive recorded under `custody`.
        index: The signed index.
        entered: Returns what was ever entered from paper of the volume of an id.

    Raises:
        MalformedError: One is not in its form.
    """
    ids: dict[Any, str] = {volume.number: volume.id for volume in index.volumes}
    listed = [canonical.mapping(one, "custody.paper") for one in canonical.array(recorded.get("paper", []), "custody")]
    held = [paper_from({**one, "volume": ids.get(one.get("volume"))}) for one in listed]
    whole: dict[PaperEntry, PaperEntry] = {}
    for volume in {one.volume for one in held}:
        for body in entered(volume):
            with suppress(MediaError):  # of a release of before, which counted in no receive
                paper = paper_from({**body, "sequence": -1})
                whole.setdefault(as_recorded(paper), paper)
    return tuple(replace(whole.get(replace(one, sequence=-1), one), sequence=one.sequence) for one in held)


def hand_overs(
    stored: StoredRelease,
    chain: TrustChain,
    index: VolumeIndex,
    *,
    only: frozenset[str] | None = None,
    paper: Sequence[PaperEntry] = (),
) -> tuple[VolumeHandOvers, ...]:
    """Return who carried each volume; what is odd about a chain, or not to be read, is a finding as at the receive.

    Args:
        stored: The release as it is kept.
        chain: Of the trusted root.
        index: The signed index.
        only: The hand-overs that are meant, by the SHA-256 of each, all of which must be here; by default every one.
        paper: Those on paper that counted in the receive.

    Raises:
        ProofError: One that is meant is not here.
    """
    found = []
    missing = set(only or ())
    for volume in index.volumes:
        folder = stored.folder / layout.CUSTODY / str(volume.number)
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        sealed_sha256, findings = _sealed(stored, chain, index, volume.number)
        entries = [path.read_bytes()[: limits.CUSTODY_ENTRY_BYTES + 1] for path in files]
        if only is not None:
            entries = [entry for entry in entries if sha256_hex(entry) in only]
            missing -= {sha256_hex(entry) for entry in entries}
        carried: tuple[CustodyEntry, ...] = ()
        try:
            facts = custody.read_chain(entries, chain.people, sealed_sha256, volume.id, paper=paper)
            carried, findings = facts.entries, (*findings, *facts.findings)
        except SealiftError as error:
            findings = (*findings, f"unreadable: {error.what}")
        found.append(VolumeHandOvers(number=volume.number, entries=carried, findings=findings))
    if missing:
        raise ProofError(
            what=f"{len(missing)} hand-overs that were recorded are not kept on this box",
            why=f"sha256 {min(missing)[:12]}",
            fix="they are on the medium, and in the store of the box that received it from there",
        )
    return tuple(found)


def are_kept(recorded: Mapping[str, Any], stored: StoredRelease, index: VolumeIndex) -> bool:
    """Tell whether the hand-overs' files are those that were received; a record of a release of before names none.

    They are others where a box that was lost received its release again from another copy.
    """
    folders = [(volume.number, stored.folder / layout.CUSTODY / str(volume.number)) for volume in index.volumes]
    kept = [
        [number, path.name, sha256_hex(path.read_bytes())]
        for number, folder in folders
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
    ]
    return recorded.get("files_sha256") in {None, sha256_hex(canonical.dumps(kept))}


def _sealed(stored: StoredRelease, chain: TrustChain, index: VolumeIndex, number: int) -> tuple[str, tuple[str, ...]]:
    """Return the digest of what the first hand-over follows, and what is odd about that."""
    try:
        sealed = _read(stored, index.sealed_entry(number))
    except MissingFileError:
        return "", ("there is no sealed entry",)
    try:
        custody.read_entry(sealed, chain.people)
    except SealiftError as error:
        return sha256_hex(sealed), (f"the sealed entry is unreadable: {error.what}",)
    return sha256_hex(sealed), ()


def rehearsed(stored: StoredRelease, chain: TrustChain, terms: ReleaseTerms) -> str | None:
    """Return the level that the signed rehearsal states; None when there is none.

    Raises:
        BadSignatureError, MalformedError: It does not verify, or is about another payload.
    """
    path = stored.folder / layout.attestation_name("rehearsal")
    untrusted = path.read_bytes() if path.exists() else None
    return rehearsal_level(untrusted, chain.people, terms.payload_digest)


def _signed_volume(stored: StoredRelease, chain: TrustChain, *, number: int, volume_id: str) -> SignedVolume:
    own = stored.folder / "volumes" / str(number)
    manifest = _read(stored, f"volumes/{number}/{layout.TAG_MANIFEST}")
    certificates = chain.people.certificates(Role.RELEASE)
    signatures = sorted(path for path in own.iterdir() if layout.signer_of(path.name) is not None)
    made_by = [verify_detached(path.read_bytes(), manifest, certificates).fingerprint for path in signatures]
    signers = chain.people.require_signers(made_by, Role.RELEASE, chain.people.thresholds["release"])
    tags = bagit.parse_manifest(manifest)
    for path, digest in tags.items():
        kept = f"volumes/{number}/{path}" if path in _OWN_FILES else path
        if not same(sha256_hex(_read(stored, kept)), digest):
            raise DigestMismatchError(
                what=f"{path} of volume {number} is not what people signed",
                why=f"expected sha256 {digest[:12]}",
                fix=_READ_AGAIN,
            )
    shared = [stored.folder / name for name in (layout.METADATA, layout.ATTEST, layout.CHECK)]
    kept_files = {
        path.relative_to(stored.folder).as_posix() for top in shared for path in top.rglob("*") if path.is_file()
    }
    if extra := sorted(kept_files - tags.keys()):
        raise ExtraFileError(what=f"{extra[0]} in the store was signed by nobody", why="", fix=_READ_AGAIN)
    info = bagit.parse_bag_info(_read(stored, f"volumes/{number}/{layout.BAG_INFO}"))
    if (info.number, info.volume_id) != (number, volume_id):
        raise DigestMismatchError(
            what=f"what is kept of volume {number} is of another volume", why=info.volume_id[:16], fix=_READ_AGAIN
        )
    return SignedVolume(number=number, id=volume_id, code=sha256_hex(manifest), signers=signers)


def _role_at(stored: StoredRelease, parent: RoleFile, name: str) -> RoleFile:
    version = int(parent.signed["meta"][name]["version"])
    role = name.removesuffix(".json")
    place = layout.snapshot_name(version) if role == "snapshot" else layout.targets_name(version)
    return read_role(_read(stored, place), role)


def _read(stored: StoredRelease, name: str) -> bytes:
    try:
        with (stored.folder / name).open("rb") as file:
            return file.read(limits.ENVELOPE_BYTES + 1)
    except OSError as error:
        raise MissingFileError(
            what=f"{name} of stored release {stored.serial} is missing",
            why=error.strerror or "",
            fix=_READ_AGAIN,
        ) from error


def to_facts(volumes: tuple[VolumeHandOvers, ...]) -> list[dict[str, Any]]:
    """Return hand-overs as values for answers."""
    return [
        {
            "volume": volume.number,
            "entry": entry.hand_over.entry,
            "kind": str(entry.hand_over.kind),
            "from": entry.hand_over.from_,
            "to": entry.hand_over.to,
            "at": entry.hand_over.at.isoformat(),
            "place": entry.hand_over.place,
            "method": str(entry.hand_over.method),
        }
        for volume in volumes
        for entry in volume.entries
    ]
