"""The one place that opens the box's own keys: files or a token, as the site file says.

A unit gets key files, or a token's PIN, as systemd credentials and sees nothing else; where no supervisor passed any,
they lie in the folder of keys, which root's commands read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from appliance.config import Config
from appliance.keys.files import FileKeys
from appliance.keys.provider import KeyProvider
from appliance.keys.token import TokenKeys

PIN: Final = "token-pin"
"""The credential, and the file in the folder of keys, that holds a token's user PIN."""


class KeyStore(KeyProvider, Protocol):
    """Keys that may also be made and taken away, one version at a time."""

    def create(self, name: str) -> int:
        """Make the next version; return its number.

        Raises:
            KeyMissingError: No key has this name, or it could not be made.
        """
        ...

    def create_missing(self) -> list[str]:
        """Make version 1 of every key that has none; return their names.

        Raises:
            KeyMissingError: One could not be made.
        """
        ...

    def remove(self, name: str, version: int) -> None:
        """Destroy one version.

        Raises:
            KeyMissingError: It is not here, or could not be destroyed.
        """
        ...

    def close(self) -> None:
        """End what is held open; the next use begins anew."""
        ...


def memory_of(keys: KeyStore) -> TokenKeys | None:
    """Return what remembers the ledger's head off this machine's disks: the token, where keys are on one."""
    return keys if isinstance(keys, TokenKeys) else None


def folder_of(config: Config, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where this process finds key files: its credentials, or the folder of keys, which root's commands read."""
    passed = environ.get("CREDENTIALS_DIRECTORY", "")
    return Path(passed) if passed else config.at.key_files


def shared_of(config: Config) -> tuple[Path, str] | None:
    """Return the folder in which a token's module keeps files and the group that uses them; None where it has none."""
    chosen = config.keys
    return (Path(chosen.folder), chosen.group) if chosen.folder and chosen.group else None


def open_keys(config: Config, *, environ: Mapping[str, str] = os.environ) -> KeyStore:
    """Return the keys of this box; nothing is read, and no token is spoken to, before the first use.

    Args:
        config: The site file.
        environ: Where a supervisor names the folder of credentials.
    """
    folder, chosen = folder_of(config, environ=environ), config.keys
    if chosen.provider == "token":
        return TokenKeys(chosen.module, chosen.token, folder / PIN, chosen.variables, shared=shared_of(config))
    return FileKeys(folder)
