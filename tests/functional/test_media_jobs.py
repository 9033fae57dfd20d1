"""From a medium that is plugged in to a stored release, and an EXPORT back out, by typed jobs and the real commands.

The desk, the ledger and the programs of the units are real; what systemd and mount(8) do, the test does.
"""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from appliance import config as configuration
from appliance import wire
from appliance.actions import carrying, export_evidence, export_probe, worker
from appliance.actions.arriving import look
from appliance.audit.socket_ledger import SocketLedger
from appliance.cli import media as media_command
from appliance.cli.context import Context
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install import arrivals, auditors, exported
from appliance.install.arrivals import EXPORT_LABEL
from appliance.install.jobclient import JobsClient
from appliance.install.jobdesk import JobDesk
from appliance.install.jobrights import DOORS
from appliance.install.jobs import Kind
from appliance.verify import trust
from appliance.wire import RemoteError
from media import canonical
from media.clock import SystemClock
from media.digest import sha256_hex
from media.errors import SealiftError
from tests.functional.test_exports import _PROBE
from tests.support.ledger import ledger_site
from tests.support.medium import SimulatedMedium
from tests.support.receiving import Shelf
from tests.support.supervisor import FakeSupervisor
from tests.unit.appliance.actions.test_arriving import STICK


class Units(FakeSupervisor):
    """Runs what the units run, receiving as a process of its own, and mounts by copying."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def start(self, unit: str) -> None:
        super().start(unit)
        kind, _, rest = unit.partition("@")
        name = rest.removesuffix(".service")
        site_file = ["--config", str(self.config.at.root / "sealift.toml")]
        if kind == "sealift-evidence":
            codes = [worker.main([*site_file, "evidence", name])]
        elif kind == "sealift-receive":
            folder = str(self.config.at.media / name)
            command = [sys.executable, "-I", "-m", "appliance.cli.main", *site_file, "receive", "--here", folder]
            codes = [subprocess.run(command, check=False, timeout=100, capture_output=True).returncode]
        else:
            self.config.at.export_medium.mkdir(exist_ok=True)
            codes = [carrying.main([*site_file, step, name]) for step in ("check", "write")]
        if any(codes):
            raise UnitError(what=f"{unit} did not start", why=f"it ended with {codes}", fix="")

    def stop(self, unit: str) -> None:
        super().stop(unit)
        name = unit.partition("@")[2].removesuffix(".service")
        (self.config.at.arrived / f"{name}.json").unlink()


class Site:
    def __init__(self, config: Config, ledger: SocketLedger) -> None:
        self.config, self.ledger, self.units = config, ledger, Units(config)

    def plug(self, name: str, source: Path | None, label: str = "STICK") -> None:
        """Do what udev, mount(8) and the unit that looks do."""
        places = self.config.at
        (places.root / arrivals.BLOCK / name).mkdir(parents=True)
        (places.media / name).mkdir(parents=True)
        if source is not None:
            shutil.copytree(source, places.media / name, dirs_exist_ok=True)
        arrival = replace(STICK, name=name, label=label)
        arrivals.keep(places, arrival)
        look(self.config, arrival, self.ledger)

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a command; return its exit code and its JSON."""
        own = Context(config_path=Path("unused"), as_json=True)
        own._config = self.config
        app = typer.Typer()
        media_command.register(app)
        done = CliRunner().invoke(app, ["media", *words], obj=own)
        if isinstance(done.exception, SealiftError):
            return int(done.exception.to_json()["exit_code"]), done.exception.to_json()
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def medium(genuine: Shelf) -> SimulatedMedium:
    return genuine()


@pytest.fixture
def site(tmp_path: Path, medium: SimulatedMedium) -> Iterator[Site]:
    with served(tmp_path, medium) as made:
        yield made


@contextmanager
def served(tmp_path: Path, medium: SimulatedMedium, *, sections: str = "") -> Iterator[Site]:
    with ledger_site(tmp_path / "b", site="demo-clinic") as box, box.running():
        file = box.config_file
        file.write_text('environment = "demo"\nprofile = "cpu"\n' + file.read_text() + sections)
        config = configuration.load(file)
        config.at.pinned_trust.mkdir(parents=True)
        (config.at.pinned_trust / trust.PINNED_ROOT).write_bytes(medium.root_json)
        config.at.receipts.mkdir(parents=True)
        ledger = SocketLedger(config.at.socket("ledger-actions"))
        made = Site(config, ledger)
        desk = JobDesk(config, ledger, supervisor=made.units, runner=made.units)
        listeners = {}
        for door in DOORS:
            listeners[door] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listeners[door].bind(str(config.at.socket(door)))
            listeners[door].listen(16)
        threads = wire.serve(listeners, desk)
        yield made
        for listener in listeners.values():
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join(5)
        ledger.close()


@pytest.mark.slow
def test_volumes_are_received_one_after_another_by_jobs_and_taken_out(site: Site, medium: SimulatedMedium) -> None:
    for name, volume in zip(("sdb1", "sdc1"), medium.volumes, strict=True):
        site.plug(name, volume)
    code, shown = site.run("list")
    assert code == 0
    assert [one["claims"]["untrusted_volume"] for one in shown["media"]] == ["1 of 2", "2 of 2"]

    # The first ends with the error that says which volume to insert, and not as a fault of its unit.
    code, first = site.run("receive", "sdb1", "--as", "iris")
    assert (code, first["code"]) == (17, "missing-volume")
    code, last = site.run("receive", "sdc1", "--as", "iris")
    assert (code, last["changed"]) == (0, True)
    assert [path.name for path in (site.config.at.store / "releases").iterdir()]

    assert site.run("eject", "sdb1")[0] == 0
    assert [one["name"] for one in site.run("list")[1]["media"]] == ["sdc1"]
    assert site.run("receive", "sdb1")[0] == 58
    asked = site.ledger.find(kind="job.asked", limit=9)
    assert {(leaf.body["kind"], leaf.body["person"]) for leaf in asked} == {("receive", "iris"), ("eject", "")}


def test_an_export_goes_to_the_marked_medium_and_to_no_other(site: Site, medium: SimulatedMedium) -> None:
    site.plug("sdb1", None, label=EXPORT_LABEL)
    site.plug("sdc1", None)
    site.plug("sdd1", medium.volumes[0], label=EXPORT_LABEL)
    probe = site.config.at.root / "probe.json"
    probe.write_bytes(canonical.dumps(_PROBE) + b"\n")
    to = site.config.at.receipts
    export_probe.export(site.config, probe, to, clock=SystemClock(), agrees=lambda _: True)
    (made,) = site.run("exports")[1]["exports"]

    assert site.run("export", "sdb1", made["sha256"], "--dry-run") == (0, {"written": False})
    for name in ("sdc1", "sdd1", "sde1"):
        assert site.run("export", name, made["sha256"], "--yes")[0] == 58
    assert site.run("export", "sdb1", "0" * 64, "--yes")[0] == 58
    assert site.units.asked == []
    code, written = site.run("export", "sdb1", made["sha256"], "--yes")

    assert (code, written["written"]) == (0, True)
    (file,) = site.config.at.export_medium.iterdir()
    assert file.read_bytes() == canonical.dumps(_PROBE)
    assert exported.table(site.config.at, "sdb1").read_text().startswith("/dev/sdb1 ")
    assert [leaf.body["sha256"] for leaf in site.ledger.find(kind="export.carried")] == [made["sha256"]]


def test_where_admins_let_evidence_out_an_operator_carries_what_the_sender_needs_and_root_all(
    tmp_path: Path, medium: SimulatedMedium, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path, medium, sections='[media]\nauditors = ["admin"]\n') as site:
        site.plug("sdb1", None, label=EXPORT_LABEL)
        probe = canonical.dumps(_PROBE)
        figures = canonical.dumps({"type": "sealift/figures"})
        for kind, content in (("probe", probe), ("figures", figures)):
            digest = sha256_hex(content)
            (site.config.at.receipts / f"{kind}-demo-{digest[:12]}.json").write_bytes(content)
            site.ledger.append("export.written", {"type": kind, "sha256": digest})
        with monkeypatch.context() as patched:
            patched.setattr(auditors, "_is_root", lambda _: False)

            assert site.run("export", "sdb1", sha256_hex(probe), "--yes", "--as", "ana")[0] == 0
            code, refused = site.run("export", "sdb1", sha256_hex(figures), "--yes", "--as", "ana")

        assert (code, refused["code"], refused["what"]) == (55, "privilege", "it takes an admin to let figures leave")
        (record,) = site.ledger.find(kind="job.refused")
        assert (record.body["type"], record.body["needs"], record.body["person"]) == ("figures", ["admin"], "ana")
        assert site.units.asked == [("start", "sealift-export@sdb1.service")]
        # Root comes as far as the unit, which looks at what the file is.
        assert site.run("export", "sdb1", sha256_hex(figures), "--yes")[0] not in {0, 55}
        assert len(site.units.asked) == 2


@pytest.mark.slow
def test_somebody_who_is_not_root_makes_the_evidence_that_they_were_shown(site: Site, medium: SimulatedMedium) -> None:
    site.plug("sdb1", medium.volumes[0])
    assert site.run("receive", "sdb1")[0] == 17
    (refused,) = site.ledger.find(kind="release.", limit=1)
    _, out = export_evidence.drafted(site.config, site.ledger, serial=None, sequence=refused.sequence)
    digest = sha256_hex(out.draft.to_payload(ledger=None))
    jobs = JobsClient.open(site.config, "jobs-operator")

    other = jobs.wait(jobs.ask(Kind.MAKE_EVIDENCE, record=refused.sequence, digest="0" * 64))
    assert (other.ok, other.code) == (False, "export-refused")
    assert site.ledger.find(kind="export.written") == []
    assert jobs.wait(jobs.ask(Kind.MAKE_EVIDENCE, record=refused.sequence, digest=digest)).ok
    assert jobs.text("export", digest) == out.draft.to_payload(ledger=None)
    (first, *_) = site.ledger.find(kind="job.asked", limit=99, newest_first=False)
    with pytest.raises(RemoteError, match="the job is refused"):
        jobs.ask(Kind.MAKE_EVIDENCE, record=first.sequence, digest=digest)
    jobs.close()


def test_started_by_hand_the_export_unit_does_nothing(site: Site) -> None:
    site.plug("sdb1", None, label=EXPORT_LABEL)

    with pytest.raises(UnitError):
        site.units.start("sealift-export@sdb1.service")

    assert not exported.table(site.config.at, "sdb1").exists()
    assert site.ledger.find(kind="export.carried") == []
