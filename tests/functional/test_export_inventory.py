"""What a box says that it holds goes back to the sender, who believes it without the box."""

import json
import shutil
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from appliance.actions import export_inventory
from appliance.actions.export_inventory import Listed
from appliance.actions.exporting import RECORDED, require_harmless
from appliance.audit.entry import Entry
from appliance.audit.leaf import Via
from appliance.cli import context as shared
from appliance.cli import export as export_command
from appliance.cli import main
from appliance.errors import ExportRefusedError, LedgerUnavailableError
from appliance.verify import trust
from bundler.inventory import BelievedInventory, read_inventory, site_of
from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import LedgerKey
from media import canonical
from media.errors import BadSignatureError, MalformedError
from media.inventory import Inventory
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.medium import SimulatedMedium
from tests.support.receiving import Shelf, Site

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        yield made


def site_of_box(box: LedgerSite, root_json: bytes) -> Site:
    places = box.config.at
    places.pinned_trust.mkdir(parents=True)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(root_json)
    return Site(config=box.config.model_copy(update={"environment": "demo", "profile": "cpu"}))


def exported(box: LedgerSite, site: Site, medium: SimulatedMedium, folder: Path) -> tuple[Listed, bytes, LedgerKey]:
    with box.running(site.clock) as log:
        site.receive(medium)
        listed, written = export_inventory.export(
            site.config, folder, clock=site.clock, agrees=lambda _, __: True, progress=lambda *_: None
        )
        assert [leaf.kind for leaf in log.leaves(0, 100)].count(RECORDED) == 1
    assert written is not None
    return listed, written.file.read_bytes(), LedgerKey.from_text((box.places.etc / "ledger.pub").read_text())


def test_the_sender_believes_what_a_box_says_that_it_holds(box: LedgerSite, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)

    _, came_back, key = exported(box, site, medium, tmp_path / "out")
    found = read_inventory(came_back, SiteKeys.of(key))

    assert site_of(came_back) == "demo-clinic"
    assert found.vouched_by == ("signature", "ledger")
    assert found.checkpoint is not None
    assert found.inventory.serial == medium.serial
    assert found.inventory.hashed
    assert [each.code for each in found.inventory.releases] == [medium.code]
    assert {each.sha256 for each in found.inventory.files} == {
        each.sha256 for each in site.store.releases()[0].files.values()
    }


def test_a_changed_inventory_is_believed_by_nobody(box: LedgerSite, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)
    _, came_back, key = exported(box, site, medium, tmp_path / "out")
    envelope = canonical.loads(came_back)
    payload = canonical.loads(b64decode(envelope["payload"]))

    def repacked(**changes: object) -> bytes:
        content = b64encode(canonical.dumps({**payload, **changes})).decode()
        return canonical.dumps({**envelope, "payload": content})

    unsigned = canonical.dumps({**json.loads(repacked(serial=9)), "signatures": []})
    for untrusted in (repacked(serial=9), unsigned, repacked(files=payload["files"][1:])):
        with pytest.raises(BadSignatureError):
            read_inventory(untrusted, SiteKeys.of(key))
    with pytest.raises(BadSignatureError):
        read_inventory(canonical.dumps({**json.loads(repacked(ledger=None)), "signatures": []}), SiteKeys.of(key))
    with pytest.raises(MalformedError):
        read_inventory(repacked(note="anything"), SiteKeys.of(key))


def test_of_a_site_that_has_many_releases_the_sender_reads_the_newest(
    box: LedgerSite, genuine: Shelf, tmp_path: Path
) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)
    exported(box, site, medium, tmp_path / "out")
    first = site.store.release_folder(1)
    for serial in range(2, 71):  # a monthly release, for years
        shutil.copytree(first, site.store.release_folder(serial))
        record = site.store.release_folder(serial) / "release.json"
        record.chmod(0o644)
        record.write_bytes(canonical.dumps({**canonical.loads(record.read_bytes()), "serial": serial}))

    listed = export_inventory.take(site.config, clock=site.clock, serial=70, quick=False, progress=lambda *_: None)
    found, _ = Inventory.from_payload(listed.inventory.to_payload(ledger=None))

    assert [each.serial for each in found.releases] == list(range(7, 71))
    assert found.files == listed.inventory.files != ()


def test_a_file_that_the_disk_lost_is_not_listed(box: LedgerSite, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)
    _, _, _ = exported(box, site, medium, tmp_path / "out")
    stored = site.store.releases()[0]
    lost = stored.path_of("data/models/tiny/tiny.gguf")
    content = bytearray(lost.read_bytes())
    content[7] ^= 1
    lost.chmod(0o644)
    lost.write_bytes(content)

    listed = export_inventory.take(site.config, clock=site.clock, serial=1, quick=False, progress=lambda *_: None)
    quick = export_inventory.take(site.config, clock=site.clock, serial=1, quick=True, progress=lambda *_: None)

    assert listed.damaged == ("data/models/tiny/tiny.gguf",)
    assert stored.files["data/models/tiny/tiny.gguf"].sha256 not in {each.sha256 for each in listed.inventory.files}
    assert quick.damaged == ()
    assert not quick.inventory.hashed
    assert {each.sha256 for each in quick.inventory.files} > {each.sha256 for each in listed.inventory.files}


def test_what_went_with_a_deleted_version_is_no_finding(box: LedgerSite, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)
    with box.running(site.clock) as log:
        site.receive(medium)
        stored = site.store.releases()[0]
        weights = "data/models/tiny/tiny.gguf"
        stored.path_of(weights).unlink()

        def listed() -> Listed:
            found, _ = export_inventory.export(
                site.config, tmp_path / "out", clock=site.clock, agrees=lambda _, __: False, progress=lambda *_: None
            )
            return found

        assert listed().damaged == (weights,)
        (digest,) = (file.sha256 for path, file in stored.files.items() if path.endswith("descriptor.json"))
        body = {"model_digest": digest, "person": "ana", "reason": "x"}
        log.append([Entry.of("model.deleted", body, via=Via(door="ledger-promoter", uid=0))])
        assert listed().damaged == ()
        assert stored.files[weights].sha256 not in {each.sha256 for each in listed().inventory.files}


def test_nothing_leaves_unseen_or_unrecorded(box: LedgerSite, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)
    shown: list[str] = []

    def no(_: Listed, text: str) -> bool:
        shown.append(text)
        return False

    with box.running(site.clock) as log:
        site.receive(medium)
        _, written = export_inventory.export(
            site.config, tmp_path / "out", clock=site.clock, agrees=no, progress=lambda *_: None
        )
        assert RECORDED not in [leaf.kind for leaf in log.leaves(0, 100)]
    with pytest.raises(LedgerUnavailableError):
        export_inventory.export(
            site.config, tmp_path / "out", clock=site.clock, agrees=lambda *_: True, progress=lambda *_: None
        )

    assert written is None
    assert not (tmp_path / "out").exists()
    assert medium.code in shown[0]


@pytest.mark.parametrize("text", ["patient SSN 123-45-6789", "sl-abcdefghij-" + "A" * 43])
def test_an_export_that_names_a_person_or_a_secret_does_not_leave(text: str) -> None:
    with pytest.raises(ExportRefusedError) as refused:
        require_harmless(canonical.dumps({"site": text}), most_bytes=1000)
    assert text not in str(refused.value.to_json())


def test_an_export_above_its_cap_does_not_leave() -> None:
    require_harmless(canonical.dumps({"a": "b"}), most_bytes=9)
    with pytest.raises(ExportRefusedError):
        require_harmless(canonical.dumps({"a": "b"}), most_bytes=8)


def test_an_inventory_reads_back_as_it_was_written(box: LedgerSite, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)
    listed, came_back, key = exported(box, site, medium, tmp_path / "out")

    assert isinstance(read_inventory(came_back, SiteKeys.of(key)), BelievedInventory)
    assert read_inventory(came_back, SiteKeys.of(key)).inventory == listed.inventory


def test_the_command_shows_everything_before_it_writes(
    box: LedgerSite,
    genuine: Shelf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    medium = genuine()
    site = site_of_box(box, medium.root_json)

    def sealift(*words: str) -> tuple[int, str, str]:
        app = typer.Typer()
        app.callback()(main._root)
        export_command.register(app)
        given = [
            "sealift",
            "--config",
            str(box.config_file),
            "export",
            "inventory",
            "--to",
            str(tmp_path / "out"),
            *words,
        ]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as ended:
            shared.run(app)
        said = capsys.readouterr()
        return int(str(ended.value.code or 0)), said.out, said.err

    with box.running(site.clock):
        site.receive(medium)
        unseen = sealift()
        tried = sealift("--dry-run")
        done = sealift("--yes", "--json")

    assert unseen[0] == 2
    assert (tried[0], tried[1]) == (0, "nothing was written\n")
    assert f'"payload_digest": "{site.store.releases()[0].payload_digest}"' in tried[2]
    assert done[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [json.loads(done[1])["file"]]
