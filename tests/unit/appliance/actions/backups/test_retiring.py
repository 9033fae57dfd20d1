"""Retiring: keys first, old ciphertext dead, a certificate that claims no more than was done."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import retiring
from appliance.actions.backups import aside, doomed, making
from appliance.actions.backups.erasures import DESTROYED
from appliance.actions.retiring import Decision, Disks
from appliance.actions.retiring_scope import BEGUN, DONE
from appliance.actions.status import status
from appliance.audit import note, pin
from appliance.audit.client import open_ledger
from appliance.errors import ApprovalRefusedError, KeyMissingError, LedgerUnavailableError, UnknownPersonError
from appliance.install import hostfiles
from appliance.keys.files import FileKeys
from appliance.keys.provider import PURPOSES, Purpose
from media.clock import SystemClock
from media.errors import SealiftError, UsageError
from tests.unit.appliance.actions.backups.conftest import BackedUp

DECISION = Decision(
    typed_site="demo",
    people=("ann", "bo"),
    reason="end of life",
    disks=Disks(media=("SSD, Maker, Model, S/N 123",), technique="shredding", destination="Shredder Ltd"),
)


def retire(site: BackedUp, certificate: Path, decision: Decision = DECISION, **changes: Any) -> retiring.Retired:
    confirm = changes.pop("confirm", str.title)
    return retiring.retire(
        site.config, decision, confirm=confirm, certificate=certificate, clock=SystemClock(), **changes
    )


def secrets_of(site: BackedUp) -> set[str]:
    return {path.name for path in site.config.at.key_files.iterdir()}


def test_keys_go_first_and_what_they_made_no_longer_opens(site: BackedUp, tmp_path: Path) -> None:
    keys = FileKeys(site.config.at.key_files)
    sealed = keys.wrap("phi-map", b"text", b"aad")
    file = tmp_path / "certificate.html"
    factors, collector = site.config.at.promoter / "secondfactors.json", site.config.at.etc / "collector-client.pem"
    for one in (factors, collector):
        one.write_bytes(b"a private key")
    with site.box.running() as log:
        making.make(site.config, clock=SystemClock())
        done = retire(site, file)
        kinds = [leaf.kind for leaf in log.leaves(0, 1000)]
        key = pin.read_pin(site.config.at)

    assert secrets_of(site) == set()
    assert not (site.config.at.promoter / "passwords.json").exists()
    assert not factors.exists()
    assert not collector.exists()
    named = {each["name"]: each["files"] for each in done.facts["keys"]}
    assert (named["second factors"], named["collector"]) == ([factors.name], [collector.name])
    with pytest.raises(SealiftError):
        FileKeys(site.config.at.key_files).unwrap("phi-map", sealed, b"aad")
    assert kinds.index(BEGUN) < kinds.index(DESTROYED) < kinds.index(DONE) == len(kinds) - 1
    assert {each["key"] for each in done.facts["shown"]} >= {"phi-map", "identity-hmac", "content-hmac"}
    assert key is not None
    assert note.verify_checkpoint(done.checkpoint, [key]).size == len(kinds)
    page = file.read_text()
    for said in (
        "SP 800-88 Rev. 2",
        "Ann",
        "S/N 123",
        "shredding",
        "cannot be opened",
        "Services stopped",
        "Holder of the backup key",
    ):
        assert said in page


def test_the_ledger_is_opened_once_for_one_retirement_foreseen_done_or_done_before(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    def counted(*told: Any, **named: Any) -> Any:
        opened.append(told)
        return open_ledger(*told, **named)

    monkeypatch.setattr("appliance.actions.retiring.open_ledger", counted)
    with site.box.running():
        retire(site, tmp_path / "c.html", dry_run=True)
        foreseen = len(opened)
        retire(site, tmp_path / "c.html")
        done = len(opened)
        retire(site, tmp_path / "again.html")

    assert (foreseen, done, len(opened)) == (1, 2, 3)


def test_a_dry_run_after_a_retirement_that_was_cut_off_destroys_and_writes_nothing(
    site: BackedUp, tmp_path: Path
) -> None:
    last = site.config.at.key_files / "ledger-checkpoint.v1"
    key = last.read_bytes()
    with site.box.running():
        retire(site, tmp_path / "c.html")
        last.write_bytes(key)  # as where the power went before it was destroyed
        last.chmod(0o400)

        foreseen = retire(site, tmp_path / "again.html", dry_run=True)

        assert foreseen.facts == {"keys": [], "last": ["ledger-checkpoint"], "dry_run": True}
        assert last.read_bytes() == key
        assert not (tmp_path / "again.html").exists()
        retire(site, tmp_path / "again.html")
    assert secrets_of(site) == set()


def test_the_status_says_first_that_a_box_is_retired_while_it_answers_and_when_it_is_stopped(
    site: BackedUp, tmp_path: Path
) -> None:
    with site.box.running():
        before = status(site.config, clock=SystemClock()).to_json()
        retire(site, tmp_path / "c.html")
        answering = status(site.config, clock=SystemClock())
    stopped = status(site.config, clock=SystemClock())

    assert "retirement" not in before
    for told in (answering, stopped):
        first = told.parts[0]
        assert (first.name, first.is_good, first.fields["retired"]) == ("retirement", False, True)
        assert "demo was retired at" in first.text
        assert "by Ann and Bo: its keys are destroyed" in first.text
        assert "systemctl stop sealift.target 'sealift-*'" in first.text
    assert answering.part("ledger").fields["live"] is True


def test_the_status_says_that_a_retirement_was_cut_off(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: Path) -> None:
        raise KeyboardInterrupt

    with site.box.running(), monkeypatch.context() as patched:
        patched.setattr(doomed, "overwrite", cut)
        with pytest.raises(KeyboardInterrupt):
            retire(site, tmp_path / "c.html")
        told = status(site.config, clock=SystemClock()).parts[0]

    assert (told.name, told.is_good, told.fields["retired"]) == ("retirement", False, False)
    assert "and not ended: the same `sealift retire` goes on" in told.text


@pytest.mark.parametrize(
    "decision",
    [
        replace(DECISION, typed_site="demp"),
        replace(DECISION, people=("ann", "ann")),
        replace(DECISION, people=("ann", "bo", "cy")),
        replace(DECISION, reason=" "),
    ],
)
def test_nothing_is_destroyed_without_the_name_two_people_and_a_reason(
    site: BackedUp, tmp_path: Path, decision: Decision
) -> None:
    before = secrets_of(site)

    with pytest.raises(ApprovalRefusedError):
        retire(site, tmp_path / "c.html", decision)
    assert secrets_of(site) == before


def test_a_wrong_password_a_ledger_that_is_down_and_a_dry_run_destroy_nothing(site: BackedUp, tmp_path: Path) -> None:
    before = secrets_of(site)

    def refuse(person: str) -> str:
        raise UnknownPersonError(what=f"{person} is not who they say")

    with pytest.raises(LedgerUnavailableError):
        retire(site, tmp_path / "c.html")
    with site.box.running() as log:
        with pytest.raises(UnknownPersonError):
            retire(site, tmp_path / "c.html", confirm=refuse)
        assert "phi-map" in retire(site, tmp_path / "c.html", dry_run=True).facts["keys"]
        with pytest.raises(UsageError):
            retire(site, tmp_path / "c.txt")
        assert log.find(kind=BEGUN) == []
    assert secrets_of(site) == before
    assert list(tmp_path.glob("c.*")) == []


def test_a_retirement_that_was_cut_off_goes_on_although_the_passwords_are_gone(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doomed.overwrite
    done: list[Path] = []

    def cut(file: Path) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(file)
        real(file)

    def forgotten(person: str) -> str:
        raise UnknownPersonError(what=f"{person} has no password any more")

    with site.box.running():
        with monkeypatch.context() as power:
            power.setattr(doomed, "overwrite", cut)
            with pytest.raises(KeyboardInterrupt):
                retire(site, tmp_path / "c.html")

        finished = retire(site, tmp_path / "c.html", confirm=forgotten)
    shown = {name for name, purpose in PURPOSES.items() if purpose in {Purpose.HMAC, Purpose.WRAP}}
    assert {each["key"] for each in finished.facts["shown"]} == shown
    assert secrets_of(site) == set()
    again = retire(site, tmp_path / "again.pdf", confirm=forgotten)
    assert again.certificate is not None
    assert again.certificate.read_bytes().startswith(b"%PDF")


def test_a_key_that_was_gone_when_the_power_went_is_on_the_certificate(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doomed.overwrite

    def cut(file: Path) -> None:
        real(file)
        if file.name.startswith("api-key-pepper"):
            raise KeyboardInterrupt

    with site.box.running():
        with monkeypatch.context() as power:
            power.setattr(doomed, "overwrite", cut)
            with pytest.raises(KeyboardInterrupt):
                retire(site, tmp_path / "c.html")
        finished = retire(site, tmp_path / "c.html")

    names = [each["name"] for each in finished.facts["keys"]]
    assert set(names) >= set(PURPOSES) - set(doomed.LAST)
    assert len(names) == len(set(names))


def test_what_the_ledgers_service_starts_with_goes_when_nothing_is_to_be_recorded_any_more(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with site.box.running():
        assert set(retire(site, tmp_path / "c.html", dry_run=True).facts["last"]) == set(doomed.LAST)
        with monkeypatch.context() as power:
            power.setattr(doomed, "destroy_last", cut)
            with pytest.raises(KeyboardInterrupt):
                retire(site, tmp_path / "c.html")
    unit = hostfiles.folder("systemd") / "sealift-ledger.service"
    loaded = set(re.findall(r"(?m)^LoadCredential=([a-z-]+):", unit.read_text()))

    # Of a unit that lacks one of these systemd starts nothing (243/CREDENTIALS).
    assert {name.rpartition(".")[0] for name in secrets_of(site)} == loaded == set(doomed.LAST)
    with site.box.running():
        finished = retire(site, tmp_path / "c.html")
    assert secrets_of(site) == set()
    assert set(finished.facts["last"]) == set(doomed.LAST)
    assert "ledger-mldsa, ledger-checkpoint" in (tmp_path / "c.html").read_text()


def put_aside(site: BackedUp, name: str = "before-restore-20261101T080000Z") -> Path:
    """Lay what is here now where a restore with --replace puts it: the keys are of one lineage."""
    place = site.config.at.state / name
    shutil.copytree(site.config.at.key_files, place / "keys")
    shutil.copytree(site.config.at.promoter, place / "promoter")
    return place


def test_what_a_restore_put_aside_goes_with_the_keys_in_use_and_is_tried_too(site: BackedUp, tmp_path: Path) -> None:
    FileKeys(site.config.at.key_files).create("phi-map")
    (site.config.at.key_files / "box-sealing.x25519").write_bytes(b"s" * 32)
    keys = FileKeys(site.config.at.key_files)
    sealed = keys.wrap("phi-map", b"text", b"aad")
    before = put_aside(site)
    cut = site.config.at.state / ".restoring/etc/sealift/keys"
    shutil.copytree(site.config.at.key_files, cut)
    file = tmp_path / "c.html"

    with site.box.running() as log:
        making.make(site.config, clock=SystemClock())
        done = retire(site, file)
        destroyed = {str(leaf.body["name"]): leaf.body for leaf in log.find(kind=DESTROYED)}

    for folder in (before / "keys", cut):
        assert list(folder.iterdir()) == []
        with pytest.raises(SealiftError):
            FileKeys(folder).unwrap("phi-map", sealed, b"aad")
    assert [path.name for path in (before / "promoter").glob("*.json") if path.name in aside.PASSWORDS] == []
    assert f"{before.name}/phi-map.v2" in destroyed["phi-map"]["files"]
    assert ".restoring/phi-map.v1" in destroyed["phi-map"]["files"]
    assert destroyed["ledger-checkpoint"]["files"] == [
        f"{before.name}/ledger-checkpoint.v1",
        ".restoring/ledger-checkpoint.v1",
    ]
    assert f"{before.name}/passwords.json" in destroyed["password hashes"]["files"]
    tried = [each["tried"] for each in done.facts["shown"] if each["key"] == "phi-map"]
    assert tried == [
        "a text sealed before",
        f"a text sealed before, with what lies in {before.name}",
        "a text sealed before, with what lies in .restoring",
    ]
    assert f"{before.name}/passwords.json" in file.read_text()


def test_a_retirement_that_ended_without_what_was_put_aside_destroys_it_when_it_runs_again(
    site: BackedUp, tmp_path: Path
) -> None:
    with site.box.running():
        kept = tmp_path / "kept"
        shutil.copytree(site.config.at.key_files, kept)
        retire(site, tmp_path / "c.html")
        before = site.config.at.state / "before-restore-20261101T080000Z"
        shutil.copytree(kept, before / "keys")
        (before / "keys/token-pin").write_text("1234")

        retire(site, tmp_path / "again.html")

    assert list((before / "keys").iterdir()) == []


def test_no_certificate_is_written_again_while_a_key_lies_here_again(site: BackedUp, tmp_path: Path) -> None:
    """It told the results of the day of the retirement, dated today."""
    with site.box.running():
        kept = tmp_path / "kept"
        shutil.copytree(site.config.at.key_files, kept)
        retire(site, tmp_path / "c.html")
        back = site.config.at.key_files / "phi-map.v1"
        shutil.copy2(kept / back.name, back)

        with pytest.raises(KeyMissingError, match="keys lie here again since the retirement: phi-map"):
            retire(site, tmp_path / "again.html")
        assert not (tmp_path / "again.html").exists()

        back.unlink()
        retire(site, tmp_path / "again.html")
    assert (tmp_path / "again.html").exists()


def test_a_key_that_is_put_back_aside_while_the_box_is_retired_stops_it(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = put_aside(site)
    real, key = doomed.overwrite, (before / "keys/phi-map.v1").read_bytes()

    def put_back(file: Path) -> None:
        real(file)
        if file == before / "keys/phi-map.v1":
            file.write_bytes(key)
            file.chmod(0o400)

    monkeypatch.setattr(doomed, "overwrite", put_back)
    with site.box.running(), pytest.raises(KeyMissingError, match=r"phi-map in before-restore-.* still works"):
        retire(site, tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


def test_what_a_cut_left_of_a_key_that_was_being_replaced_and_of_a_drill_that_was_killed_goes_too(
    site: BackedUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    drilled = tmp_path / "sealift-drill-x.lent/etc/sealift/keys"
    shutil.copytree(site.config.at.key_files, drilled)
    (site.config.at.key_files / ".api-key-pepper.v1.new").write_bytes(b"p" * 32)
    (site.config.at.key_files / ".token-pin-0a1b2c3d").write_text("1234")
    (site.config.at.promoter / ".passwords.json.new").write_bytes(b"{}")
    overwritten: list[Path] = []
    real = doomed.overwrite

    def noted(file: Path) -> None:
        overwritten.append(file)
        real(file)

    monkeypatch.setattr(doomed, "overwrite", noted)
    with site.box.running():
        retire(site, tmp_path / "c.html")

    assert secrets_of(site) == set()
    assert not (site.config.at.promoter / ".passwords.json.new").exists()
    assert not drilled.parent.exists()
    assert drilled / "phi-map.v1" in overwritten


def test_of_the_secret_that_a_pair_shares_the_certificate_says_only_that_it_is_gone_here(
    site: BackedUp, tmp_path: Path
) -> None:
    page = tmp_path / "c.html"
    with site.box.running():
        site.record("standby.paired", {"peer": "room-2", "origin": "x", "relation": "standby", "is_first": True})
        site.record("standby.parted", {"peer": "room-2", "by": ["Ann", "Bo"], "reason": "moved"})
        site.record("standby.paired", {"peer": "tester", "origin": "y", "relation": "test", "is_first": True})
        done = retire(site, page)
        retire(site, tmp_path / "again.html")

    assert done.facts["boxes"] == ["room-2"]
    results = {each["key"]: each["result"] for each in done.facts["shown"]}
    assert results["api-key-pepper"].endswith("; that is here: room-2 may have the same key")
    assert "room-2" not in results["identity-hmac"]
    for file in (page, tmp_path / "again.html"):
        text = file.read_text()
        assert "no longer opens here; hashes of API keys can be made again on room-2" in text
        assert "The box room-2 is or was paired with this one and may have the same secret of API keys" in text
        assert "does not open here now" in text
        assert "tester" not in text


def test_a_certificate_of_a_box_that_was_never_paired_knows_no_other_box(site: BackedUp, tmp_path: Path) -> None:
    with site.box.running():
        done = retire(site, tmp_path / "c.html")

    assert "boxes" not in done.facts
    assert "can be made again on" not in (tmp_path / "c.html").read_text()


def test_a_node_that_was_retired_and_has_only_what_was_put_aside_is_not_retired_anew(
    site: BackedUp, tmp_path: Path
) -> None:
    keys = FileKeys(site.config.at.key_files)
    assert doomed.is_used(site.config, keys)
    with site.box.running():
        kept = put_aside(site).rename(tmp_path / "kept")
        retire(site, tmp_path / "c.html")
    kept.rename(site.config.at.state / "before-restore-20261101T080000Z")

    assert doomed.secrets_of(site.config, keys) != []
    assert not doomed.is_used(site.config, keys)
