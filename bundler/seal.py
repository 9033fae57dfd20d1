"""Round two: each person signs the tag manifest of every volume, with OpenPGP, for people and for gpgv.

What is signed was read again: every byte of the candidate and every tag file is compared with the manifests before the
key is used. When enough different people have sealed every volume, the trust sheet is written.
"""

from dataclasses import dataclass
from pathlib import Path

from bundler.deltacheck import require_sound
from bundler.errors import SigningError
from bundler.measure import Progress, no_progress, run_digest
from bundler.plan import ReleasePlan
from bundler.privatekeys import OwnKeys
from bundler.sheet import SheetSigner, SheetVolume, TrustSheet
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice
from bundler.volumefiles import PlannedFile, planned_files, signature_files, total_bytes, volume_index
from bundler.workfolder import WorkFolder, keep_signed, put
from media import layout
from media.digest import release_code
from media.errors import DigestMismatchError
from media.openpgp import verify_detached
from media.people import Person, Role
from media.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Where round two stands after a person sealed."""

    person: str
    volumes: tuple[int, ...]
    sealed_by: tuple[str, ...]
    threshold: int
    code: str
    sheet: Path | None


def seal(
    work: WorkFolder,
    person_id: str,
    *,
    ceremony: Ceremony,
    home: OwnKeys = None,
    progress: Progress = no_progress,
) -> Sealed:
    """Sign every volume's tag manifest as one person, after comparing every byte with the manifests.

    Raises:
        SigningError: The metadata is not frozen, the person may not sign, or sealed already.
        DigestMismatchError: Bytes are not the ones that people signed in round one.
    """
    index = volume_index(work)
    for volume in index.volumes:
        require_bytes(planned_files(work, volume), progress=progress)
    if index.base is not None:  # round one did not see this index
        require_sound(work, ceremony=ceremony)
    return put_seals(work, person_id, ceremony=ceremony, home=home)


def put_seals(work: WorkFolder, person_id: str, *, ceremony: Ceremony, home: OwnKeys = None) -> Sealed:
    """Sign every volume's tag manifest; the bytes were compared a moment ago.

    Where all of them are signed and the trust sheet could not be written, it is written now.

    Raises:
        SigningError: The metadata is not frozen, the person may not sign, or sealed already.
    """
    signatory = ceremony.signatory(person_id, home)
    if Role.RELEASE not in signatory.person.roles:
        raise SigningError(
            what=f"{signatory.person.name} may not seal releases", why="the root does not give the role release"
        )
    volumes = volume_index(work).volumes
    name = layout.signature_name(signatory.person.fingerprint)
    waiting = [volume for volume in volumes if not (work.seal_of(volume.number) / name).exists()]
    had_sheet = work.sheet.is_file()
    if not waiting and (had_sheet or finish_seals(work, ceremony=ceremony).sheet is None):
        raise SigningError(
            what=f"{signatory.person.name} has sealed every volume already", why="each person seals once"
        )
    with signatory.at_hand() as at_hand:
        for volume in waiting:
            folder = work.seal_of(volume.number)
            made = at_hand.seal((folder / layout.TAG_MANIFEST).read_bytes())
            keep_signed(folder / name, made)
    found = finish_seals(work, ceremony=ceremony)
    return Sealed(
        person=person_id,
        volumes=tuple(volume.number for volume in waiting),
        sealed_by=found.people,
        threshold=found.threshold,
        code=found.code,
        sheet=found.sheet,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBy:
    """Who has sealed every volume, and the trust sheet once they are enough."""

    people: tuple[str, ...]
    threshold: int
    code: str
    sheet: Path | None


def finish_seals(work: WorkFolder, *, ceremony: Ceremony) -> SealedBy:
    """Return who has sealed every volume; write the trust sheet when they are enough, each seal verified.

    Raises:
        SigningError: The metadata is not frozen.
        TrustError: A seal does not hold.
    """
    volumes = volume_index(work).volumes
    named = set.intersection(*({path.name for path in signature_files(work, volume.number)} for volume in volumes))
    signers = [
        person.id
        for person in ceremony.people.with_role(Role.RELEASE)
        if layout.signature_name(person.fingerprint) in named
    ]
    threshold = ceremony.threshold("release")
    is_enough = len(signers) >= threshold
    if is_enough:
        page = trust_sheet(work, ceremony=ceremony).to_text()
        put(work.sheet, page.encode("utf-8"))
    return SealedBy(
        people=tuple(signers), threshold=threshold, code=code_of(work), sheet=work.sheet if is_enough else None
    )


def require_bytes(files: list[PlannedFile], *, progress: Progress = no_progress) -> None:
    """Compare files of the work folder with the digests that the manifests name.

    Raises:
        DigestMismatchError: A file changed.
        UnreadableError: A file is shorter, or could not be read.
    """
    total, done = total_bytes(files), 0
    for file in files:
        found = run_digest(file.source, offset=file.offset, length=file.length)
        if found != file.sha256:
            raise DigestMismatchError(
                what=f"{file.name} has changed since it was signed",
                why=f"expected {file.sha256[:12]}, found {found[:12]}",
                fix="restore the work folder; do not seal this one",
            )
        done += file.length
        progress(done, total, file.name)


def require_sealed(work: WorkFolder, volume: Volume, *, ceremony: Ceremony) -> tuple[Person, ...]:
    """Return who sealed a volume, once enough different people have.

    Raises:
        BadSignatureError: A signature does not hold.
        ThresholdError: Not enough people.
        SamePersonError: Enough signatures, of fewer people.
    """
    return ceremony.people.require_signers(
        _fingerprints(work, volume, ceremony), Role.RELEASE, ceremony.threshold("release")
    )


def trust_sheet(work: WorkFolder, *, ceremony: Ceremony) -> TrustSheet:
    """Return the trust sheet of a release that is sealed by enough people.

    Raises:
        TrustError: It is not.
    """
    index = volume_index(work)
    plan = ReleasePlan.load(work.plan)
    sealed = [require_sealed(work, volume, ceremony=ceremony) for volume in index.volumes]
    signers = [person for person in sealed[0] if all(person in people for people in sealed)]
    choice = VolumeChoice.load(work)
    return TrustSheet(
        release=index.release,
        serial=index.serial,
        environment=ceremony.environment,
        sites=plan.sites,
        code=code_of(work),
        root_sha256=ceremony.first_root_sha256,
        root_version=len(ceremony.chain),
        threshold=ceremony.threshold("release"),
        stale_after=plan.stale_after,
        signers=tuple(SheetSigner(name=person.name, fingerprint=person.fingerprint) for person in signers),
        volumes=tuple(
            SheetVolume(number=volume.number, id=volume.id, seals=choice.seals.get(volume.number, ()))
            for volume in index.volumes
        ),
        base=index.base.serials if index.base else (),
    )


def code_of(work: WorkFolder) -> str:
    """Return the release code: the SHA-256 of volume 1's tag manifest."""
    return release_code((work.seal_of(1) / layout.TAG_MANIFEST).read_bytes())


def _fingerprints(work: WorkFolder, volume: Volume, ceremony: Ceremony) -> list[str]:
    certificates = ceremony.people.certificates(Role.RELEASE)
    manifest = (work.seal_of(volume.number) / layout.TAG_MANIFEST).read_bytes()
    return [
        verify_detached(path.read_bytes(), manifest, certificates).fingerprint
        for path in signature_files(work, volume.number)
    ]
