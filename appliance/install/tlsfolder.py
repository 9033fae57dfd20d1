"""The folder of keys and certificates on a box, and how one pair takes another's place.

    tls/ca.key ca.crt             the box's own authority
    tls/kept/FINGERPRINT12/       server.key and server.crt: a pair that is shown, was shown, or is about to be
    tls/current                   link to the pair that nginx shows
    tls/pending/                  key and request that wait for the facility's authority
    tls/facility-root.crt         the facility's root, once a person has put it there
    tls/trust.crt                 link to what callers have to trust: ca.crt, authorities.crt or facility-root.crt
    tls/next/ former/             the authority that follows, or went before; see `tlsauthorities`
    tls/clients/SERIAL.crt        what was issued to callers
    tls/revoked.json crl.pem      what is revoked, and the list as nginx reads it
    tls/peers/NAME.crt            authorities of other boxes
    tls/NAME.lock                 one command at a time, one change of the list at a time

Promises: keys are for root alone (0400), those of kept pairs for the web server's group, too (`tlskey`), and half of
one never counts; `current` changes by one rename, so that key and certificate always belong together; a pair is kept
until its certificate has ended.

What is hidden from the web server stays hidden: its name space covers `ca.key` and the folders `HIDDEN` when it starts,
and what a rename puts in the place of one of these would be seen. So the folders stay, empty or not, and the key is
written into the file that is there.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.config import Config
from appliance.errors import InstallError, KeyMissingError
from appliance.install import tlskey
from appliance.install.certificates import Credential, fingerprint, first_end
from media import durable

HIDDEN: Final = ("pending", "next", "former")
_KEY_MODE: Final = tlskey.ALONE
_MODE: Final = 0o444
_SHORT: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The pair that is shown: its short fingerprint, its certificate and those that are sent with it."""

    name: str
    certificate: x509.Certificate
    between: tuple[x509.Certificate, ...]

    @property
    def ends_at(self) -> datetime:
        """When callers begin to refuse it: the end of the certificate, or of one between that ends before it."""
        return first_end((self.certificate, *self.between))


class TlsFolder:
    """Reads and writes the folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: Config) -> "TlsFolder":
        """Return this site's."""
        return cls(config.at.etc / "tls")

    @property
    def authority_file(self) -> Path:
        """The certificate of the box's own authority."""
        return self.path / "ca.crt"

    @property
    def root_file(self) -> Path:
        """The facility's root."""
        return self.path / "facility-root.crt"

    @property
    def crl_file(self) -> Path:
        """The list of revoked certificates."""
        return self.path / "crl.pem"

    @property
    def request_file(self) -> Path:
        """The request that waits for the facility's authority."""
        return self._pending / "server.csr"

    def make(self) -> None:
        """Make the folders that are missing."""
        for folder in (self.path, *(self.path / name for name in ("kept", "clients", *HIDDEN))):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)

    @contextmanager
    def locked(self, name: str, *, told: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold one of the folder's locks, a file of its own: who may read a folder could keep one of that for ever.

        Args:
            name: Of the lock.
            told: Called once where another process holds it, before waiting for that.

        Raises:
            OSError: The folder is not there, or is another user's.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path / f"{name}.lock", flags, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def authority(self) -> Credential | None:
        """Return the box's own authority with its key; nothing where there is none that is whole.

        Raises:
            KeyMissingError: This user may not read its key.
        """
        return read_pair(self.path / "ca.key", self.authority_file)

    def put_authority(self, made: Credential) -> None:
        """Put the authority in place; cut off in between there is none that is whole."""
        key = self.path / "ca.key"
        if key.is_file() and not key.is_symlink():
            _rewrite(key, made.key_pem)
        else:
            durable.replace(key, made.key_pem, mode=_KEY_MODE)
        durable.replace(self.authority_file, made.chain_pem, mode=_MODE)

    def shown(self) -> Shown | None:
        """Return what nginx shows; nothing where there is none, or none that reads."""
        try:
            link = (self.path / "current").readlink()
            found = x509.load_pem_x509_certificates((self.path / link / "server.crt").read_bytes())
        except (OSError, ValueError):
            return None
        return Shown(name=link.name, certificate=found[0], between=tuple(found[1:]))

    @property
    def shown_key_file(self) -> Path:
        """The key of what is shown, as nginx.conf names it."""
        return self.path / "current" / "server.key"

    def give_keys(self) -> bool:
        """Give the keys of kept pairs to the web server where a release before, or a copy, left them otherwise.

        Raises:
            InstallError: That is refused.
        """
        return tlskey.mend(self.path / "kept")

    def is_whole(self) -> bool:
        """Tell whether key and certificate of what is shown belong together; for root.

        Raises:
            KeyMissingError: This user may not read the key.
        """
        current = self.path / "current"
        return read_pair(current / "server.key", current / "server.crt") is not None

    def keep(self, made: Credential) -> str:
        """Write a pair beside the one that is shown; return its name for `show`."""
        name = fingerprint(made.certificate)[:_SHORT]
        folder = self.path / "kept" / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        tlskey.put(folder / "server.key", made.key_pem)
        durable.replace(folder / "server.crt", made.chain_pem, mode=_MODE)
        durable.sync_folder(folder.parent)
        return name

    def show(self, name: str) -> None:
        """Make a kept pair the one that is shown, by one rename; nginx takes it up when it is told to reload.

        Raises:
            InstallError: There is no such pair.
        """
        if not (self.path / "kept" / name / "server.crt").is_file():
            raise InstallError(what=f"the pair {name} is not kept", why="", fix="run `sealift tls rotate`")
        self._link("current", Path("kept") / name)

    def tell_whom_to_trust(self, certificate: Path) -> None:
        """Let `trust.crt`, which callers are given, lead to the own authority's, two of them or the facility's root."""
        self._link("trust.crt", Path(certificate.name))

    def gives_facilitys(self) -> bool:
        """Tell whether callers are given the facility's root."""
        trust = self.path / "trust.crt"
        return trust.is_symlink() and trust.readlink() == Path(self.root_file.name)

    def forget_ended(self, now: datetime) -> list[str]:
        """Remove kept pairs whose certificate has ended; never the one that is shown."""
        shown, gone = self.shown(), []
        for folder in sorted((self.path / "kept").glob("*/")):
            try:
                ended = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes()).not_valid_after_utc <= now
            except (OSError, ValueError):
                ended = True  # cut off while it was written
            if ended and (shown is None or folder.name != shown.name):
                shutil.rmtree(folder)
                gone.append(folder.name)
        return gone

    def pending(self) -> ec.EllipticCurvePrivateKey | None:
        """Return the key whose request waits for the facility's authority; nothing where none waits.

        Raises:
            KeyMissingError: This user may not read it.
        """
        return _key(self._pending / "server.key")

    def put_pending(self, key: ec.EllipticCurvePrivateKey, request: x509.CertificateSigningRequest) -> None:
        """Keep a key and its request until the certificate comes."""
        self._pending.mkdir(exist_ok=True)
        self._pending.chmod(0o755)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        durable.replace(self._pending / "server.key", pem, mode=_KEY_MODE)
        durable.replace(self.request_file, request.public_bytes(serialization.Encoding.PEM), mode=_MODE)

    def request(self) -> x509.CertificateSigningRequest | None:
        """Return the request that waits."""
        try:
            return x509.load_pem_x509_csr(self.request_file.read_bytes())
        except (OSError, ValueError):
            return None

    def drop_pending(self) -> None:
        """Forget key and request: the key has its certificate now."""
        empty(self._pending)

    def root(self) -> x509.Certificate | None:
        """Return the facility's root."""
        return read_certificate(self.root_file)

    def put_root(self, root: x509.Certificate) -> None:
        """Put the facility's root in place."""
        durable.replace(self.root_file, root.public_bytes(serialization.Encoding.PEM), mode=_MODE)

    def _link(self, name: str, to: Path) -> None:
        place, beside = self.path / name, self.path / f".{name}.new"
        if place.is_symlink() and place.readlink() == to:
            return
        beside.unlink(missing_ok=True)
        beside.symlink_to(to)
        beside.replace(place)
        durable.sync_folder(self.path)

    @property
    def _pending(self) -> Path:
        return self.path / "pending"


def empty(folder: Path) -> None:
    """Remove what is in a folder, which stays."""
    for one in folder.iterdir() if folder.is_dir() else ():
        one.unlink()
    durable.sync_folder(folder.parent)


def _rewrite(key: Path, pem: bytes) -> None:
    key.chmod(0o600)
    with key.open("r+b") as stream:
        stream.write(pem)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())
    key.chmod(_KEY_MODE)


def read_pair(key_file: Path, certificate_file: Path) -> Credential | None:
    """Return a key and its certificate; nothing where one is missing, does not read, or belongs to another.

    Raises:
        KeyMissingError: This user may not read the key.
    """
    key = _key(key_file)
    try:
        found = x509.load_pem_x509_certificates(certificate_file.read_bytes())
    except (OSError, ValueError):
        return None
    if key is None or key.public_key() != found[0].public_key():
        return None
    return Credential(key=key, certificate=found[0], between=tuple(found[1:]))


def _key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except PermissionError as error:
        raise KeyMissingError(
            what="a private key of this box cannot be read", why="it is for root alone", fix="run the command as root"
        ) from error
    except (OSError, ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def read_certificate(path: Path) -> x509.Certificate | None:
    """Return the first certificate of a file; nothing where there is none that reads."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
