"""The guided install in the box: `sealift setup` from a file of answers, in the place of site file and install.

Run alone it makes a release and a box of its own (root); `guided` is one chapter that another run may take.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from examples.demo.stage import Stage, StageError
from media.layout import TAG_MANIFEST
from tests.box.box import first_trust
from tests.box.machine import BoxError, Machine, base_image, install_tools
from tests.box.network import BOX_ADDRESS, Facility
from tests.box.run import HOSTNAME, ROOT, Run
from tests.box.sender import RECIPE, Sealed, make_release

NAMES = ("Iris Mora", "Omar Haddad")
ANSWERS = f"""format = 1
[site]
hostname = "{HOSTNAME}"
[network]
addresses = ["{BOX_ADDRESS}"]
clients = ["10.77.0.0/24"]
[time]
confirmed_by = "Gina Goods"
servers = ["10.77.0.2"]
[people]
names = {json.dumps(NAMES)}
[capacity]
seconds = 30
"""


def guided(run: Run) -> dict[str, Any]:
    """Show the plan, do it, do it again; return what setup printed the first time."""
    machine = run.machine
    (machine.root / "root/answers.toml").write_text(ANSWERS)
    with run.stage.chapter("The plan of a guided install"):
        plan = machine.result("sealift", "setup", "--answers", "/root/answers.toml", "--dry-run")["plan"]
        run.require("the plan shows the site file's difference", '+servers = ["10.77.0.2"]' in plan["site_file"], plan)
        run.require("the plan changed nothing", not (machine.root / "opt/sealift/current").exists())
    with run.stage.chapter("Setup: site file, install, codes, capacity"):
        facts = machine.result("sealift", "setup", "--answers", "/root/answers.toml")
        run.require("each person has a code", list(facts["codes"]) == list(NAMES))
        run.require("the authority has a fingerprint", len(facts["ca_fingerprint"].split(":")) == 32, facts)
        run.require("capacity was measured", facts["capacity"] is not None, facts["capacity_missing"])
        kept = (machine.root / "var/lib/sealift/setup/summary.json").read_text()
        run.require("no code was written down", not any(code in kept for code in facts["codes"].values()))
        run.facts["notes_per_hour"] = facts["capacity"]["figures"]["notes_per_hour"]
    with run.stage.chapter("Setup again: only new codes"):
        again = machine.result("sealift", "setup", "--answers", "/root/answers.toml")
        run.require("a second setup measures nothing anew", again["capacity"]["at"] == facts["capacity"]["at"])
        preview = machine.result("sealift", "setup", "--answers", "/root/answers.toml", "--dry-run")["plan"]
        run.require(
            "then nothing is left to do", not preview["site_file"] and not preview["install"]["changed"], preview
        )
    with run.stage.chapter("Doctor and the go-live report"):
        looked = machine.run("sealift", "doctor", "--json", shown=False, may_fail=True)
        findings = {one["name"]: one for one in json.loads(looked.stdout)["findings"]}
        bad = {name: one["text"] for name, one in findings.items() if one["is_good"] is False}
        # The facility's cable is not plugged in yet, and nobody chose a place for backups.
        run.require("doctor finds what is so, and no more", set(bad) <= {"addresses", "backup"}, bad)
        told = machine.run("sealift", "readiness", "--out", "/root/report.html", "--json", shown=False, may_fail=True)
        run.require("it is not ready before a promotion", json.loads(told.stdout)["ready"] is False)
        run.require("the report is written", (machine.root / "root/report.html").stat().st_size > 2000)
    return again


def main() -> int:
    """Run it alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build/guided")
    parser.add_argument("--reuse", action="store_true", help="take the medium that an earlier run left in --out")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: the box is a container of its own, and only root can start one", file=sys.stderr)
        return 55
    install_tools()
    out = arguments.out.resolve()
    if not arguments.reuse:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    stage = Stage(ROOT, tools=Path(sys.executable).parent, environment={})
    name = f"sealift-guided-{os.getpid()}"
    media = {"/media/sealift-1": out / "media/volume-1"}
    machine = Machine(root=out / "machine", name=name, media=media, log=out / "console.log")
    media["/media/sealift-1"].mkdir(parents=True, exist_ok=True)
    run = Run(out=out, stage=stage, machine=machine, facility=Facility(name=name))
    began, ok = time.monotonic(), False
    try:
        with stage.chapter("The connected side"):
            sealed = _left(out) if arguments.reuse else None
            sealed = sealed or make_release(stage, out, recipe=RECIPE, ceremony=out / "ceremony")
        with stage.chapter("Boot"):
            machine.create(base_image())
            machine.boot()
        first_trust(run, sealed)
        guided(run)
        ok = True
    except (BoxError, StageError, RuntimeError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
    finally:
        machine.stop()
        shutil.rmtree(machine.root, ignore_errors=True)
        run.facts |= {"ok": ok, "minutes": round((time.monotonic() - began) / 60, 1), "seconds": stage.times}
        (out / "summary.json").write_text(json.dumps(run.facts, indent=2) + "\n")
    print(json.dumps(run.facts, indent=1))
    return 0 if ok else 1


def _left(out: Path) -> Sealed | None:
    volume = out / "media/volume-1"
    tags, sheets = volume / "release" / TAG_MANIFEST, list((out / "work").rglob("sheet.txt"))
    if not tags.exists() or not sheets:
        return None
    return Sealed(volume=volume, sheet=sheets[0].read_text(), code=hashlib.sha256(tags.read_bytes()).hexdigest())


if __name__ == "__main__":
    raise SystemExit(main())
