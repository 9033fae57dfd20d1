"""EXPORTs on a marked medium: what was made, shown and recorded goes there whole, and nothing else ever does."""

import errno
import os
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import export_evidence, export_inventory, export_probe, receipt
from appliance.actions.carrying import CARRIED, chosen, write
from appliance.actions.exporting import Written
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.audit.log import Log
from appliance.errors import ExportRefusedError, JobRefusedError, LedgerUnavailableError, StoreWriteError
from appliance.install import arrivals, exported
from appliance.install.arrivals import Arrival
from media import canonical
from media.digest import sha256_hex
from media.errors import MediaError
from tests.functional.test_exports import _PROBE, box, log, medium, site
from tests.support.ledger import LedgerSite
from tests.support.medium import SimulatedMedium
from tests.support.receiving import Site
from tests.unit.appliance.actions.test_arriving import STICK

__all__ = ["box", "log", "medium", "site"]


@pytest.fixture
def bare(box: LedgerSite) -> Site:
    """A site that has received nothing."""
    box.config.at.receipts.mkdir(parents=True)
    return Site(config=box.config)


@pytest.fixture
def ledger(box: LedgerSite, bare: Site) -> Iterator[Ledger]:
    with box.running(bare.clock):
        found = open_ledger(bare.config, "ledger-actions", clock=bare.clock)
        yield found
        found.close()


def plug(site: Site, *, claims: Any = None, **facts: Any) -> Arrival:
    places = site.config.at
    (places.root / arrivals.BLOCK / "sdb1").mkdir(parents=True, exist_ok=True)
    arrival = replace(STICK, **facts)
    arrivals.keep(places, arrival)
    arrivals.keep_inspected(places, arrival, claims=claims, problem="it is no Sealift volume")
    return arrival


def made(site: Site, tmp_path: Path, kind: str) -> tuple[Written, str]:
    """Make an export the ordinary way, and return it with the digest that people are shown."""
    seen: list[str] = []

    def agrees(text: str) -> bool:
        seen.append(text)
        return True

    own, to, clock = site.config, site.config.at.receipts, site.clock
    written: Written | None
    if kind == "receipt":
        written = receipt.export(own, 1, to, clock=clock, agrees=agrees)
    elif kind == "evidence":
        written = export_evidence.export(own, to, serial=1, sequence=None, clock=clock, agrees=agrees)
    elif kind == "inventory":
        _, written = export_inventory.export(
            own, to, clock=clock, agrees=lambda _, text: agrees(text), progress=lambda *_: None, quick=True
        )
    else:
        (tmp_path / "probe.json").write_bytes(canonical.dumps(_PROBE) + b"\n")
        written = export_probe.export(own, tmp_path / "probe.json", to, clock=clock, agrees=agrees)
    assert written is not None
    found = open_ledger(own, "ledger-actions", clock=clock)
    try:
        return written, str(found.find(kind="export.written", limit=1)[0].body["sha256"])
    finally:
        found.close()


def test_each_type_is_found_by_its_recorded_digest_and_carried_as_it_is(
    site: Site, medium: SimulatedMedium, log: Log, tmp_path: Path
) -> None:
    site.receive(medium)
    stick = tmp_path / "stick"
    stick.mkdir()
    plug(site)
    ledger = open_ledger(site.config, "ledger-actions", clock=site.clock)
    try:
        for kind in ("receipt", "evidence", "inventory", "probe"):
            written, digest = made(site, tmp_path, kind)
            load, arrival = chosen(site.config, ledger, "sdb1", digest)
            write(stick, load, arrival, ledger)

            assert (stick / written.file.name).read_bytes() == written.file.read_bytes()
            assert ledger.find(kind=CARRIED)[0].body == {
                "type": kind,
                "sha256": digest,
                "file_sha256": written.sha256,
                "medium": "sdb1",
                "stay": STICK.id,
                "filesystem": "vfat",
            }
            write(stick, load, arrival, ledger)  # carried again: the same bytes are there
        assert len(list(stick.iterdir())) == 4
        forge(written_of(site, "evidence"))
        with pytest.raises(JobRefusedError):
            chosen(
                site.config,
                ledger,
                "sdb1",
                ledger.find(kind="export.written", field="type", value="evidence")[0].body["sha256"],
            )
    finally:
        ledger.close()
    assert log.find(kind=CARRIED)


def written_of(site: Site, kind: str) -> Path:
    (found,) = site.config.at.receipts.glob(f"{kind}-*.json")
    return found


def forge(file: Path) -> None:
    """Change one word of what an export says, and leave the rest as it is."""
    envelope = canonical.loads(file.read_bytes())
    content = canonical.loads(exported.content_of(file.read_bytes())[0])
    payload = b64encode(canonical.dumps({**content, "site": "elsewhere"})).decode()
    file.write_bytes(canonical.dumps({**envelope, "payload": payload}))


def test_what_was_never_recorded_does_not_leave_whatever_lies_in_the_folder(bare: Site, ledger: Ledger) -> None:
    secret = canonical.dumps({"note": "patient John Doe", "ledger": None})
    digest = sha256_hex(secret)
    (bare.config.at.receipts / f"x-{digest[:12]}.json").write_bytes(secret)
    plug(bare)

    with pytest.raises(JobRefusedError, match="is recorded"):
        chosen(bare.config, ledger, "sdb1", digest)


def test_what_is_recorded_as_another_type_does_not_leave(bare: Site, ledger: Ledger) -> None:
    secret = canonical.dumps({"note": "patient John Doe"})
    digest = sha256_hex(secret)
    (bare.config.at.receipts / f"x-{digest[:12]}.json").write_bytes(secret)
    plug(bare)

    for kind in ("probe", "evidence"):
        ledger.append("export.written", {"type": kind, "site": "demo-clinic", "sha256": digest, "bytes": len(secret)})
        with pytest.raises(ExportRefusedError):
            chosen(bare.config, ledger, "sdb1", digest)


@pytest.mark.parametrize(
    "facts",
    [
        {"label": "STICK"},
        {"state": "refused", "why": "its file system is vfat"},
        {"filesystem": "iso9660"},
        {"filesystem": "udf"},
        {"claims": {"untrusted_serial": 1}},
    ],
)
def test_a_medium_that_is_not_marked_takes_nothing(
    bare: Site, ledger: Ledger, tmp_path: Path, facts: dict[str, Any]
) -> None:
    _, digest = made(bare, tmp_path, "probe")
    plug(bare, **facts)

    with pytest.raises(JobRefusedError, match="takes no EXPORT"):
        chosen(bare.config, ledger, "sdb1", digest)


def test_nothing_is_written_over_and_no_link_is_followed(bare: Site, ledger: Ledger, tmp_path: Path) -> None:
    written, digest = made(bare, tmp_path, "probe")
    plug(bare)
    load, arrival = chosen(bare.config, ledger, "sdb1", digest)
    stick, outside = tmp_path / "stick", tmp_path / "outside"
    stick.mkdir()
    (stick / written.file.name).write_text("another")
    with pytest.raises(StoreWriteError):
        write(stick, load, arrival, ledger)
    assert (stick / written.file.name).read_text() == "another"

    (stick / written.file.name).unlink()
    (stick / written.file.name).symlink_to(outside)
    with pytest.raises(StoreWriteError):
        write(stick, load, arrival, ledger)
    assert not outside.exists()


def test_a_torn_export_leaves_no_file_that_keeps_the_whole_one_from_its_medium(
    bare: Site, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    plug(bare)
    written, digest = made(bare, tmp_path, "probe")
    load, arrival = chosen(bare.config, ledger, "sdb1", digest)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(StoreWriteError, match="could not be written") as refusal:
            write(stick, load, arrival, ledger)
    assert refusal.value.why == os.strerror(errno.ENOSPC)
    assert list(stick.iterdir()) == []

    write(stick, load, arrival, ledger)
    assert (stick / written.file.name).read_bytes() == written.file.read_bytes()


def test_a_stick_that_gives_back_other_bytes_than_it_took_is_no_carrier(
    bare: Site, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read back came from memory: a stick that takes bytes and keeps none was called written."""
    stick = tmp_path / "stick"
    stick.mkdir()
    plug(bare)
    written, digest = made(bare, tmp_path, "probe")
    load, arrival = chosen(bare.config, ledger, "sdb1", digest)

    def lost(*_: int) -> None:
        place = stick / written.file.name
        place.write_bytes(bytes(place.stat().st_size))

    with monkeypatch.context() as memory:
        memory.setattr(os, "posix_fadvise", lost)
        with pytest.raises(StoreWriteError, match="could not be written"):
            write(stick, load, arrival, ledger)

    assert list(stick.iterdir()) == []


def test_without_a_record_nothing_leaves(
    bare: Site, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, digest = made(bare, tmp_path, "probe")
    plug(bare)
    load, arrival = chosen(bare.config, ledger, "sdb1", digest)

    def away(*_: Any) -> Any:
        raise LedgerUnavailableError(what="the ledger does not answer")

    monkeypatch.setattr(ledger, "append", away)
    with pytest.raises(LedgerUnavailableError):
        write(tmp_path, load, arrival, ledger)
    assert not (tmp_path / load.file.name).exists()


def test_the_table_by_which_the_unit_mounts_for_writing_names_the_medium_and_its_writer_alone(bare: Site) -> None:
    arrival = plug(bare)

    exported.prepare(bare.config.at, arrival)

    source, target, kind, options, *_ = exported.table(bare.config.at, "sdb1").read_text().split()
    assert (source, target, kind) == ("/dev/sdb1", str(bare.config.at.export_medium), "vfat")
    assert {"rw", "nosuid", "nodev", "noexec", "uid=sealift-export", "gid=sealift-export"} <= set(options.split(","))


@pytest.mark.parametrize("kind", ["iso9660", "udf", "overlay", "ext4,bind"])
def test_a_type_that_is_not_written_to_gets_no_table(bare: Site, kind: str) -> None:
    with pytest.raises(JobRefusedError, match="takes no EXPORT"):
        exported.prepare(bare.config.at, plug(bare, filesystem=kind))

    assert not exported.table(bare.config.at, "sdb1").exists()


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"payload":"!","payloadType":"x","signatures":[]}', b'{"payload":1}'])
def test_what_is_no_file_of_an_export_is_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises(MediaError):
        exported.content_of(raw)
