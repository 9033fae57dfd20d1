"""An offline recipient of backups, and a site that backs up to a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.config import Config
from tests.support.gpg import GnuPG, gnupg_home


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A throwaway key that can decrypt."""

    gpg: GnuPG
    fingerprint: str

    @property
    def home(self) -> Path:
        return self.gpg.home

    def certificate(self) -> bytes:
        return self.gpg.certificate(self.fingerprint)


@contextmanager
def recipient(name: str = "Backup key") -> Iterator[Recipient]:
    """Lend a key pair whose private half lies in a home of its own."""
    with gnupg_home() as gpg:
        primary = gpg.key(name)
        gpg.run("--quick-add-key", primary, "cv25519", "encr", "0")
        yield Recipient(gpg=gpg, fingerprint=primary)


@pytest.fixture
def offline() -> Iterator[Recipient]:
    """A key pair for one test."""
    with recipient() as made:
        yield made


def with_backups(config: Config, folder: Path, certificate: bytes, *, keep: int = 14) -> Config:
    """Return the configuration with a folder for backups and a recipient in place."""
    folder.mkdir(parents=True, exist_ok=True)
    config.at.etc.mkdir(parents=True, exist_ok=True)
    config.at.backup_recipient.write_bytes(certificate)
    section = config.backup.model_copy(update={"folder": str(folder), "on_system_disk": True, "keep": keep})
    return config.model_copy(update={"backup": section})
