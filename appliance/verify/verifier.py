"""The order in which a medium is believed (docs/design.md 3): nothing is used before the step that vouches for it.

1. root chain: each next root signed by the people of the one before and by its own; a rotation is reported at once
2. raw OpenPGP signatures over each volume's tag manifest, people counted by the trusted root
3. tag manifest over metadata/, attest/ and check/; the names of all other files
4. metadata of the fixed shape, python-tuf, people counted again
5. the signed index: targets, parts and volumes say the same
6. site and machine, rehearsal level
7. serial against the record, date against max(clock, floor)
8. all volumes there, each once, of this release
9. custody, which stops for a person
What comes after, room and bytes, is the store's; a `VerifiedRelease` is its permission.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from appliance.verify.bag import SignedBag, UntrustedBag, count_signatures, require_listed, require_signed
from appliance.verify.evidence import VolumeCustody, read_custody, rehearsal_level, require_custody
from appliance.verify.fit import Machine, require_fit, require_rehearsed, require_site
from appliance.verify.freshness import Decisions, require_fresh, require_not_superseded, require_own_timestamp
from appliance.verify.medium import Medium
from appliance.verify.metadata import TrustChain, read_role
from appliance.verify.sitecustody import SiteCustody
from appliance.verify.steps import Check, OnStep, unheard
from appliance.verify.trust import TrustRecord
from appliance.verify.tuforder import RoleFile
from appliance.verify.verified import VerifiedRelease, made_by_the_verifier
from media import layout
from media.digest import same
from media.errors import (
    CustodyError,
    DigestMismatchError,
    MalformedError,
    MissingFileError,
    MissingVolumeError,
    SealiftError,
    WrongVolumeError,
)
from media.people import Person
from media.release import Kind, ReleaseTerms, StaleAfter, Target
from media.volume import Volume, VolumeIndex

_SHARED: Final = (f"{layout.METADATA}/", f"{layout.ATTEST}/", f"{layout.CHECK}/")
_MAX_ROTATIONS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What this box holds a release against.

    Args:
        trust: The trust record.
        site: This site.
        environment: demo, rehearsal or production.
        machine: This machine.
        level: The rehearsal level that the site demands; None while rehearsing.
        serial_jump: How far ahead of the record a serial may be.
        now: The clock, read once for the whole receive.
        floor: The latest time known to have been; at least the record's.
        decisions: What people of the site decided about this receive.
        custody: What people of the site know of the volumes apart from them.
    """

    trust: TrustRecord
    site: str
    environment: str
    machine: Machine
    level: str | None
    serial_jump: int
    now: datetime
    floor: datetime
    decisions: Decisions
    custody: SiteCustody = field(default_factory=SiteCustody)


OnRoot = Callable[[tuple[str, ...]], None]
OnNamed = Callable[[ReleaseTerms], None]
Kept = Callable[[Sequence[Volume]], Sequence[Medium]]


def verify_medium(
    volumes: Sequence[Medium],
    terms: Terms,
    *,
    on_root: OnRoot,
    on_named: OnNamed = lambda _: None,
    on_step: OnStep = unheard,
    may_miss: bool = False,
    kept: Kept = lambda _: (),
) -> VerifiedRelease:
    """Return the release on these volumes, if this box may copy it.

    Args:
        volumes: The mounted volumes, in any order.
        terms: What to hold the release against.
        on_root: Called once with the new chain when the medium brought a verified rotation of the root.
        on_named: Called once it is certain which release this is, so that a refusal after that can name it.
        on_step: Called when a check begins; the one before it held then.
        may_miss: Let volumes be missing; the release then says which, and cannot be completed.
        kept: Returns what the store has of the missing volumes that it is given; verified like all others.

    Raises:
        MediaError: The volumes are not a release, or not a whole one.
        TrustError: The release is not to be trusted, not for this box, or not now.
    """
    if not volumes:
        raise MissingVolumeError(what="no volume was given", why="", fix="give the folder of each mounted volume")
    on_step(Check.OPENED)
    bags = [UntrustedBag(medium) for medium in volumes]
    on_step(Check.ROOT)
    chain = _root_chain(bags[0], terms, on_root)
    on_step(Check.SIGNATURES)
    signers = [count_signatures(bag, chain.people) for bag in bags]
    on_step(Check.FILES)
    signed = [require_listed(bag, people) for bag, people in zip(bags, signers, strict=True)]
    _require_one_release(signed)
    first = signed[0]
    on_step(Check.METADATA)
    release, stale_after, targets, metadata_signers = _release(first, chain)
    on_named(release)
    on_step(Check.INDEX)
    index = _index(first, release, targets)
    on_step(Check.SITE)
    require_site(release, terms.site)
    on_step(Check.MACHINE)
    machine = require_fit(release, terms.machine)
    on_step(Check.REHEARSAL)
    rehearsal = first.bag.file(name) if (name := layout.attestation_name("rehearsal")) in first.tags else None
    level = rehearsal_level(rehearsal, chain.people, release.payload_digest)
    has_models = any(each.kind == Kind.WEIGHTS for each in targets.values())
    require_rehearsed(level, demanded=terms.level, has_models=has_models)
    on_step(Check.VOLUMES)
    terms.custody.require_volumes(len(index.volumes))
    ordered = _in_order(signed, index)
    mounted = {bag.info.number for bag in ordered}
    if lacking := [volume for volume in index.volumes if volume.number not in mounted]:
        ordered = _in_order([*signed, *_signed_before(kept(lacking), first, chain)], index)
    missing = _missing(ordered, index)
    on_step(Check.SERIAL)
    code = ordered[0].code if ordered[0].info.number == 1 else ""
    held = require_not_superseded(release, stale_after, terms.trust, jump=terms.serial_jump)
    is_news = not held or stale_after.version > terms.trust.timestamp_version
    on_step(Check.DATE)
    accepted_stale = is_news and require_fresh(
        stale_after,
        now=terms.now,
        floor=max(terms.floor, terms.trust.floor),
        code=code,
        acceptance=terms.decisions.stale,
    )
    if missing and not may_miss:
        raise _required(missing, index)
    on_step(Check.CUSTODY)
    custody = _custody(ordered, index, chain, terms.custody)
    if missing:
        _require_custody_alone(custody)
    elif is_news:
        require_custody(custody, terms.decisions.custody)
    return VerifiedRelease(
        terms=release,
        targets=targets,
        index=index,
        bags=tuple(bag.without_payload() for bag in ordered),
        code=code,
        environment=str(chain.people.environment),
        policy=chain.people.policy,
        root_version=chain.version,
        root_chain=chain.texts,
        timestamp_version=stale_after.version,
        stale_after=stale_after.at,
        accepted_stale=accepted_stale,
        signers=ordered[0].signers,
        metadata_signers=metadata_signers,
        targets_sha256=ordered[0].tags[layout.targets_name(release.serial)],
        level=level,
        machine=machine.profile,
        custody=custody,
        decisions=terms.decisions,
        held=held,
        missing=missing,
        kept=frozenset(bag.info.number for bag in ordered) - mounted,
        token=made_by_the_verifier(),
    )


def _root_chain(bag: UntrustedBag, terms: Terms, on_root: OnRoot) -> TrustChain:
    chain = TrustChain(terms.trust.root_chain, terms.environment, untrusted_notes=terms.trust.notes)
    brought, begun = bag.roots(), chain.version
    while (path := brought.get(chain.version + 1)) and chain.version - begun < _MAX_ROTATIONS:
        chain.extend(bag.file(path))
    if brought and max(brought) > chain.version:
        raise MissingFileError(
            what=f"{bag.medium.label}: {layout.root_name(chain.version + 1)} is missing",
            why=f"the volume brings root {max(brought)}, this box believes root {chain.version}",
            fix="ask the sender for a medium with every root in between",
        )
    if chain.version != begun:
        replace(terms.trust, root_chain=chain.texts).require_storable()
        on_root(chain.texts)
    return chain


def _require_one_release(signed: Sequence[SignedBag]) -> None:
    first = signed[0]
    shared = _shared(first)
    for other in signed[1:]:
        if (other.info.release, other.info.serial) != (first.info.release, first.info.serial):
            raise _foreign(other, f"it is of release {other.info.release}, {first.label} of {first.info.release}")
        if _shared(other) != shared:
            raise _foreign(other, f"its metadata, attestations or check files differ from those of {first.label}")


def _shared(bag: SignedBag) -> dict[str, str]:
    return {path: digest for path, digest in bag.tags.items() if path.startswith(_SHARED)}


def _release(
    bag: SignedBag, chain: TrustChain
) -> tuple[ReleaseTerms, StaleAfter, dict[str, Target], tuple[Person, ...]]:
    timestamp = read_role(bag.bag.file(layout.TIMESTAMP), "timestamp")
    snapshot = _role_at(bag, timestamp, "snapshot.json", layout.snapshot_name)
    targets = _role_at(bag, snapshot, "targets.json", layout.targets_name)
    signers = chain.load_release(timestamp, snapshot, targets)
    if snapshot.version != targets.version:
        raise MalformedError(
            what="snapshot and targets have different versions",
            why=f"{snapshot.version} and {targets.version}; both are the serial",
            fix="do not use this medium; ask the sender for a new one",
        )
    release, listed = ReleaseTerms.with_targets(targets.signed)
    stale_after = StaleAfter.from_timestamp(timestamp.signed)
    require_own_timestamp(release, stale_after)
    return release, stale_after, listed, signers["targets"]


def _role_at(bag: SignedBag, parent: RoleFile, name: str, place: Callable[[int], str]) -> RoleFile:
    version = int(parent.signed["meta"][name]["version"])
    return read_role(bag.bag.file(place(version)), name.removesuffix(".json"))


def _index(bag: SignedBag, release: ReleaseTerms, targets: dict[str, Target]) -> VolumeIndex:
    """Return the index, once it, the targets and the attestations name exactly the same files."""
    index = VolumeIndex.from_bytes(bag.bag.file(layout.VOLUMES))
    if (index.release, index.serial, index.payload_digest) != (
        release.release,
        release.serial,
        release.payload_digest,
    ):
        raise WrongVolumeError(
            what=f"{bag.label}: the volume index is of another release than the metadata",
            why=f"release {index.release} serial {index.serial}, expected {release.release} serial {release.serial}",
            fix="do not use this medium; ask the sender for a new one",
        )
    index.require_covers(targets)
    attested = {path: target for path, target in targets.items() if path.startswith(f"{layout.ATTEST}/")}
    tagged = {path: digest for path, digest in bag.tags.items() if path.startswith(f"{layout.ATTEST}/")}
    for path in sorted(attested.keys() | tagged.keys()):
        target = attested.get(path)
        if target is None or path not in tagged or not same(tagged[path], target.sha256):
            raise DigestMismatchError(
                what=f"{bag.label}: {path} is not the attestation that was signed",
                why="targets and tag manifest differ on it",
                fix="do not use this medium; ask the sender for a new one",
            )
    return index.sharing(targets)


def _in_order(signed: Sequence[SignedBag], index: VolumeIndex) -> list[SignedBag]:
    """Return the volumes by number, each where the signed index says, with the parts that it says."""
    found: dict[int, SignedBag] = {}
    for bag in signed:
        volume = next((each for each in index.volumes if each.id == bag.info.volume_id), None)
        if volume is None or volume.number != bag.info.number or bag.info.count != len(index.volumes):
            raise _foreign(bag, "the signed index does not know it")
        if (bag.info.release, bag.info.serial) != (index.release, index.serial):
            raise _foreign(bag, f"its bag-info.txt is of release {bag.info.release} serial {bag.info.serial}")
        if volume.number in found:
            raise _foreign(bag, f"it is volume {volume.number}, as is {found[volume.number].label}")
        if (bag.info.payload_bytes, bag.info.payload_files) != (volume.payload_bytes, len(volume.parts)):
            raise _foreign(bag, f"its bag-info.txt counts other bytes than the index of volume {volume.number}")
        if dict(bag.payload) != {part.path: part.sha256 for part in volume.parts}:
            raise _foreign(bag, f"its payload manifest is not what the index says of volume {volume.number}")
        for part in volume.parts:
            size = bag.bag.sizes[part.path]
            if size != part.length:
                raise DigestMismatchError(
                    what=f"{bag.label}: {part.path} is not as long as signed",
                    why=f"expected {part.length} bytes, found {size}",
                    fix="ask the sender for a new copy of this volume",
                )
        found[volume.number] = bag
    return [found[number] for number in sorted(found)]


def _missing(ordered: Sequence[SignedBag], index: VolumeIndex) -> tuple[int, ...]:
    there = {bag.info.number for bag in ordered}
    return tuple(volume.number for volume in index.volumes if volume.number not in there)


def _required(missing: Sequence[int], index: VolumeIndex) -> MissingVolumeError:
    return MissingVolumeError(
        what=f"volume {', '.join(map(str, missing))} of {len(index.volumes)} is missing",
        why=f"release {index.release} lies on {len(index.volumes)} volumes",
        fix="mount all volumes and give each one's folder",
    )


def _signed_before(kept: Sequence[Medium], first: SignedBag, chain: TrustChain) -> list[SignedBag]:
    """Return the kept volumes that are signed as this very release is; any other has to be mounted again."""
    found = []
    for medium in kept:
        with suppress(SealiftError):
            bag = require_signed(UntrustedBag(medium), chain.people)
            _require_one_release([first, bag])
            found.append(bag)
    return found


def _require_custody_alone(custody: Sequence[VolumeCustody]) -> None:
    """Stop at any finding: what a person has to decide is decided once, with all volumes there."""
    for each in custody:
        for finding in each.findings:
            raise CustodyError(
                what=f"custody needs a person's decision: volume {each.volume}: {finding}",
                why="not all volumes are there, and one decision covers all of them",
                fix="mount all volumes, receive them in one call, and decide then",
            )


def _custody(
    ordered: Sequence[SignedBag], index: VolumeIndex, chain: TrustChain, site: SiteCustody
) -> tuple[VolumeCustody, ...]:
    volumes = {volume.number: volume for volume in index.volumes}
    return tuple(read_custody(bag, volumes[bag.info.number], chain.people, index, site=site) for bag in ordered)


def _foreign(bag: SignedBag, why: str) -> WrongVolumeError:
    return WrongVolumeError(
        what=f"{bag.label} does not belong to this set of volumes",
        why=why,
        fix="give the volumes of one release, each once",
    )
