"""What goes wrong on a box that serves, and how it comes back, in parts; clocks and windows are one shard.

    upgrade   the next release: a full disk, a power failure, monitoring, what its units reach, SIGKILL of what watches
              and of what forwards records to the facility's collector
    changes   a change of the host that two people approve; a release that does not answer goes back by itself
    before    a box that the version before makes by its own source, kept for the next two
    released  this release is installed there, and goes on with records, people, keys and the version in production
    returned  this release does not answer there, and the version before goes on with what it left
    disks     the machine's own file system runs full, and the one that backups go to
    security  a security update of what Debian's archive has newer than the box, by a medium
    faults    SIGKILL of every service, a cut cable, full disks, an old disk image, uninstall
    guided    a bare box: the guided install at a terminal of a release that watches, through a power failure, and its
              alert at a mail relay over TLS; and dpkg cut off in the states it can leave
    clocks    a clock that jumps while it runs, and across a restart and a boot: fifty years ahead, 1970, ten years on
    windows   production rests for a maintenance window: broken off, a power failure, its command killed; then what is
              asked of a box that serves: report, origin, export, keys of scripts, a second engine
    optional  what a site may add: overflow and a standby of production, a second model beside the first, an attached
              engine, scripts that ask, a list of names; uninstall
    pair      a second box stands by, is kept current, and answers when the cable of the first is cut; then a third one
              is their witness, and cables are cut so that it matters who reaches it
    vllm      a release that brings vLLM, from its medium to production, beside the engine before
    database  records go to a PostgreSQL server of the facility and back, by what two people approve

Each but `guided` takes the box that `make box` left in the cache, or makes one. Facts go to
build/box-PART/summary.json. Root only.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.box import (
    backupdisk,
    clocks,
    confined,
    cutpackages,
    database,
    evidenced,
    forwarded,
    full,
    guided,
    heldstill,
    kills,
    monitored,
    oldimage,
    operators,
    optional,
    paired,
    powercut,
    prepared,
    reach,
    released,
    removed,
    secured,
    upgrade,
    vllm_release,
    windowed,
    witnessed,
)
from tests.box.box import serve
from tests.box.disks import BACKUP, LEDGER, RELEASES, STATE, SYSTEM, small_disks
from tests.box.machine import install_tools
from tests.box.prepared import Served
from tests.box.run import ROOT, Run, boot, wait_for_engine

# Of both parts, so that what one rehearsed the other need not.
NEXT_RECIPE = ROOT / "examples/monitored.toml"
NEXT = "/media/sealift-2"


def faults(run: Run, stack: ExitStack) -> None:
    """What breaks while it serves; then a box that lost records, and one that is taken off."""
    served = _serving(run, stack, STATE, LEDGER)
    kills.kill_each(run, served)
    kills.cut_cable(run, served)
    full.ledger_full(run, served)
    volume = oldimage.tell_the_sender(run, recipe=NEXT_RECIPE)
    full.state_full(run, NEXT, served)
    oldimage.old_image_stops(run, volume)
    removed.uninstall(run)


def guided_install(run: Run, _: ExitStack) -> None:
    """A box that is new: a person sets it up by questions; and packages that a power failure cut off."""
    run.facility.create()
    volume = guided.first_install(run, serial=2, recipe=NEXT_RECIPE)
    cutpackages.packages_are_finished(run, volume)


def disks(run: Run, stack: ExitStack) -> None:
    """File systems run full that hold neither records nor state: the machine's own, and that of backups."""
    served = _serving(run, stack, RELEASES, STATE, BACKUP, SYSTEM)
    full.nothing_starts(run, served)
    full.system_full(run, served)
    backupdisk.backup_full(run)


def security(run: Run, stack: ExitStack) -> None:
    """Packages of the machine are raised by a medium that brings nothing else."""
    secured.all_of_it(run, _serving(run, stack), NEXT)


def upgraded(run: Run, stack: ExitStack) -> None:
    """The next release, through a full disk and a power failure, until it serves and is watched."""
    served = _serving(run, stack, RELEASES)
    before = serve(run, served.key, chapter="An answer of the release before")
    _approve_next(run, more=forwarded.SITE_FILE)
    full.releases_full(run)
    powercut.during_upgrade(run)
    upgrade.approve_anew(run)
    upgrade.go_forward(run)
    with monitored.relay(run) as mails:
        monitored.begin(run)
        serve(run, served.key, chapter="The next release serves")
        proof = run.machine.result("sealift", "prove", before["request_id"])
        run.require("an answer of the release before is proven by the next one", proof["ok"] is True, proof)
        monitored.targets_and_banner(run, mails)
    reach.who_watches_reaches(run)
    confined.others_hold(run)
    with forwarded.collector(run) as taken:
        kills.kill_watchers(run, served)
        forwarded.require_all(run, taken)


def changes(run: Run, stack: ExitStack) -> None:
    """What two people let happen to the host: another site file, then a release whose gateway does not start."""
    served = _serving(run, stack)
    operators.host_change(run)
    _approve_next(run)
    upgrade.go_back(run)
    serve(run, served.key, chapter="The release before serves")


def site_files(run: Run, stack: ExitStack) -> None:
    """A site file under which nothing answers, then one that the gateway alone reads anew."""
    served = _serving(run, stack)
    upgrade.site_file_goes_back(run)
    serve(run, served.key, chapter="The site file of before serves")
    upgrade.limits_take_effect(run, served.digest)
    serve(run, served.key, chapter="The one with another limit served, and the one of before does")


def made_before(run: Run, _: ExitStack) -> None:
    """A box by the version before, so that whoever takes it next need not wait for it."""
    run.require("the version before made a box that serves", bool(released.take(run).digest))


def released_before(run: Run, stack: ExitStack) -> None:
    """What the version before has on a box; this release is installed there by that one's code."""
    served = _of_before(run, stack)
    before = serve(run, served.key, chapter="An answer of the version before")
    _approve_next(run)
    upgrade.go_forward(run)
    released.goes_on(run, served, before)


def returned_before(run: Run, stack: ExitStack) -> None:
    """This release is tried on a box of the version before and does not answer: that one takes it back."""
    served = _of_before(run, stack)
    _approve_next(run)
    upgrade.go_back(run)
    answer = serve(run, served.key, chapter="The version before serves on what this release left")
    upgrade.approve_anew(run)
    upgrade.go_forward(run)
    released.goes_on(run, served, answer)


def clock_jumps(run: Run, stack: ExitStack) -> None:
    """A clock that is wrong while it runs and when it comes up, and that two people put right."""
    served = prepared.take(run)
    found = clocks.Clocks(run, served)
    found.prepare()
    _boot(run, stack)
    serve(run, served.key, chapter="It serves")
    found.good()
    found.ahead()
    found.behind()
    found.years_on()
    found.ledger()


def windows(run: Run, stack: ExitStack) -> None:
    """Maintenance windows: broken off, cut off by the power, their command killed; then what is asked of the box."""
    served = _serving(run, stack)
    windowed.broken_off(run, served)
    windowed.cut(run, served)
    windowed.killed(run, served)
    evidenced.all_of_it(run, served)


def optional_parts(run: Run, stack: ExitStack) -> None:
    """What a site may add: engines that wait or are another's, a second model, scripts, names; and off with it."""
    optional.all_of_it(run, _serving(run, stack), NEXT)


def pair(run: Run, stack: ExitStack) -> None:
    """A second box stands by and answers when the cable of the first is cut; then a third one is their witness."""
    served = prepared.take(run)
    with run.stage.chapter("Boot the box that serves"):
        run.machine.boot()
        wait_for_engine(run)
    made = paired.all_of_it(run, served, stack)
    witnessed.all_of_it(made, served, stack)
    # It holds the mirror of the other one.
    heldstill.units_of_a_pair_hold(made.two)


def databases(run: Run, stack: ExitStack) -> None:
    """Records of a box go to a server of the facility, and back."""
    database.all_of_it(run, stack, _serving(run, stack).key, NEXT)


def vllm(run: Run, stack: ExitStack) -> None:
    """vLLM as a site gets it: by a medium, an install that two people approve, gates, a promotion, its unit."""
    vllm_release.all_of_it(run, _serving(run, stack), NEXT)


PARTS: dict[str, Callable[[Run, ExitStack], None]] = {
    "upgrade": upgraded,
    "changes": changes,
    "site-files": site_files,
    "before": made_before,
    "released": released_before,
    "returned": returned_before,
    "faults": faults,
    "guided": guided_install,
    "disks": disks,
    "security": security,
    "clocks": clock_jumps,
    "windows": windows,
    "optional": optional_parts,
    "pair": pair,
    "database": databases,
    "vllm": vllm,
}


def _approve_next(run: Run, *, more: str = "") -> None:
    upgrade.next_release(run, 2, recipe=NEXT_RECIPE)
    with run.stage.chapter("Two people approve what release 2 changes on the host, monitoring switched on"):
        run.machine.run("sealift", "receive", NEXT)
        upgrade.monitor(run, more=more)
        upgrade.approve_next(run)


def _of_before(run: Run, stack: ExitStack) -> Served:
    served = released.take(run)
    _boot(run, stack)
    return served


def _serving(run: Run, stack: ExitStack, *small: str) -> Served:
    served = prepared.take(run)
    _boot(run, stack, *small)
    serve(run, served.key, chapter="It serves")
    return served


def _boot(run: Run, stack: ExitStack, *small: str) -> None:
    with run.stage.chapter("Boot the box that serves, its folders on small disks"):
        stack.enter_context(small_disks(run, *small))
        boot(run)


def main() -> int:
    """Run one part and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--keep", action="store_true", help="leave the box running and its folder in place")
    parser.add_argument("--out", type=Path, help="instead of build/box-PART")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("error: the box is a container of its own, and only root can start one", file=sys.stderr)
        return 55
    install_tools()
    out = (arguments.out or ROOT / f"build/box-{arguments.part}").resolve()
    shutil.rmtree(out, ignore_errors=True)
    media = {"/media/sealift-1": out / "media/volume-1", NEXT: out / "release-2/media/volume-1"}
    run = Run.of(out, name=f"sl{arguments.part[0]}{os.getpid()}", media=media)
    machine = run.machine
    stack = ExitStack()
    try:
        with run.summary():
            PARTS[arguments.part](run, stack)
    finally:
        if not arguments.keep:
            run.facility.remove()
            machine.stop()
            stack.close()
            for folder in ("machine", "fresh", "old", "second", "third"):
                shutil.rmtree(out / folder, ignore_errors=True)
    return 0 if run.facts["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
