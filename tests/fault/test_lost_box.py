"""A lost box comes back: real processes, a real medium, an encrypted backup, and an old answer proven afterwards."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.actions.backups import shelf
from appliance.actions.receive import receive
from appliance.cli import audit, backup, retire, state, status
from appliance.errors import KeyMissingError
from appliance.verify import trust
from media.clock import SystemClock
from media.digest import file_sha256
from tests.support.backups import Recipient, offline, with_backups
from tests.support.promoting import PEOPLE, bring, enrol_all, homes, medium_of, record_answer, serve
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder

__all__ = ["homes", "offline"]  # fixtures
pytestmark = pytest.mark.fault
NAMES = ("--by", "Eva Rossi", "--by", "Finn Olsen")


@pytest.fixture
def site(offline: Recipient, tmp_path: Path) -> Iterator[RunningSite]:
    with short_folder() as root, running_site(root, medium_of(1)) as running:
        folder = tmp_path / "disk"
        running.config = with_backups(running.config, folder, offline.certificate())
        with running.config.at.config_file.open("a") as file:
            file.write(f'[backup]\nfolder = "{folder}"\non_system_disk = true\n')
        yield running


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys, more=(audit, backup, retire, state, status))


def lose(site: RunningSite) -> None:
    """End everything and leave what a freshly installed machine has: a site file and a pinned root."""
    for name in list(site.processes):
        site.end(name)
    places = site.config.at
    shutil.rmtree(places.state)
    shutil.rmtree(places.key_files)
    (places.etc / "ledger.pub").unlink()
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(medium_of(1).root_json)


@pytest.mark.parametrize("media_first", [False, True])
def test_a_lost_box_comes_back_from_its_medium_and_a_backup(
    site: RunningSite, sealift: Run, homes: dict[str, Path], offline: Recipient, tmp_path: Path, *, media_first: bool
) -> None:
    enrol_all(site, sealift, homes)
    digest = bring(site, 1)
    serve(sealift, digest, homes)
    record_answer(site, digest, 1, "req-before")
    made = as_json(sealift, "backup", "make")
    record_answer(site, digest, 1, "req-lost")
    printed = tmp_path / "printed.txt"
    printed.write_text(as_json(sealift, "audit", "checkpoint")["note"])
    file = str(Path(site.config.backup.folder) / made["name"])

    lose(site)
    if media_first:
        receive(site.config, medium_of(1).volumes, clock=SystemClock(), progress=lambda *_: None)
    restored = as_json(
        sealift,
        *("backup", "restore", file, "--home", str(offline.home), *NAMES, "--reason", "fire"),
        *("--checkpoint", str(printed)),
    )

    assert (restored["epoch"], restored["people"], restored["production"]) == (2, sorted(PEOPLE), digest)
    assert restored["lost"] > 0
    assert [each["serial"] for each in restored["media"]] == ([] if media_first else [1])
    site.start("ledger")
    site.start("promoter")
    if not media_first:
        receive(site.config, medium_of(1).volumes, clock=SystemClock(), progress=lambda *_: None)
    verified = sealift("--json", "audit", "verify", "--checkpoint", str(printed))
    assert verified.code == 0, verified.out
    assert any("a backup was restored by Eva Rossi, Finn Olsen" in remark for remark in verified.facts["remarks"])
    proven = as_json(sealift, "prove", "req-before")
    assert (proven["ok"], [step["name"] for step in proven["steps"] if not step["ok"]]) == (True, [])
    assert sealift("prove", "req-lost").code != 0
    with_password = ("people", "invite", "--by", "eva-rossi", "--by", "finn-olsen")
    password = str(site.root / "password")
    assert sealift(*with_password, "--password-file", password, "--password-file", password).code == 0
    drilled = as_json(sealift, "backup", "make") and as_json(sealift, "drill", *NAMES, "--home", str(offline.home))
    assert (drilled["level"], drilled["production"], drilled["media_missing"]) == ("full", digest, [])


def test_a_backup_that_is_killed_leaves_the_ones_before_and_the_next_one_works(
    site: RunningSite, sealift: Run, offline: Recipient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    disk = Path(site.config.backup.folder)
    command = [sys.executable, "-m", "appliance.cli.main", "--config", str(site.config.at.config_file)]
    subprocess.run([*command, "backup", "make"], check=True, stdout=subprocess.DEVNULL)
    (first,) = shelf.kept(disk, "demo-clinic")
    ended = []
    # Counted from when its file appears, whatever the machine's pace: at once, and ever later.
    for seconds in (0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0):
        before = _unfinished(disk)
        running = subprocess.Popen([*command, "backup", "make"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while running.poll() is None and not _unfinished(disk) - before:
            time.sleep(0.001)
        with suppress(subprocess.TimeoutExpired):
            running.wait(timeout=seconds)
        running.kill()
        ended.append(running.wait())
        for facts in shelf.kept(disk, "demo-clinic"):
            assert file_sha256(disk / facts.name) == facts.sha256

    assert -signal.SIGKILL in ended
    # A gpg whose maker was killed ends at the end of what it reads, and until then writes into what is swept away.
    end = time.monotonic() + 30
    while any(_names(process, temporary) for process in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    last = as_json(sealift, "backup", "make")
    names = [facts.name for facts in shelf.kept(disk, "demo-clinic")]
    assert (names[0], names[-1]) == (first.name, last["name"])
    assert not list(disk.glob(".*.unfinished"))
    # Python tries a folder for temporary files by a file of the word "blat"; killed just then, that file stays.
    left = [one for one in temporary.iterdir() if one.is_dir() or one.read_bytes() not in (b"", b"blat")]
    assert left == [], "the records that a killed one laid down"
    opened = as_json(sealift, "backup", "verify", str(disk / last["name"]), "--home", str(offline.home))
    assert opened["opened"] is True


def _names(process: Path, folder: Path) -> bool:
    """Tell whether a process that lives was started with a path in this folder."""
    try:
        return str(folder).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def _unfinished(disk: Path) -> set[tuple[str, int]]:
    found = set()
    for path in disk.glob(".*.unfinished"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino))
    return found


def test_two_people_retire_a_box_by_their_passwords(
    site: RunningSite, sealift: Run, homes: dict[str, Path], tmp_path: Path
) -> None:
    enrol_all(site, sealift, homes)
    wrong, right = tmp_path / "wrong", site.root / "password"
    wrong.write_text("not the password at all\n")
    certificate = tmp_path / "certificate.html"
    words = ("retire", "--by", "eva-rossi", "--by", "finn-olsen", "--reason", "end", "--certificate", str(certificate))
    disk = ("--disk", "SSD, Maker, Model, S/N 1", "--password-file", str(right), "--password-file")

    assert sealift(*words, "--site", "demo-clinic", *disk, str(wrong)).code == 45
    assert sealift(*words, "--site", "other", *disk, str(right)).code == 42
    assert list(site.config.at.key_files.iterdir())
    done = as_json(sealift, *words, "--site", "demo-clinic", *disk, str(right))

    assert [each["name"] for each in done["by"]] == ["Eva Rossi", "Finn Olsen"]
    assert list(site.config.at.key_files.iterdir()) == []
    assert "Eva Rossi" in certificate.read_text()
    site.end("ledger")
    command = [sys.executable, "-m", "appliance.audit.service", "--config", str(site.config.at.config_file)]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == KeyMissingError.exit_code
