"""The box's own authorities while one takes the other's place: both are trusted, one signs, and each has its list.

    tls/next/ca.key ca.crt      made and given to callers, does not sign yet
    tls/former/ca.key ca.crt    signed before; what it signed stays good, its key makes its revocation list
    tls/authorities.crt         those that are trusted now, the one that signs first: for nginx and for callers

Promises: there is never a next and a former one at once, except in the moment of a switch that was cut off, which
`mend` completes; a key that is dropped is overwritten.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from appliance.install.certificates import Credential, fingerprint
from appliance.install.tlsfolder import TlsFolder, empty, read_certificate, read_pair
from media import durable

NEXT: Final = "next"
FORMER: Final = "former"
BUNDLE: Final = "authorities.crt"


def other(folder: TlsFolder, which: str) -> Credential | None:
    """Return the next or the former authority with its key; nothing where there is none that is whole.

    Raises:
        KeyMissingError: This user may not read its key.
    """
    return read_pair(folder.path / which / "ca.key", folder.path / which / "ca.crt")


def certificate(folder: TlsFolder, which: str) -> x509.Certificate | None:
    """Return the certificate of the next or the former authority; everybody may read it."""
    return read_certificate(folder.path / which / "ca.crt")


def accepted(folder: TlsFolder) -> tuple[Credential, ...]:
    """Return every authority of this box that is trusted now, the one that signs first; none where there is none.

    Raises:
        KeyMissingError: As `other`.
    """
    found = (folder.authority(), other(folder, NEXT), other(folder, FORMER))
    return tuple({fingerprint(one.certificate): one for one in found if one is not None}.values())


def put(folder: TlsFolder, which: str, made: Credential) -> None:
    """Keep an authority beside the one that signs; its certificate last, which makes it count."""
    place = folder.path / which
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    durable.replace(place / "ca.key", made.key_pem, mode=0o400)
    durable.replace(place / "ca.crt", made.chain_pem, mode=0o444)
    durable.sync_folder(folder.path)


def drop(folder: TlsFolder, which: str) -> None:
    """Forget an authority; its key is overwritten first, and its folder stays."""
    place = folder.path / which
    if not place.is_dir():
        return
    with suppress(FileNotFoundError):
        _overwrite(place / "ca.key")
    empty(place)


def mend(folder: TlsFolder) -> None:
    """Complete what was cut off: where a next and a former one are kept, the next one signs; half a one is dropped."""
    made, former = other(folder, NEXT), other(folder, FORMER)
    if made is not None and former is not None:
        folder.put_authority(made)
        made = None
    for which, found in ((NEXT, made), (FORMER, former)):
        if found is None:
            drop(folder, which)


def tell(folder: TlsFolder) -> bool:
    """Write whom nginx and callers trust; return whether that changed."""
    bundle = b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in accepted(folder))
    place = folder.path / BUNDLE
    is_changed = not place.exists() or place.read_bytes() != bundle
    if is_changed:
        durable.replace(place, bundle, mode=0o444)
    return is_changed


def trusted_file(folder: TlsFolder) -> Path:
    """Return what callers are given of the box's own: one certificate, or two while one takes the other's place."""
    is_one = not any((folder.path / which / "ca.crt").exists() for which in (NEXT, FORMER))
    return folder.authority_file if is_one else folder.path / BUNDLE


def _overwrite(file: Path) -> None:
    file.chmod(0o600)
    with file.open("r+b", buffering=0) as stream:
        stream.write(secrets.token_bytes(file.stat().st_size))
        os.fsync(stream.fileno())
