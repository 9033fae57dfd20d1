"""The guided install on a bare box: questions at a terminal, power lost in its middle, the same again, then a file.

What a person types the first time is offered the second time; what an unattended file says in the same words finds
nothing left to do. As the profile `single-cpu` has it, the release brings what watches the box, alerts go to a mail
relay, over TLS, and backups to a second disk, which is one of its own here.
"""

import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

from tests.box import looks, mailed, monitored
from tests.box.box import first_trust
from tests.box.disks import BACKUP, new_disk
from tests.box.machine import Machine, base_image
from tests.box.network import BOX_ADDRESS
from tests.box.powercut import cut_when
from tests.box.run import HOSTNAME, Run
from tests.box.terminal import Spoken, at_terminal
from tests.box.upgrade import numbered
from tests.support.backups import recipient

NAMES = ("Iris Mora", "Omar Haddad")
TALK = (
    ("What do people type to reach this machine", HOSTNAME),
    ("Which addresses has it in your network", BOX_ADDRESS),
    ("Which networks may use it", "10.77.0.0/24"),
    ("Which networks may administer it", "10.77.0.0/24"),
    ("Who vouches for it", "own"),
    ("Which time servers does it ask", "10.77.0.2"),
    ("Who has compared that with another clock? Name", "Gina Goods"),
    ("Name of the first person", NAMES[0]),
    ("Name of the second person", NAMES[1]),
    ("Where do backups go", BACKUP),
    *mailed.TALK,
)
AGREED = ("Do all this now?", "y")
ANSWERS = f"""format = 1
[site]
hostname = "{HOSTNAME}"
[network]
addresses = ["{BOX_ADDRESS}"]
clients = ["10.77.0.0/24"]
management = ["10.77.0.0/24"]
[time]
confirmed_by = "Gina Goods"
servers = ["10.77.0.2"]
[people]
names = {json.dumps(NAMES)}
[backup]
folder = "{BACKUP}"
{mailed.ANSWERS}[capacity]
seconds = 30
"""
# Nobody is asked how long capacity is measured; here it is as long as answers of before said.
_BEFORE = "[capacity]\nseconds = 30\n"
_SETUP = ("sealift", "setup")
_LOG = "/var/lib/sealift/logs/install.log"
_SITE_FILE = "etc/sealift/sealift.toml"
_PREFLIGHT = 52
_TWICE = 2
_SUMMARY = "var/lib/sealift/setup/summary.json"
_CODE = re.compile(r"^ {4}(.+?) {2,}(\S+)$", re.MULTILINE)
_DPKG_WORKS = "usr/sbin/nginx"  # unpacked, and not yet configured


def first_install(run: Run, *, serial: int, recipe: Path) -> Path:
    """Set up a bare box by a person at its terminal, through a power failure; return the medium it came from.

    Args:
        run: Whose facility is there, and whose own box is not made.
        serial: Of its medium.
        recipe: Of its medium; with the serial that other parts make from it, what those rehearsed need not be again.
    """
    out = run.out / "watching"
    sealed = numbered(run, serial, recipe=recipe, out=out, ceremony=out / "ceremony")
    media = {"/media/sealift-1": sealed.volume}
    machine = Machine(root=run.out / "fresh", name=f"{run.machine.name}g", media=media, log=run.out / "fresh.log")
    stack = ExitStack()
    bare = Run(out=run.out, stage=run.stage, machine=machine, facility=run.facility, facts=run.facts)
    try:
        with run.stage.chapter("A bare box with a second disk"):
            machine.create(base_image())
            second = run.out / "second-disk"
            new_disk(run, stack, second, mib=256)
            machine.disks = {BACKUP: second}
            machine.boot()
        first_trust(bare, sealed)
        relays = mailed.Relays(bare)
        nobody_vouches(bare)
        relays.vouch()
        cut_off(bare)
        codes = finished(bare)
        # What is told to an impostor's relay is told while the rest goes on.
        with relays.listening(is_own=False) as mails:
            monitored.begin(bare)
            from_a_file(bare, codes)
            backed_up(bare)
            mailed.refused_by_the_box(bare, mails)
        with relays.listening(is_own=True) as mails:
            mailed.told(bare, mails)
        looked_at(bare)
    finally:
        machine.stop()
        stack.close()
    return sealed.volume


def nobody_vouches(run: Run) -> None:
    """Answer the questions before who signs for the mail relay is there: it must be said, and nothing changed."""
    machine = run.machine
    folder = (machine.root / _SUMMARY).parent
    folder.mkdir(mode=0o700, parents=True)
    (folder / "answers.toml").write_text(_BEFORE)
    with run.stage.chapter("Questions answered at a terminal; nobody vouches for the mail relay yet"):
        before = (machine.root / _SITE_FILE).read_text()
        spoken = at_terminal(machine, _SETUP, TALK)
        print(f"   {spoken.said[-600:]}")
        run.require("every question was asked", not spoken.unasked, spoken.unasked)
        run.require("a relay that nobody vouches for is refused at once", spoken.code == _PREFLIGHT, spoken.said)
        run.require("and what is missing is said", "mail-ca.pem: No such file" in spoken.said, spoken.said)
        run.require("and nothing was changed", (machine.root / _SITE_FILE).read_text() == before)


def cut_off(run: Run) -> None:
    """Answer the questions again, agree, and lose power while the packages of Debian are put in."""
    machine = run.machine
    with run.stage.chapter("The answers are offered; power is lost in the middle of the first install"):
        cut_when(
            machine,
            lambda: at_terminal(machine, _SETUP, (*((question, "") for question, _ in TALK), AGREED)),
            (machine.root / _DPKG_WORKS).exists,
        )
        run.require("nobody was told that it is done", not (machine.root / _SUMMARY).exists())
        run.facts["boot_after_cut_install_seconds"] = round(machine.boot(), 1)
        run.facility.plug_in(machine.leader)


def finished(run: Run) -> dict[str, str]:
    """Type the same command again and take every answer as it is offered; return the codes it showed."""
    machine = run.machine
    with run.stage.chapter("The same command again: every answer is offered, and the install is finished"):
        spoken = at_terminal(machine, _SETUP, (*((question, "") for question, _ in TALK), AGREED))
        log = machine.run("tail", "-c", "9000", _LOG, shown=False, may_fail=True).stdout
        said = f"{spoken.said}\n{log}"
        run.require("a first install that was cut off is finished by the same command", spoken.code == 0, said)
        run.require("and each question again", not spoken.unasked, spoken.unasked)
        offered = [typed for _, typed in TALK if f"[{typed}]" not in spoken.said]
        run.require("what was typed before is offered", not offered, offered)
        codes = _codes(spoken)
        run.require("each person has a code", list(codes) == list(NAMES), spoken.said)
        print("\n".join(line for line in spoken.said.splitlines() if not _CODE.match(line)))
        kept = json.loads((machine.root / _SUMMARY).read_text())
        run.require("the authority has a fingerprint", kept["ca_fingerprint"] in spoken.said, kept)
        run.require("capacity was measured", kept["capacity"] is not None, kept["capacity_missing"])
        ends_with = ("notes per hour", "B23", "B24", *kept["urls"].values())
        missing = [one for one in ends_with if one not in spoken.said]
        run.require("it ends with address, capacity and what was asked for", kept["urls"] and not missing, missing)
        many = " ".join(spoken.said.split()).count(mailed.SAID)
        run.require("it says who is told of trouble, and how, before and after", many == _TWICE, spoken.said)
        disk = kept["backup_disk"]
        run.require("a disk of backups that is mounted already is left as it is", disk["state"] == "none", disk)
        run.require("it says what backups still need", f"Backups go to {BACKUP}" in spoken.said, spoken.said)
        run.facts["notes_per_hour"] = kept["capacity"]["figures"]["notes_per_hour"]
        run.require("no code was written down", not any(code in json.dumps(kept) for code in codes.values()))
        told = machine.told("sealift", "status")
        run.require("all units run after it", told["units"]["good"] is True, told["units"])
    return codes


def from_a_file(run: Run, codes: dict[str, str]) -> None:
    """Set it up again, unattended: only the codes are new."""
    machine = run.machine
    with run.stage.chapter("Setup again, unattended from a file: only new codes"):
        (machine.root / "root/answers.toml").write_text(ANSWERS)
        measured = json.loads((machine.root / _SUMMARY).read_text())["capacity"]
        again = machine.result(*_SETUP, "--answers", "/root/answers.toml")
        run.require("a second setup measures nothing anew", again["capacity"]["at"] == measured["at"])
        run.require("the clock that a person compared stays confirmed", not again["clock_missing"], again)
        run.require("its codes are new", not set(again["codes"].values()) & set(codes.values()))
        plan = machine.result(*_SETUP, "--answers", "/root/answers.toml", "--dry-run")["plan"]
        run.require("then nothing is left to do", not plan["site_file"] and not plan["install"]["changed"], plan)


def backed_up(run: Run) -> None:
    """Choose who can open backups; the units that timers start make one and bring it back."""
    machine = run.machine
    with run.stage.chapter("A backup to the second disk, and its drill"), recipient() as offline:
        (machine.root / "root/backup-key.gpg").write_bytes(offline.certificate())
        shutil.copytree(offline.home, machine.root / "root/backup-key", ignore=shutil.ignore_patterns("S.*"))
        by = [word for name in NAMES for word in ("--by", name)]
        machine.run("sealift", "backup", "recipient", "/root/backup-key.gpg", *by)
        timers = [looks.is_active(run, f"sealift-{name}.timer") for name in ("backup", "drill")]
        run.require("timers make backups and bring them back", all(timers), timers)
        for name in ("backup", "drill"):
            machine.run("systemctl", "start", f"sealift-{name}.service")
        (made,) = machine.result("sealift", "backup", "list")["backups"]
        on_disk = machine.disks[BACKUP] / str(made["name"])
        opened = offline.gpg.run("--decrypt", str(on_disk))
        run.require("a backup lies on the second disk and opens with the key alone", b"manifest.json" in opened)
        verified = machine.result("sealift", "backup", "verify", f"{BACKUP}/{made['name']}")
        run.require("it is the one on record", verified["sha256"] == made["sha256"], verified)
        opened_by = machine.result("sealift", "drill", *by, "--home", "/root/backup-key")
        run.require("two people's drill opens it with the key", opened_by["level"] == "full", opened_by)
        shutil.rmtree(machine.root / "root/backup-key")


def looked_at(run: Run) -> None:
    """Let doctor and the go-live report say what they find."""
    machine = run.machine
    with run.stage.chapter("Doctor and the go-live report"):
        findings = looks.findings(run)
        bad = {name: one["text"] for name, one in findings.items() if one["is_good"] is False}
        run.require("doctor finds nothing", not bad, bad)
        run.require("backups are on another disk", "another file system" in findings["backup"]["text"], findings)
        report = machine.told("sealift", "readiness", "--out", "/root/report.html")
        run.require("it is not ready before a promotion", report["ready"] is False)
        items = {one["id"]: one for one in report["items"]}
        run.require("a lost machine would come back, it says", items["M22.8"]["verdict"] == "held", items["M22.8"])
        run.require("and somebody is told of trouble", items["M22.7"]["verdict"] == "held", items["M22.7"])
        run.require("the report is written", (machine.root / "root/report.html").stat().st_size > 2000)


def _codes(spoken: Spoken) -> dict[str, str]:
    shown = spoken.said.partition("One-time codes.")[2].partition("capacity")[0]
    return dict(_CODE.findall(shown))
