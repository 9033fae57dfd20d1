"""The second disk, where backups go, runs full: the backup before stays, it is told, and with room there is another."""

from pathlib import Path

from tests.box import looks
from tests.box.disks import BACKUP, fill
from tests.box.run import Run
from tests.support.backups import Recipient, recipient

_UNIT = "sealift-backup.service"
_METRICS = "sealift-metrics.service"
_SITE_FILE = "etc/sealift/sealift.toml"
_BACKUPS = f"""
[backup]
folder = "{BACKUP}"
"""
_ASK = """
import socket
with socket.socket(socket.AF_UNIX) as line:
    line.connect("/run/sealift/metrics.sock")
    line.sendall(b"GET /metrics HTTP/1.0\\r\\nHost: box\\r\\n\\r\\n")
    while piece := line.recv(65536):
        print(piece.decode(), end="")
"""
_RUNS = 'sealift_unit_up{unit="backup"}'
_ROOM = 'sealift_disk_available_bytes{place="backup"}'
_A_BLOCK = 4096.0


def backup_full(run: Run) -> None:
    """Make a backup, fill its disk, try again by hand and by the unit, and once more with room."""
    site_file = run.machine.root / _SITE_FILE
    text = site_file.read_text()
    site_file.write_text(text + _BACKUPS)
    with run.stage.chapter("The disk of backups is full"), recipient() as offline:
        run.machine.run("systemctl", "restart", _METRICS)
        _tried(run, offline)
    site_file.write_text(text)
    run.machine.run("systemctl", "restart", _METRICS)


def _tried(run: Run, offline: Recipient) -> None:
    machine = run.machine
    (machine.root / "root/backup-key.gpg").write_bytes(offline.certificate())
    by = ("--by", "Iris Mora", "--by", "Omar Haddad")
    machine.run("sealift", "backup", "recipient", "/root/backup-key.gpg", *by)
    machine.run("systemctl", "start", _UNIT)
    first = _kept(run)
    run.require("a backup lands on its own disk", len(first) == 1, first)
    filled = fill(run, BACKUP)
    by_hand = machine.run("sealift", "backup", "make", may_fail=True)
    said = by_hand.stdout + by_hand.stderr
    run.require(
        "a backup onto a full disk ends with 30", by_hand.returncode == 30 and "the backup disk is full" in said, said
    )
    by_unit = machine.run("systemctl", "start", _UNIT, may_fail=True)
    run.require("and so does its unit", by_unit.returncode != 0, looks.journal(run, _UNIT))
    run.require("what is there is the backup before, and nothing half", _kept(run) == first, _files(run))
    _require_opens(run, offline, first[0])
    looked = machine.told("sealift", "status")
    told, units = looked["disks"], looked["units"]
    run.require("the status says that the disk of backups is full", told["full"] == ["backup"], told)
    run.require("and that the unit failed", _UNIT in units["text"], units)
    found = {name: one["text"] for name, one in looks.findings(run).items() if one["is_good"] is False}
    run.require("doctor names the disk of backups", {"room for backup", "unit"} <= set(found), found)
    figures = _figures(run)
    run.require("monitoring is told both", figures[_RUNS] == 0 and figures[_ROOM] < _A_BLOCK, figures)
    filled.empty()
    machine.run("systemctl", "start", _UNIT)
    second = _kept(run)
    run.require("with room there is a backup again", len(second) == 2 and second[0] == first[0], second)
    _require_opens(run, offline, second[1])
    figures, told = _figures(run), machine.told("sealift", "status")
    is_well = figures.get(_RUNS) != 0 and figures[_ROOM] > _A_BLOCK and told["units"]["good"] is True
    run.require("nothing is told of it any more", is_well and not told["disks"]["full"], (figures, told["units"]))


def _kept(run: Run) -> list[str]:
    found = [str(one["name"]) for one in run.machine.result("sealift", "backup", "list")["backups"]]
    whole = sorted(name for name in _files(run) if name.endswith(".gpg") or "unfinished" in name)
    return found if found == whole else [*found, "beside", *whole]


def _files(run: Run) -> list[str]:
    return [path.name for path in Path(run.machine.disks[BACKUP]).iterdir()]


def _require_opens(run: Run, offline: Recipient, name: str) -> None:
    verified = run.machine.run("sealift", "backup", "verify", f"{BACKUP}/{name}", may_fail=True)
    opened = offline.gpg.run("--decrypt", str(run.machine.disks[BACKUP] / name))
    holds = verified.returncode == 0 and b"manifest.json" in opened
    run.require("the backups that are there are as recorded, and open", holds, verified.stderr)


def _figures(run: Run) -> dict[str, float]:
    told = run.machine.run("python3", "-I", "-c", _ASK, shown=False).stdout
    lines = (line.rpartition(" ") for line in told.splitlines() if line.startswith("sealift_"))
    return {name: float(value) for name, _, value in lines}
