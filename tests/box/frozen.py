"""Freezes what a box leaves for the tests of later versions: `python -m tests.box.frozen FOLDER`. Root only.

The box that `make box` left in the cache answers once, tells its sender of the release and proves the answer; then it
is turned off, and `tests.corpus.make_box` takes what is kept (docs/releasing.md). With ``--before`` it is a box of the
version before, whose site files' keys are then to be listed by that version.
"""

import argparse
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.box import prepared, released
from tests.box.box import serve
from tests.box.machine import install_tools
from tests.box.run import Run, boot
from tests.corpus import make_box


def main() -> int:
    """Freeze it; returns 1 where the box did not do what it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", action="store_true", help="a box of the version before")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("the box is a container of its own, and only root can start one")
    install_tools()
    with tempfile.TemporaryDirectory(prefix="slfrozen") as name, ExitStack() as stack:
        out = Path(name)
        run = Run.of(out, name=f"slz{os.getpid()}", media={"/media/sealift-1": out / "media/volume-1"})
        stack.callback(shutil.rmtree, out / "machine", ignore_errors=True)
        stack.callback(run.machine.stop)
        stack.callback(run.facility.remove)
        with run.summary():
            served = (released if arguments.before else prepared).take(run)
            _left(run, served.key)
        if run.facts["ok"]:
            make_box.freeze(run.machine.root, arguments.folder)
    return 0 if run.facts["ok"] else 1


def _left(run: Run, key: str) -> None:
    machine = run.machine
    with run.stage.chapter("Boot the box that serves"):
        boot(run)
    answer = serve(run, key, chapter="It answers once")
    with run.stage.chapter("It tells its sender, proves the answer, and is turned off"):
        machine.run("sealift", "export", "receipt", "1", "--to", "/root", "--yes")
        machine.run("sealift", "prove", answer["request_id"], "--out", "/root/proof.json", shown=False)
        machine.run("systemctl", "stop", "sealift.target", "sealift-ledger.service", "sealift-review.service")
        machine.stop()


if __name__ == "__main__":
    raise SystemExit(main())
