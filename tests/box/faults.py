"""What goes wrong on a box that serves, and how it comes back: kills, cuts, full disks, bad releases, old images.

Takes the box that `make box` left in the cache, or makes one. Facts go to build/box-faults/summary.json. Root only.
"""

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from examples.demo.stage import Stage, StageError
from tests.box import full, kills, monitored, oldimage, powercut, prepared, removed, upgrade
from tests.box.box import serve
from tests.box.disks import small_disks
from tests.box.machine import BoxError, Machine, install_tools
from tests.box.network import Facility
from tests.box.run import ROOT, Run, wait_for_engine

MONITORED = ROOT / "examples/monitored.toml"


def whole(run: Run, stack: ExitStack, *, further: bool) -> None:
    """Everything, in order; `further` adds what would make the shard too long."""
    served = prepared.take(run)
    for point in run.machine.media:
        (run.machine.root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
    stack.enter_context(small_disks(run))
    with run.stage.chapter("Boot the box that serves, its folders on small disks"):
        run.machine.boot()
        run.facility.create()
        run.facility.plug_in(run.machine.leader)
        wait_for_engine(run)
    serve(run, served.key, chapter="It serves")
    kills.kill_each(run, served)
    kills.cut_cable(run, served)
    full.ledger_full(run, served)
    upgrade.next_release(run, 2, recipe=MONITORED)
    full.state_full(run, "/media/sealift-2", served)
    with run.stage.chapter("Two people approve what release 2 changes on the host, monitoring switched on"):
        upgrade.monitor(run)
        upgrade.approve_next(run)
    full.releases_full(run)
    powercut.during_upgrade(run)
    upgrade.approve_anew(run)
    upgrade.go_back(run)
    upgrade.approve_anew(run)
    upgrade.go_forward(run)
    monitored.begin(run)
    serve(run, served.key, chapter="The next release serves")
    monitored.targets_and_banner(run)
    if further:
        oldimage.old_image_stops(run, oldimage.tell_the_sender(run))
        removed.uninstall(run)
        powercut.during_first_install(run, served)


def main() -> int:
    """Run it all and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the box running and its folder in place")
    parser.add_argument("--further", action="store_true", help="also an old disk image, uninstall, a cut first install")
    parser.add_argument("--out", type=Path, default=ROOT / "build/box-faults")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: the box is a container of its own, and only root can start one", file=sys.stderr)
        return 55
    install_tools()
    out = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    media = {f"/media/sealift-{serial}": out / f"release-{serial}/media/volume-1" for serial in (2, 3)}
    media["/media/sealift-1"] = out / "media/volume-1"
    for folder in media.values():
        folder.mkdir(parents=True)
    name = f"slf{os.getpid()}"
    machine = Machine(root=out / "machine", name=name, media=media, log=out / "console.log")
    stage = Stage(ROOT, tools=Path(sys.executable).parent, environment={})
    run = Run(out=out, stage=stage, machine=machine, facility=Facility(name=name))
    began, ok = time.monotonic(), False
    stack = ExitStack()
    try:
        whole(run, stack, further=arguments.further)
        ok = True
    except (BoxError, StageError, RuntimeError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
    finally:
        run.facts |= {"ok": ok, "minutes": round((time.monotonic() - began) / 60, 1), "seconds": stage.times}
        (out / "summary.json").write_text(json.dumps(run.facts, indent=2) + "\n")
        if not arguments.keep:
            run.facility.remove()
            machine.stop()
            stack.close()
            for folder in ("machine", "fresh", "old"):
                shutil.rmtree(out / folder, ignore_errors=True)
    print(f"\n{'All of it held' if ok else 'It did not hold'}; {run.facts['minutes']} minutes; see summary.json")
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
