"""Files against a signature: what a recipe takes on import, and a whole model folder on export and by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundler.errors import SourceError
from bundler.modelsigning.envelope import Bundle
from bundler.modelsigning.manifest import NOT_SIGNED, Manifest, measured
from bundler.modelsigning.signer import Signatory, require_certificate, require_key
from media.digest import sha256_hex
from media.limits import ENVELOPE_BYTES

SIGNATURE: Final = "model.sig"
_PEM_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a publisher signed of the files that were looked at. `left` counts signed files that were not."""

    signatory: Signatory
    signature_sha256: str
    root: str
    method: str
    files: tuple[str, ...]
    left: int

    def to_json(self) -> dict[str, Any]:
        """Return what the provenance record says."""
        return {
            "predicate_type": "https://model_signing/signature/v1.0",
            "signature_sha256": self.signature_sha256,
            "root_sha256": self.root,
            "method": self.method,
            "key_sha256": self.signatory.key_sha256,
            "certificate_sha256": self.signatory.certificate_sha256,
            "subject": self.signatory.subject,
            "files": list(self.files),
            "signed_files_left": self.left,
        }


def verify(
    signature: Path, files: Mapping[str, Path], *, key: Path | None = None, certificate: Path | None = None
) -> Verified:
    """Return who signed these files, every byte of which was hashed just now.

    Args:
        signature: The signature file.
        files: Host files by their paths in the model.
        key: The publisher's public key in PEM; this or the next.
        certificate: Certificates in PEM that the signer's one must lead to, or be among.

    Raises:
        SourceError: The signature does not hold, or a file is not what was signed, or was not signed.
    """
    raw = _read(signature, ENVELOPE_BYTES)
    bundle = Bundle.from_bytes(raw)
    if key is not None:
        signatory = require_key(bundle, _read(key, _PEM_BYTES))
    else:
        signatory = require_certificate(bundle, b"" if certificate is None else _read(certificate, _PEM_BYTES))
    manifest = Manifest.from_statement(bundle.payload)
    for path, file in sorted(files.items()):
        expected = {piece: digest for piece, digest in manifest.digests.items() if str(piece.path) == path}
        try:
            found = dict(measured(path, file, manifest.shard_bytes))
        except OSError as error:
            raise SourceError(what=f"{path} cannot be read", why=error.strerror or "", fix="check it") from error
        if expected != found:
            raise SourceError(
                what=f"{path} is not what its publisher signed",
                why="it has other bytes" if expected else "the signature does not name it",
                fix="find out from the publisher, by another way, which file is right",
            )
    return Verified(
        signatory=signatory,
        signature_sha256=sha256_hex(raw),
        root=manifest.root,
        method=manifest.method,
        files=tuple(sorted(files)),
        left=len(manifest.files - files.keys()),
    )


def files_of(folder: Path, *, signature: Path | None = None) -> dict[str, Path]:
    """Return the files of a model folder that a signature covers: all but the signature and what git adds.

    Raises:
        SourceError: It holds a link or something else that is no regular file, or nothing at all.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if relative.parts[0] in NOT_SIGNED or (signature is not None and path.absolute() == signature.absolute()):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SourceError(
                what=f"{relative} is no regular file", why="links are not followed", fix="replace it by the file"
            )
        if path.is_file():
            found[relative.as_posix()] = path
    if not found:
        raise SourceError(what=f"{folder.name} holds no model", why="there is no file in it", fix="name its folder")
    return found


def _read(file: Path, most: int) -> bytes:
    try:
        with file.open("rb") as source:
            data = source.read(most + 1)
    except OSError as error:
        raise SourceError(
            what=f"{file.name} cannot be read", why=error.strerror or "", fix="check models.source.model_signing"
        ) from error
    if len(data) > most:
        raise SourceError(what=f"{file.name} is too large", why=f"the limit is {most} bytes", fix="check it")
    return data
