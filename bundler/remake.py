"""Writing one volume of a sealed release again, because its medium was lost or damaged on the way.

Nothing is signed anew. The medium is written from the sealed work folder, read back, and the signatures are then
verified as they lie on it: what people sealed for the first copy holds for this one, byte by byte. Custody of a new
medium begins with its own first hand-over.
"""

from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ReadBackError
from bundler.measure import Progress, no_progress
from bundler.seal import code_of
from bundler.signatory import Ceremony
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from bundler.write import WrittenVolume, write
from media import layout
from media.digest import same, sha256_hex
from media.openpgp import verify_detached
from media.people import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """One volume on its new medium."""

    release: str
    serial: int
    code: str
    count: int
    volume: WrittenVolume
    tag_manifest_sha256: str
    signers: tuple[str, ...]

    def to_text(self) -> str:
        """Return what a person reads, and writes beside the new medium."""
        volume = self.volume
        read = f"{volume.files} files, {volume.bytes:,} bytes, {volume.read_back.says}"
        carrier = [f"  carrier       {volume.carrier}"] if volume.carrier else []
        return "\n".join(
            [
                f"volume {volume.number} of {self.count} of {self.release}, serial {self.serial}, is written again",
                f"  id            {volume.id}",
                *carrier,
                f"  {read}: byte by byte what was sealed",
                f"  tag manifest  {self.tag_manifest_sha256}",
                f"  signatures    hold: {', '.join(self.signers)}",
                f"  release code  {self.code} (the trust sheet stays as it is)",
            ]
        )


def remake(
    work: WorkFolder, number: int, destination: Path, *, ceremony: Ceremony, progress: Progress = no_progress
) -> Remade:
    """Write one volume again into a folder and prove from the new medium that its signatures hold.

    Args:
        work: The work folder from which the release was written.
        number: Which volume.
        destination: An empty medium, where it is mounted.
        ceremony: Under whose root it was sealed.
        progress: Called with bytes done, bytes in all, and what is being done.

    Raises:
        UsageError: There is no such volume.
        NotEmptyError: The destination holds other data.
        CapacityError: The destination is too small.
        SigningError: The release is not sealed by enough people.
        ReadBackError: What came back is not what was sealed.
        BadSignatureError: A signature on the new medium does not hold.
    """
    (written,) = write(work, {number: destination}, ceremony=ceremony, progress=progress)
    return prove_remade(work, written, destination / layout.RELEASE, ceremony=ceremony)


def prove_remade(work: WorkFolder, written: WrittenVolume, release: Path, *, ceremony: Ceremony) -> Remade:
    """Show that the signatures of a volume that was written again hold.

    Args:
        work: The work folder from which it was written.
        written: The volume, read back.
        release: Where its tag manifest and signatures lie: on the new medium; or, for an image, where they were
            sealed, since every byte of the image was just compared with them.
        ceremony: Under whose root it was sealed.

    Raises:
        ReadBackError: The tag manifest is not the sealed one.
        BadSignatureError: A signature does not hold.
        ThresholdError: Fewer people than are needed signed.
    """
    index, number = volume_index(work), written.number
    manifest = (release / layout.TAG_MANIFEST).read_bytes()
    if not same(sha256_hex(manifest), sha256_hex((work.seal_of(number) / layout.TAG_MANIFEST).read_bytes())):
        raise ReadBackError(
            what=f"the tag manifest of volume {number} is not the sealed one",
            why="the medium gives other bytes than a moment ago",
            fix="discard this medium and write another one",
        )
    certificates = ceremony.people.certificates(Role.RELEASE)
    fingerprints = [
        verify_detached(path.read_bytes(), manifest, certificates).fingerprint for path in sorted(release.glob("*.sig"))
    ]
    signers = ceremony.people.require_signers(fingerprints, Role.RELEASE, ceremony.threshold("release"))
    return Remade(
        release=index.release,
        serial=index.serial,
        code=code_of(work),
        count=len(index.volumes),
        volume=written,
        tag_manifest_sha256=sha256_hex(manifest),
        signers=tuple(person.name for person in signers),
    )
