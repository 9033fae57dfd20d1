"""A site with a ledger that runs in this process, a folder for backups, and an offline key."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.backups import making
from appliance.actions.backups.making import Made
from appliance.audit.rights import ACTIONS, PROMOTER
from appliance.config import Config
from appliance.promote.passwords import PASSWORDS
from appliance.verify import trust
from appliance.verify.trust import TrustRecord
from media.clock import SystemClock
from tests.support.backups import Recipient, recipient, with_backups
from tests.support.ledger import LedgerSite, ledger_site

ROOT = b'{"signed":{}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """A site that can back up, and be made again elsewhere."""

    box: LedgerSite
    config: Config
    disk: Path

    def make(self) -> Made:
        with self.box.running():
            return making.make(self.config, clock=SystemClock())

    def record(self, kind: str, body: dict[str, Any], door: str = ACTIONS) -> None:
        """Append through a door while the ledger runs."""
        ledger = self.box.door(door)
        try:
            ledger.append(kind, body)
        finally:
            ledger.close()

    def fresh(self, folder: Path) -> "BackedUp":
        """Return a box on which nothing ever was, with the same disk plugged in."""
        root = self.config.places.model_copy(update={"root": str(folder)})
        config = self.config.model_copy(update={"places": root})
        config.at.etc.mkdir(parents=True)
        config.at.state.mkdir(parents=True)
        return replace(self, config=config, box=LedgerSite(config=config, config_file=folder / "none"))


@pytest.fixture(scope="session")
def offline() -> Iterator[Recipient]:
    with recipient() as made:
        yield made


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, offline: Recipient) -> Iterator[BackedUp]:
    """A site with files; with a PostgreSQL server where a test is parametrized so (`indirect`)."""
    database = request.getfixturevalue("on_server").server if getattr(request, "param", "") == "postgresql" else None
    with ledger_site(tmp_path / "b", database=database) as box:
        disk = tmp_path / "disk"
        config = with_backups(box.config, disk, offline.certificate())
        places = config.at
        for folder in (places.trust, places.pinned_trust, places.promoter):
            folder.mkdir(parents=True)
        places.config_file.write_text(box.config_file.read_text())
        (places.pinned_trust / trust.PINNED_ROOT).write_bytes(ROOT)
        trust.save(places.trust, TrustRecord(root_chain=(ROOT.decode(),), serial=7, payload_digest="a" * 64))
        (places.promoter / PASSWORDS).write_bytes(b'{"format":1,"passwords":{}}')
        (places.promoter / "codes.json").write_bytes(b'{"codes":[],"format":1}')
        made = BackedUp(box=box, config=config, disk=disk)
        with box.running():
            made.record("release.refused", {"error": "wrong-site"})
            made.record("promotion.requested", {"statement_sha256": "d" * 64}, PROMOTER)
        yield made
