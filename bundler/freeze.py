"""Between the rounds: the signed metadata is merged and frozen, and the tag files of every volume are written.

From here on nothing of the release changes. Which volume carries what is written into `metadata/volumes.json`; cut
parts are hashed from the candidate, once every volume's place for them is fixed.
"""

import shutil
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import UnsignedMetadataError  # type: ignore[attr-defined]  # no __all__

from bundler.errors import SigningError
from bundler.measure import run_digest
from bundler.prepare import Prepared
from bundler.signatory import Ceremony, require_all_hold
from bundler.volumefiles import shared_tag_files
from bundler.workfolder import WorkFolder
from media import durable, layout
from media.bagit import BAGIT_TXT, BagInfo, render_bag_info, render_manifest
from media.digest import file_sha256, sha256_hex
from media.people import Role
from media.volume import Volume, VolumeIndex

_STAND_ALONE = (Path(layout.VERIFY).name, Path(layout.SECOND_OPINION).name, Path(layout.BOOTSTRAP).name)


def freeze(
    work: WorkFolder, prepared: Prepared, *, signatures: Mapping[str, Iterable[Signature]], ceremony: Ceremony
) -> VolumeIndex:
    """Write the signed metadata, the check files and every volume's tag files.

    Raises:
        SigningError: The signatures do not reach the threshold.
    """
    merged = {role: list(own) for role, own in signatures.items()}
    _require_threshold(prepared, merged, ceremony)
    planned = prepared.volumes
    index = planned.with_part_digests(
        {
            part.path: run_digest(
                work.candidate / part.target, offset=part.first * layout.BLOCK_BYTES, length=part.length
            )
            for volume in planned.volumes
            for part in volume.parts
            if not part.sha256
        }
    )
    for folder in (work.metadata, work.check, work.seals):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    _write_check(work, ceremony)
    for version, data in enumerate(ceremony.chain, start=1):
        (work.metadata / Path(layout.root_name(version)).name).write_bytes(data)
    written = prepared.roles.files(merged)
    timestamp = written.pop(Path(layout.TIMESTAMP).name)
    for name, data in written.items():
        (work.metadata / name).write_bytes(data)
    (work.metadata / Path(layout.VOLUMES).name).write_bytes(index.to_bytes())
    shared = {name: file_sha256(path) for name, path in shared_tag_files(work).items()}
    shared[layout.TIMESTAMP] = sha256_hex(timestamp)
    for volume in index.volumes:
        write_tag_files(work, volume, index=index, shared=shared)
    # Last and whole, since by it the release counts as frozen: what is cut off before is done again by who signs.
    durable.write_new(work.metadata / Path(layout.TIMESTAMP).name, timestamp)
    return index


def _require_threshold(prepared: Prepared, signatures: Mapping[str, list[Signature]], ceremony: Ceremony) -> None:
    for role, data in prepared.roles.signed_bytes().items():
        own = {signature.keyid: signature for signature in signatures[role]}
        try:
            ceremony.root.verify_delegate(role, data, own)
        except UnsignedMetadataError as error:
            raise SigningError(what=f"{role} is not signed by enough keys", why=str(error)) from error
        held = require_all_hold(ceremony.root, role, data, own)
        ceremony.people.require_key_signers(held, Role.RELEASE, ceremony.threshold("release"))


def _write_check(work: WorkFolder, ceremony: Ceremony) -> None:
    source = files("bundler") / "check"
    for name in _STAND_ALONE:
        if (source / name).is_file():
            (work.check / name).write_bytes((source / name).read_bytes())
    signers = work.check / Path(layout.SIGNERS).name
    signers.mkdir()
    for person in ceremony.people.with_role(Role.RELEASE):
        (signers / f"{person.fingerprint}.gpg").write_bytes(person.certificate)


def write_tag_files(work: WorkFolder, volume: Volume, *, index: VolumeIndex, shared: Mapping[str, str]) -> None:
    """Write the tag files of one volume; `shared` are the digests of those that all volumes repeat."""
    info = BagInfo(
        release=index.release,
        number=volume.number,
        count=len(index.volumes),
        payload_bytes=volume.payload_bytes,
        payload_files=len(volume.parts),
        serial=index.serial,
        volume_id=volume.id,
    )
    own = {
        layout.BAGIT: BAGIT_TXT,
        layout.BAG_INFO: render_bag_info(info),
        layout.MANIFEST: render_manifest({part.path: part.sha256 for part in volume.parts}),
    }
    folder = work.seal_of(volume.number)
    folder.mkdir()
    for name, data in own.items():
        (folder / name).write_bytes(data)
    tags = {**shared, **{name: file_sha256(folder / name) for name in own}}
    (folder / layout.TAG_MANIFEST).write_bytes(render_manifest(tags))
