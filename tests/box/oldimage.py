"""A box that is put back from an old disk image has lost records: a medium that names a later checkpoint must stop."""

from pathlib import Path

from tests.box import prepared
from tests.box.machine import Machine
from tests.box.run import Run
from tests.box.upgrade import next_release

_STOPPED = 91
_POINT = "/media/sealift-2"


def tell_the_sender(run: Run, *, recipe: Path) -> Path:
    """Carry a receipt of today to the sender, who names the ledger's checkpoint in release 2; return the volume."""
    machine = run.machine
    with run.stage.chapter("A receipt goes back to the sender"):
        machine.run("sealift", "export", "receipt", "1", "--to", "/root", "--yes")
        (receipt,) = (machine.root / "root").glob("receipt-1-*.json")
        key = machine.root / "etc/sealift/ledger.pub"
        common: list[str | Path] = ["--ceremony", run.out / "ceremony"]
        run.stage.run("sealift-bundler", "register", "site", "demo-hospital", "--key", key, *common)
        run.stage.run("sealift-bundler", "register", "receipt", receipt, *common)
    return next_release(run, 2, recipe=recipe)


def old_image_stops(run: Run, volume: Path) -> None:
    """Boot the disk image of before all this, and receive there what the box that kept its records has taken."""
    name = f"{run.machine.name}o"
    old = Machine(root=run.out / "old", name=name, media={_POINT: volume}, log=run.out / "old.log")
    with run.stage.chapter("An old disk image is restored, and a medium names a later checkpoint"):
        prepared.copy_of_machine(old.root)
        (old.root / _POINT.lstrip("/")).mkdir(parents=True, exist_ok=True)
        try:
            old.boot()
            done = old.run("sealift", "receive", _POINT, may_fail=True)
            run.require("a box that lost records stops", done.returncode == _STOPPED, (done.returncode, done.stderr))
            told = old.run("sealift", "status", "--json", shown=False, may_fail=True).stdout
            run.require("and did not take the medium", '"serial": 2' not in told, told)
        finally:
            old.stop()
