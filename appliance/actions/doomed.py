"""The secrets of a box that go when it is retired: files that are overwritten, and keys that a token destroys."""

import os
import secrets
from pathlib import Path
from typing import Final

from appliance.config import Config, Places
from appliance.errors import KeyMissingError
from appliance.keys.opening import PIN, KeyStore
from appliance.keys.provider import PURPOSES
from media import durable

LAST: Final = "ledger-checkpoint"

Secret = Path | int
"""A file, or the version of a key on the token."""


def secrets_of(config: Config, keys: KeyStore) -> list[tuple[str, list[Secret]]]:
    """Return every secret of this box by name, the ledger's own key not among them: it signs until the end.

    Args:
        config: The site's.
        keys: The box's own, opened once: a token's library serves one at a time.

    Raises:
        KeyMissingError: Keys are on a token, and it cannot be asked.
    """
    found: list[tuple[str, list[Secret]]] = [
        (name, of_name) for name in PURPOSES if name != LAST and (of_name := _of_name(config, keys, name))
    ]
    for name, files in (
        ("boxes", sorted(config.at.key_files.glob("box-*"))),
        ("tls", sorted((config.at.etc / "tls").rglob("*.key"))),
        ("password hashes", [config.at.promoter / "passwords.json"]),
        ("enrolment codes", [config.at.promoter / "codes.json"]),
    ):
        there: list[Secret] = [file for file in files if file.is_file()]
        if there:
            found.append((name, there))
    return found


def labels(name: str, found: list[Secret]) -> list[str]:
    """Return what was destroyed as the record and the certificate call it."""
    return [each.name if isinstance(each, Path) else f"{name}.v{each} on the token" for each in found]


def destroy_last(config: Config, keys: KeyStore) -> None:
    """Destroy the ledger's own key; of a token, then the PIN, without which nothing is asked of it again.

    Raises:
        KeyMissingError: It could not be destroyed.
    """
    pin = config.at.key_files / PIN
    if pin.exists():
        for version in _versions(config, keys, LAST):
            keys.remove(LAST, version)
    for file in [*_files(config.at, LAST), *([pin] if pin.exists() else [])]:
        overwrite(file)


def overwrite(file: Path) -> None:
    """Overwrite a file, make that durable and unlink it.

    Raises:
        KeyMissingError: It could not be done.
    """
    try:
        file.chmod(0o600)
        with file.open("r+b", buffering=0) as stream:
            stream.write(secrets.token_bytes(file.stat().st_size))
            os.fsync(stream.fileno())
        file.unlink()
        durable.sync_folder(file.parent)
    except OSError as error:
        raise KeyMissingError(
            what=f"the secret {file.name} could not be destroyed", why=error.strerror or "", fix="run as root, again"
        ) from error


def _of_name(config: Config, keys: KeyStore, name: str) -> list[Secret]:
    return [*_versions(config, keys, name), *_files(config.at, name)]


def _versions(config: Config, keys: KeyStore, name: str) -> list[int]:
    return list(keys.versions(name)) if config.keys.provider == "token" else []


def _files(places: Places, name: str) -> list[Path]:
    return sorted(places.key_files.glob(f"{name}.v*")) if places.key_files.is_dir() else []
