"""The whole way of a delta medium by its commands: inventory out, set made and proven, received, receipt back."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import export_inventory
from appliance.verify import trust
from bundler.cli.main import main
from bundler.knownledgers import checkpoints
from bundler.register import Register
from bundler.seal import code_of, seal
from bundler.workfolder import WorkFolder
from media.digest import sha256_hex
from tests.support.ledger import ROOT, LedgerSite, ledger_site
from tests.support.medium import SimulatedMedium, make_medium, throwaway_ceremony
from tests.support.receiving import Site

Command = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        yield made


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the sender's command; return its ending, its JSON and its talk."""

    def run(*words: object) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--json", *map(str, words), "--register", str(tmp_path / "register")])
        said = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(said.out or "{}"), said.err

    return run


def site_of(box: LedgerSite, root_json: bytes) -> Site:
    places = box.config.at
    places.pinned_trust.mkdir(parents=True)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(root_json)
    return Site(config=box.config.model_copy(update={"environment": "demo", "profile": "cpu"}))


def sealed(work: Path, *people: str) -> None:
    for person in people or ("alice", "bob"):
        seal(WorkFolder(root=work), person, ceremony=throwaway_ceremony("demo"))


def test_inventory_out_delta_in_receipt_back(box: LedgerSite, command: Command, tmp_path: Path) -> None:
    old, new = make_medium(tmp_path / "old", serial=1), make_medium(tmp_path / "new", serial=2)
    ceremony = throwaway_ceremony("demo").folder
    site = site_of(box, old.root_json)
    delta, carried = tmp_path / "delta", tmp_path / "stick"
    with box.running(site.clock):
        site.receive(old)
        _, written = export_inventory.export(
            site.config, tmp_path / "out", clock=site.clock, agrees=lambda *_: True, progress=lambda *_: None
        )
        assert written is not None
        common = ("--ceremony", ceremony, "--inventory", written.file)
        assert command("delta", new.work.root, delta, *common, "--person", "alice")[0] == 2  # the key is not known yet
        command("register", "site", "demo-clinic", "--key", box.places.etc / "ledger.pub")

        code, planned, _ = command("delta", new.work.root, delta, *common, "--dry-run")
        assert (code, delta.exists()) == (0, False)
        code, made, _ = command("delta", new.work.root, delta, *common, "--person", "alice", "--base", old.work.root)
        assert code == 0
        assert made["volumes"] == planned["volumes"]
        assert made["base"]["serials"] == [1]
        assert made["proof"]["by_digest"] == 0
        assert command("prove-delta", delta, *common)[0] == 0
        sealed(delta)
        words = ("--ceremony", ceremony, "--person", "alice", "--to", "demo-clinic")
        assert command("write", delta, carried, *words)[0] == 0
        facts = site.receive([carried])
        receipt = box.places.receipts / facts.receipt

    assert facts.outcome == "received"
    assert facts.code == code_of(WorkFolder(root=delta))
    assert facts.facts["delta"]["serials"] == [1]
    assert facts.facts["delta"]["carried_bytes"] == made["proof"]["carried_bytes"] < made["proof"]["bytes"]
    stored = site.store.releases()[-1]
    assert {name: stored.verify(name).read_bytes() for name in stored.files} == new.payload
    known = Register(folder=tmp_path / "register").entries()
    assert [entry.kind for entry in known].count("inventory") == 1
    (first,) = checkpoints(known, ["demo-clinic"]).values()
    assert checkpoints(known, ["elsewhere"]) == {}
    code, entered, _ = command("register", "receipt", receipt)
    assert (code, entered["code"], entered["is_new"]) == (0, facts.code, True)
    (later,) = checkpoints(Register(folder=tmp_path / "register").entries(), ["demo-clinic"]).values()
    assert later["size"] > first["size"]
    done = subprocess.run(
        [sys.executable, "-I", "bundler/check/verify.py", str(carried), "--code", facts.code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    left_out = made["proof"]["bytes"] - made["proof"]["carried_bytes"]
    assert f"{left_out} bytes must lie in the site's store (serial 1)" in done.stdout


@pytest.mark.fault
def test_a_release_that_is_only_signed_again_travels_without_its_files(
    box: LedgerSite, command: Command, tmp_path: Path
) -> None:
    first, again = make_medium(tmp_path / "old"), make_medium(tmp_path / "again", issue=1)
    ceremony = throwaway_ceremony("demo").folder
    site = site_of(box, first.root_json)
    with box.running(site.clock):
        site.receive(first)
        command("register", "site", "demo-clinic", "--key", box.places.etc / "ledger.pub")
        _, written = export_inventory.export(
            site.config, tmp_path / "out", clock=site.clock, agrees=lambda *_: True, progress=lambda *_: None
        )
        assert written is not None
        words = ("--ceremony", ceremony, "--inventory", written.file, "--person", "alice")
        code, made, _ = command("delta", again.work.root, tmp_path / "delta", *words)
        assert (code, made["proof"]["carried_bytes"]) == (0, 0)
        sealed(tmp_path / "delta")
        given = ("--ceremony", ceremony, "--person", "alice", "--to", "demo-clinic")
        assert command("write", tmp_path / "delta", tmp_path / "stick", *given)[0] == 0
        facts = site.receive([tmp_path / "stick"])

    assert facts.outcome == "reissued"
    assert facts.moved["read_bytes"] == 0
    assert site.record.timestamp_version == 1001


@pytest.mark.fault
def test_an_inventory_of_somebody_else_is_not_believed(box: LedgerSite, command: Command, tmp_path: Path) -> None:
    old, new = make_medium(tmp_path / "old", serial=1), make_medium(tmp_path / "new", serial=2)
    site = site_of(box, old.root_json)
    with box.running(site.clock):
        site.receive(old)
        _, written = export_inventory.export(
            site.config, tmp_path / "out", clock=site.clock, agrees=lambda *_: True, progress=lambda *_: None
        )
    with ledger_site(tmp_path / "other", site="demo-clinic") as other, other.running(site.clock):
        command("register", "site", "demo-clinic", "--key", other.places.etc / "ledger.pub")
    assert written is not None

    common = ("--ceremony", throwaway_ceremony("demo").folder, "--inventory", written.file)
    code, said, _ = command("delta", new.work.root, tmp_path / "delta", *common, "--person", "alice")

    assert (code, said["error"]["code"]) == (20, "bad-signature")
    assert not (tmp_path / "delta").exists()


@pytest.fixture
def two(tmp_path: Path) -> tuple[SimulatedMedium, SimulatedMedium]:
    return make_medium(tmp_path / "old", serial=1), make_medium(tmp_path / "new", serial=2)


def one_way(old: SimulatedMedium, new: SimulatedMedium, place: Path, *more: object) -> tuple[object, ...]:
    ceremony = throwaway_ceremony("demo").folder
    words = ("delta", new.work.root, place, "--ceremony", ceremony, "--from-register", "--person", "alice")
    return (*words, "--base", old.work.root, *more)


def test_one_way_builds_only_on_what_was_sent(
    two: tuple[SimulatedMedium, SimulatedMedium], command: Command, tmp_path: Path
) -> None:
    old, new = two
    ceremony, place = throwaway_ceremony("demo").folder, tmp_path / "delta"
    sticks = [tmp_path / "one", tmp_path / "two"]

    code, said, _ = command(*one_way(old, new, place, "--site", "demo-clinic"))
    assert (code, said["error"]["why"]) == (2, "it was never written for this site")
    command("write", old.work.root, *sticks, "--ceremony", ceremony)
    command("register", "sent", "demo-1/1/1", "--to", "demo-clinic")
    code, said, _ = command(*one_way(old, new, place, "--site", "demo-clinic"))
    assert (code, said["error"]["why"]) == (2, "volume 2 is not entered as sent")
    command("register", "sent", "demo-1/2/1", "--to", "a courier")
    assert command(*one_way(old, new, place, "--site", "another-clinic"))[0] == 2
    assert command(*one_way(old, new, place))[0] == 2

    code, made, _ = command(*one_way(old, new, place, "--site", "demo-clinic"))

    assert code == 0
    assert made["base"]["source"] == "register"
    assert "no receipt came back" in made["assumed"][0]
    assert made["proof"]["by_digest"] == 0
    kept = json.loads((place / "delta.json").read_text())
    assert kept["assumed"] == made["assumed"]


def test_one_way_does_not_build_on_what_went_to_another_site_of_the_release(command: Command, tmp_path: Path) -> None:
    sites = ("demo-clinic", "other-clinic")
    old, new = (make_medium(tmp_path / f"m{serial}", serial=serial, sites=sites) for serial in (1, 2))
    command("write", old.work.root, tmp_path / "a", tmp_path / "b", "--ceremony", throwaway_ceremony("demo").folder)
    command("register", "sent", "demo-1/1/1", "--to", "a courier")
    command("register", "sent", "demo-1/2/1", "--to", "other-clinic")

    code, said, _ = command(*one_way(old, new, tmp_path / "delta", "--site", "demo-clinic"))
    assert (code, said["error"]["why"]) == (2, "volume 2 is not entered as sent")
    assert command(*one_way(old, new, tmp_path / "other", "--site", "other-clinic"))[0] == 0
    command("register", "returned", "demo-1/2/1")
    command("register", "sent", "demo-1/2/1", "--to", "demo-clinic")

    assert command(*one_way(old, new, tmp_path / "delta", "--site", "demo-clinic"))[0] == 0


@pytest.mark.fault
def test_one_way_says_that_a_receipt_came_back(box: LedgerSite, command: Command, tmp_path: Path) -> None:
    old, new = make_medium(tmp_path / "old", serial=1), make_medium(tmp_path / "new", serial=2)
    site = site_of(box, old.root_json)
    sticks = [tmp_path / "one", tmp_path / "two"]
    words = ("--ceremony", throwaway_ceremony("demo").folder, "--person", "alice", "--to", "demo-clinic")
    command("write", old.work.root, *sticks, *words)
    with box.running(site.clock):
        facts = site.receive(sticks)
        command("register", "site", "demo-clinic", "--key", box.places.etc / "ledger.pub")
        command("register", "receipt", box.places.receipts / facts.receipt)

    code, made, _ = command(*one_way(old, new, tmp_path / "delta", "--site", "demo-clinic"))

    assert code == 0
    assert "sent a receipt" in made["assumed"][0]


@pytest.mark.fault
def test_a_delta_set_that_applies_no_more_names_what_is_missing(
    box: LedgerSite, command: Command, tmp_path: Path
) -> None:
    old, new = make_medium(tmp_path / "old", serial=1), make_medium(tmp_path / "new", serial=2)
    site = site_of(box, old.root_json)
    lost = "data/debs/tiny_1.0_all.deb"
    ceremony = throwaway_ceremony("demo").folder
    inventories = []
    with box.running(site.clock):
        site.receive(old)
        command("register", "site", "demo-clinic", "--key", box.places.etc / "ledger.pub")
        for _ in range(2):
            _, written = export_inventory.export(
                site.config, tmp_path / "out", clock=site.clock, agrees=lambda *_: True, progress=lambda *_: None
            )
            assert written is not None
            inventories.append(written.file)
            site.store.object_path(sha256_hex(old.payload[lost])).unlink(missing_ok=True)
    common = ("--ceremony", ceremony, "--inventory")
    assert command("delta", new.work.root, tmp_path / "delta", *common, inventories[0], "--person", "alice")[0] == 0

    code, said, _ = command("prove-delta", tmp_path / "delta", *common, inventories[1])

    assert code == 36
    assert said["error"]["why"] == f"{lost} blocks 0 to 0 (8 bytes)"
    assert "full medium" in said["error"]["fix"]


def test_it_must_be_said_what_the_site_holds(
    two: tuple[SimulatedMedium, SimulatedMedium], command: Command, tmp_path: Path
) -> None:
    old, new = two
    words = ("delta", new.work.root, tmp_path / "d", "--ceremony", throwaway_ceremony("demo").folder)

    assert command(*words)[0] == 2
    assert command(*words, "--from-register", "--inventory", tmp_path / "x")[0] == 2
    assert command(*words, "--inventory", tmp_path / "nothing")[0] == 18
    assert command(*one_way(old, new, tmp_path / "d", "--site", "x"), "--base", tmp_path)[0] == 11
