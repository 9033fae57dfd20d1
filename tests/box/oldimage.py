"""A box that is put back from an old disk image has lost records: a medium that names a later checkpoint must stop."""

from pathlib import Path

from tests.box import prepared
from tests.box.machine import Machine
from tests.box.run import Run
from tests.box.sender import RECIPE
from tests.box.upgrade import next_release

_STOPPED = 91
_RECEIPTS = "var/lib/sealift/receipts"


def tell_the_sender(run: Run) -> Path:
    """Carry the box's receipt of release 2 to the sender, who names its checkpoint in release 3; return the volume."""
    machine = run.machine
    with run.stage.chapter("The receipt goes back to the sender"):
        machine.run("sealift", "export", "receipt", "2", "--to", "/root", "--yes")
        (receipt,) = (machine.root / "root").glob("receipt-2-*.json")
        key = machine.root / "etc/sealift/ledger.pub"
        common: list[str | Path] = ["--ceremony", run.out / "ceremony"]
        run.stage.run("sealift-bundler", "register", "site", "demo-hospital", "--key", key, *common)
        run.stage.run("sealift-bundler", "register", "receipt", receipt, *common)
    return next_release(run, 3, recipe=RECIPE)


def old_image_stops(run: Run, volume: Path) -> None:
    """Boot the disk image of before all this, and receive release 3 there: its ledger lacks what the sender knows."""
    old = Machine(
        root=run.out / "old", name=f"{run.machine.name}o", media={"/media/sealift-3": volume}, log=run.out / "old.log"
    )
    with run.stage.chapter("An old disk image is restored, and a medium names a later checkpoint"):
        prepared.copy_of_machine(old.root)
        (old.root / "media/sealift-3").mkdir(parents=True, exist_ok=True)
        try:
            old.boot()
            done = old.run("sealift", "receive", "/media/sealift-3", may_fail=True)
            run.require("a box that lost records stops", done.returncode == _STOPPED, (done.returncode, done.stderr))
            told = old.run("sealift", "status", "--json", shown=False, may_fail=True).stdout
            run.require("and did not take the medium", '"serial": 3' not in told, told)
        finally:
            old.stop()
    with run.stage.chapter("The box that kept its records takes the same medium"):
        run.machine.run("sealift", "receive", "/media/sealift-3")
