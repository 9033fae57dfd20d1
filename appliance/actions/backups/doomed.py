"""The secrets of a box that go when it is retired: files that are overwritten, and keys that a token destroys.

A secret goes with its copies: those that restores put aside are secrets of the box like those in use.
"""

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions.backups import aside
from appliance.config import Config, Places
from appliance.errors import KeyMissingError
from appliance.keys.opening import PIN, KeyStore
from appliance.keys.provider import PURPOSES
from media import durable

LAST: Final = ("ledger-mldsa", "ledger-checkpoint")
"""The ledger's own. Its service starts with both alone, and what was cut off has to be recorded to its end."""

Secret = Path | int
"""A file, or the version of a key on the token."""


def secrets_of(config: Config, keys: KeyStore) -> list[tuple[str, list[Secret]]]:
    """Return every secret of this box by name, with its copies in what restores put aside.

    The ledger's own keys are not among them: they sign until the end. Their copies are, none of which signs any more.

    Args:
        config: The site's.
        keys: The box's own, opened once: a token's library serves one at a time.

    Raises:
        KeyMissingError: Keys are on a token, and it cannot be asked.
    """
    found: list[tuple[str, list[Secret]]] = [
        (name, of_name) for name in PURPOSES if (of_name := _of_name(config, keys, name))
    ]
    for name, files in (
        ("boxes", [*config.at.key_files.glob("box-*"), *_aside(config.at, "box-*")]),
        # What a cut left of a file that was being replaced is one, too.
        ("tls", [file for ending in ("*.key", ".*.key.new") for file in (config.at.etc / "tls").rglob(ending)]),
        ("password hashes", _of_people(config.at, "passwords.json")),
        ("enrolment codes", _of_people(config.at, "codes.json")),
        ("second factors", _of_people(config.at, "secondfactors.json")),
        ("collector", [config.at.etc / "collector-client.pem"]),
    ):
        there: list[Secret] = [file for file in sorted(files) if file.is_file()]
        if there:
            found.append((name, there))
    return found


def is_used(config: Config, keys: KeyStore) -> bool:
    """Tell whether a secret is here that is in use: none that only lies in what a restore put aside.

    Raises:
        KeyMissingError: As `secrets_of`.
    """
    every = [each for _, found in secrets_of(config, keys) for each in found]
    return any(map(_is_in_use, every))


def _is_in_use(secret: Secret) -> bool:
    return not isinstance(secret, Path) or aside.named(secret) == secret.name


def require_gone(config: Config, keys: KeyStore) -> None:
    """Return when no key by which this box made anything lies here, but the ledger's own and what is put aside.

    Raises:
        KeyMissingError: One does; or as `secrets_of`.
    """
    if there := [name for name, found in secrets_of(config, keys) if name in PURPOSES and any(map(_is_in_use, found))]:
        raise KeyMissingError(
            what=f"keys lie here again since the retirement: {', '.join(there)}",
            why="the certificate would say that what they made does not open",
            fix="find what put them back, overwrite them (`shred -u`), and ask for the certificate again",
        )


def labels(name: str, found: list[Secret]) -> list[str]:
    """Return what was destroyed as the record and the certificate call it."""
    return [aside.named(each) if isinstance(each, Path) else f"{name}.v{each} on the token" for each in found]


def last_of(config: Config, keys: KeyStore) -> list[str]:
    """Return the names of the ledger's own keys that are here.

    Raises:
        KeyMissingError: As `secrets_of`.
    """
    return [name for name in LAST if [*_versions(config, keys, name), *_files(config.at, name)]]


def destroy_last(config: Config, keys: KeyStore) -> None:
    """Destroy the ledger's own keys; of a token, then the PIN, without which nothing is asked of it again.

    With it goes what is still put aside: of a box that was retired by a release which did not look there.

    Raises:
        KeyMissingError: It could not be destroyed.
    """
    pin = config.at.key_files / PIN
    if pin.exists():
        for name in LAST:
            for version in _versions(config, keys, name):
                keys.remove(name, version)
    left = _aside(config.at, *(f"{name}.v*" for name in PURPOSES), "box-*", *aside.PASSWORDS, PIN)
    left += sorted(config.at.key_files.glob(f".{PIN}-*"))  # a PIN that was being tried when the power went
    own = [file for name in LAST for file in _files(config.at, name)]
    for file in [*left, *own, *([pin] if pin.exists() else [])]:
        overwrite(file)


def discard(folder: Path) -> None:
    """Remove a folder that a site was made in; its secrets are overwritten first."""
    wipe(folder)
    shutil.rmtree(folder, ignore_errors=True)


def wipe(folder: Path) -> None:
    """Overwrite the secrets of a site in a folder, as far as that can be done: the folder is about to be removed."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and _is_secret(file):
            with suppress(KeyMissingError):
                overwrite(file)


def _is_secret(file: Path) -> bool:
    return file.parent.name == "keys" or file.name in aside.PASSWORDS


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
    own: list[Secret] = [] if name in LAST else [*_versions(config, keys, name), *_files(config.at, name)]
    return [*own, *_aside(config.at, f"{name}.v*")]


def _of_people(places: Places, name: str) -> list[Path]:
    return [places.promoter / name, places.promoter / f".{name}.new", *_aside(places, name)]


def _aside(places: Places, *patterns: str) -> list[Path]:
    return [file for one in aside.asides(places) for file in one.files(*patterns)]


def _versions(config: Config, keys: KeyStore, name: str) -> list[int]:
    return list(keys.versions(name)) if config.keys.provider == "token" else []


def _files(places: Places, name: str) -> list[Path]:
    if not places.key_files.is_dir():
        return []
    return sorted([*places.key_files.glob(f"{name}.v*"), *places.key_files.glob(f".{name}.v*.new")])
