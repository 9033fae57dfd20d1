"""Statements about a release, signed by the people who made them, before anyone signs the release itself.

The build leaves unsigned statements (provenance, SBOM, scan, rehearsal); choosing the volumes adds one sealed custody
entry for each, with the seal numbers reserved for it. All of them become targets of the release, so they rest before
round one. A statement that is signed is never signed again.
"""

import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import SigningError
from bundler.measure import Progress, measure_tree, no_progress
from bundler.metadata import require_planned
from bundler.plan import ReleasePlan
from bundler.privatekeys import OwnKeys
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice, plan_volumes
from bundler.workfolder import WorkFolder, keep_signed, put
from media import dsse, layout
from media.clock import Clock
from media.custody import HandOver, HandOverKind, Method
from media.errors import SealiftError
from media.people import Person, Role
from media.volume import VolumeIndex

SEALED = "custody-sealed-"
_ROLE_OF = {"rehearsal": Role.REHEARSAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What one person signed now, and what still waits for another."""

    signed: tuple[str, ...]
    waiting: tuple[str, ...]


def choose_volumes(
    work: WorkFolder,
    packer_id: str,
    choice: VolumeChoice,
    *,
    ceremony: Ceremony,
    clock: Clock,
    place: str,
    progress: Progress = no_progress,
) -> VolumeIndex:
    """Fix the volumes of a release and leave a sealed custody statement for each, for the packer to sign.

    Raises:
        SigningError: The volumes are fixed already, or the packer may not enter custody.
        CapacityError: The release does not fit.
        UsageError: A seal is reserved for a volume that is not there.
        MalformedError: A seal's number cannot be kept.
    """
    packer = ceremony.person(packer_id)
    if Role.CUSTODY not in packer.roles:
        raise SigningError(what=f"{packer.name} may not pack media", why="the root does not give the role custody")
    if work.volumes.exists():
        raise SigningError(
            what="the volumes of this release are fixed",
            why="custody entries name them",
            fix="leave out --capacity and --seal, or make the release again",
        )
    plan = ReleasePlan.load(work.plan)
    payload = measure_tree(work.data, prefix=layout.DATA, progress=progress)
    require_planned(plan, payload)
    index = plan_volumes(plan, payload, choice)
    choice.require_for(index)
    work.attest.mkdir(exist_ok=True)
    for volume in index.volumes:
        entry = HandOver(
            entry=0,
            previous="",
            release=plan.release,
            volume=volume.id,
            kind=HandOverKind.SEALED,
            from_=packer.name,
            to=packer.name,
            at=clock.now(),
            place=place,
            seals=choice.seals.get(volume.number, ()),
            condition="packed; these seal numbers are reserved for it",
            method=Method.SIGNED,
            entered_by=packer.id,
        )
        put(work.attest / f"{SEALED}{volume.number}.json", entry.to_payload())
    put(work.volumes, choice.to_bytes())
    return index


def attest(
    work: WorkFolder,
    person_id: str,
    *,
    ceremony: Ceremony,
    home: OwnKeys = None,
    only: Collection[str] = (),
) -> Attested:
    """Sign, as one person, the statements that they may sign and that nobody has signed yet.

    Args:
        work: The release.
        person_id: Who signs.
        ceremony: The root that names them.
        home: Their GnuPG home or all places of their keys; the throwaway home of the ceremony folder if not given.
        only: Names of statements (`provenance`, `sbom`, …) when they are not all this person's.

    Raises:
        SigningError: The volumes are not chosen, the metadata is frozen, or the key did not sign.
    """
    if work.is_frozen:
        raise _frozen()
    VolumeChoice.load(work)
    signatory = ceremony.signatory(person_id, home)
    signed, waiting = [], []
    with signatory.at_hand() as at_hand:
        for path in statements(work):
            envelope = envelope_of(path)
            if envelope.exists():
                continue
            mine = (not only or path.stem in only) and _may_sign(path, signatory.person)
            if not mine:
                waiting.append(path.stem)
                continue
            payload_type = dsse.CUSTODY if path.stem.startswith(SEALED) else dsse.INTOTO
            try:
                made = dsse.sign(payload_type, path.read_bytes(), *at_hand.signers("release"))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                raise at_hand.could_not_sign() from error
            keep_signed(envelope, made)
            signed.append(path.stem)
    return Attested(signed=tuple(signed), waiting=tuple(waiting))


def would_attest(work: WorkFolder, person_id: str, *, ceremony: Ceremony, only: Collection[str] = ()) -> Attested:
    """Return what `attest` would let this person sign, and what waits for another; use no key, change nothing.

    Raises:
        SigningError: The root does not name the person, or the metadata is frozen.
    """
    if work.is_frozen:
        raise _frozen()
    person = ceremony.person(person_id)
    open_ = [path for path in statements(work) if not envelope_of(path).exists()]
    mine = {path.stem for path in open_ if (not only or path.stem in only) and _may_sign(path, person)}
    stems = [path.stem for path in open_]
    return Attested(
        signed=tuple(stem for stem in stems if stem in mine), waiting=tuple(stem for stem in stems if stem not in mine)
    )


def require_attested(work: WorkFolder, *, ceremony: Ceremony) -> dict[str, dsse.Statement]:
    """Return every statement by its name on the medium, once each is signed by someone who may.

    Raises:
        SigningError: A statement is not signed, was changed after it was, or is signed by someone who may not.
    """
    found: dict[str, dsse.Statement] = {}
    waiting = [path.stem for path in statements(work) if not envelope_of(path).is_file()]
    if waiting:
        raise SigningError(
            what=f"{waiting[0]} is not signed",
            why=f"{len(waiting)} statements wait for the people who made them",
            fix="run: sealift-bundler attest WORK --person ID",
        )
    for path in statements(work):
        envelope = envelope_of(path)
        try:
            statement = dsse.verify(envelope.read_bytes(), ceremony.people, role_of(path.stem))
        except SealiftError as error:
            raise SigningError(
                what=f"{path.stem} is not signed by someone who may: {error.what}", why=error.why
            ) from error
        if statement.payload != path.read_bytes():
            raise SigningError(
                what=f"{path.stem} was changed after it was signed",
                why="the envelope holds other bytes",
                fix=f"remove {envelope.name} and let its maker sign again",
            )
        found[f"{layout.ATTEST}/{envelope.name}"] = statement
    return found


def statements(work: WorkFolder) -> list[Path]:
    """Return the statements of a release, signed or not, by name."""
    every = work.attest.glob("*.json") if work.attest.is_dir() else ()
    return sorted(path for path in every if not path.name.endswith(layout.ENVELOPE_SUFFIX))


def envelope_of(statement: Path) -> Path:
    """Return where a statement's signed envelope lies."""
    return statement.with_name(f"{statement.stem}{layout.ENVELOPE_SUFFIX}")


def role_of(name: str) -> str:
    """Return which role a person needs to sign a statement of this name."""
    if name.startswith(SEALED):
        return Role.CUSTODY
    return _ROLE_OF.get(name, Role.RELEASE)


def _frozen() -> SigningError:
    return SigningError(what="the metadata of this release is frozen", why="statements rest before round one")


def _may_sign(path: Path, person: Person) -> bool:
    if path.stem.startswith(SEALED):
        return HandOver.from_payload(path.read_bytes()).entered_by == person.id
    return role_of(path.stem) in person.roles
