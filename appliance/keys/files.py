"""Keys in files: `NAME.vN` of 32 random bytes, 0400, in a folder of 0700; or NAME as a unit receives its credential.

A file that others may read, or of another length, is refused, not used. Destroying overwrites, syncs and unlinks; on
flash media the old cells may survive, which is why the folder belongs on an encrypted disk (docs/operator/keys.md).
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import CiphertextError, KeyMissingError
from appliance.keys import sealing
from appliance.keys.provider import PURPOSES, SECRET_BYTES, Key, Purpose
from media import durable

_VERSION = re.compile(r"\.v([1-9][0-9]{0,8})")


class FileKeys:
    """A `KeyProvider` over one folder. Reads a file once and keeps its bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache: dict[tuple[str, int | None], Key] = {}

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions; see `KeyProvider.versions`."""
        return tuple(sorted(self._versions(name)))

    def newest(self, name: str) -> int:
        """Return the newest version; see `KeyProvider.newest`."""
        return self.get(name).version

    def get(self, name: str, *, version: int | None = None) -> Key:
        """Return the key with its material; see `KeyProvider.get`."""
        cached = self._cache.get((name, version))
        if cached is None:
            cached = self._cache[name, version] = self._read(name, version)
        return cached

    def wrap(self, name: str, data: bytes, aad: bytes) -> bytes:
        """Encrypt; see `KeyProvider.wrap`."""
        key = self._for(name, Purpose.WRAP, None)
        return sealing.seal(key.bytes, key_id=key.id, version=key.version, data=data, aad=aad)

    def unwrap(self, name: str, ciphertext: bytes, aad: bytes) -> bytes:
        """Decrypt; see `KeyProvider.unwrap`."""
        header = sealing.read_header(ciphertext)
        key = self._for(name, Purpose.WRAP, header.version)
        if header.key_id != key.id:
            raise CiphertextError(
                what="a ciphertext does not open",
                why=f"it was made for another key than {name}",
                fix="use the key and the data it was made for",
            )
        return sealing.unseal(key.bytes, header=header, untrusted=ciphertext, aad=aad)

    def sign(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Sign with Ed25519; see `KeyProvider.sign`."""
        return Ed25519PrivateKey.from_private_bytes(self._for(name, Purpose.SIGN, version).bytes).sign(data)

    def public(self, name: str, *, version: int | None = None) -> bytes:
        """Return the public half; see `KeyProvider.public`."""
        key = self._for(name, Purpose.SIGN, version)
        return Ed25519PrivateKey.from_private_bytes(key.bytes).public_key().public_bytes_raw()

    def hmac(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Authenticate; see `KeyProvider.hmac`."""
        return hmac.digest(self._for(name, Purpose.HMAC, version).bytes, data, hashlib.sha256)

    def create_missing(self) -> list[str]:
        """Make what has no version; see `create_missing`."""
        self._cache.clear()
        return create_missing(self._folder)

    def close(self) -> None:
        """Do nothing: no session is held."""

    def create(self, name: str) -> int:
        """Make the next version; return its number.

        Raises:
            KeyMissingError: No key has this name, or it could not be written.
        """
        version = max(self._versions(name), default=0) + 1
        try:
            durable.place_new(self._folder / f"{name}.v{version}", secrets.token_bytes(SECRET_BYTES), mode=0o400)
            durable.sync_folder(self._folder)
        except OSError as error:
            raise _missing(name, f"version {version} could not be written: {error.strerror}") from error
        self._cache.clear()
        return version

    def remove(self, name: str, version: int) -> None:
        """Overwrite and unlink one version.

        Raises:
            KeyMissingError: It is not here, or could not be removed.
        """
        path = self._versions(name).get(version)
        if path is None:
            raise _missing(name, f"version {version} is not here")
        self._cache.clear()
        try:
            _overwrite(path)
            path.unlink()
            durable.sync_folder(self._folder)
        except OSError as error:
            raise _missing(name, f"version {version} could not be destroyed: {error.strerror}") from error

    def destroy(self, name: str) -> None:
        """Overwrite and unlink every version; see `KeyProvider.destroy`."""
        versions = self._versions(name)
        if not versions:
            raise _missing(name, "there is no file of it")
        self._cache.clear()
        try:
            for path in versions.values():
                _overwrite(path)
                path.unlink()
            durable.sync_folder(self._folder)
        except OSError as error:
            raise _missing(name, f"it could not be destroyed: {error.strerror}") from error

    def _for(self, name: str, purpose: Purpose, version: int | None) -> Key:
        key = self.get(name, version=version)
        if PURPOSES[name] is not purpose:
            raise _missing(name, f"it is a key to {PURPOSES[name]}, not to {purpose}")
        return key

    def _read(self, name: str, version: int | None) -> Key:
        versions = self._versions(name)
        chosen = version if version is not None else max(versions, default=0)
        if chosen not in versions:
            raise _missing(name, f"version {chosen} is not here" if chosen else "there is no file of it")
        return Key(id=name, version=chosen, bytes=_read_private(name, versions[chosen]))

    def _versions(self, name: str) -> dict[int, Path]:
        if name not in PURPOSES:
            raise _missing(name[:40], "no key has this name")
        found = {}
        try:
            for path in self._folder.iterdir():
                if path.name == name:
                    found[1] = path
                elif path.name.startswith(name) and (match := _VERSION.fullmatch(path.name[len(name) :])):
                    found[int(match[1])] = path
        except OSError as error:
            why = f"the key folder cannot be read: {error.strerror}"
            if isinstance(error, PermissionError):
                raise _missing(name, why, fix="keys are root's alone: run it as root, with sudo") from error
            raise _missing(name, why) from error
        return found


def create_missing(folder: Path) -> list[str]:
    """Make version 1 of every key that has none; return their names.

    Raises:
        KeyMissingError: The folder or a file could not be written.
    """
    created = []
    name = "all keys"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        provider = FileKeys(folder)
        for name in PURPOSES:
            if not provider._versions(name):  # noqa: SLF001 - the same module
                durable.place_new(folder / f"{name}.v1", secrets.token_bytes(SECRET_BYTES), mode=0o400)
                created.append(name)
        durable.sync_folder(folder)
    except OSError as error:
        raise _missing(name, f"it could not be written: {error.strerror}") from error
    return created


def _read_private(name: str, path: Path) -> bytes:
    try:
        # What is no link is opened by its own path: a folder in another mount name space may have no other.
        place = _within(name, path) if path.is_symlink() else path
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(SECRET_BYTES + 1)
    except RuntimeError as error:  # before Python 3.13 a link that leads to itself
        raise _missing(name, "its file is a link that leads to itself") from error
    except OSError as error:
        raise _missing(name, f"its file cannot be read: {error.strerror}") from error
    # The group bits of a systemd credential show its ACL mask, so only writing and others' rights are judged.
    if not stat.S_ISREG(mode) or mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise _missing(name, f"its file has mode {stat.S_IMODE(mode):04o}, expected 0400")
    if len(data) != SECRET_BYTES:
        raise _missing(name, f"its file does not hold {SECRET_BYTES} bytes")
    return data


def _within(name: str, link: Path) -> Path:
    # Kubernetes mounts a secret as links within the folder; whoever may write there could put a file there, too.
    place = link.resolve(strict=True)
    if place.name != link.name or not place.is_relative_to(link.parent.resolve(strict=True)):
        raise _missing(name, "its file is a link to another file, or leads out of the folder")
    return place


def _overwrite(path: Path) -> None:
    # Never by way of a link: what it leads to is not ours to destroy.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        os.fchmod(stream.fileno(), 0o600)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b", buffering=0) as stream:
        stream.write(secrets.token_bytes(max(os.fstat(stream.fileno()).st_size, SECRET_BYTES)))
        os.fsync(stream.fileno())


def _missing(
    name: str, why: str, *, fix: str = "restore its file from the backup; see docs/operator/keys.md"
) -> KeyMissingError:
    return KeyMissingError(what=f"the key {name} cannot be used", why=why, fix=fix)
