"""A box that serves, made once for many tests: kept in the cache under a digest of everything it is made from.

`make box` leaves its own there when all of it held; where there is none, the shortest way to one is gone here.
`python -m tests.box.prepared FOLDER` makes one in a folder and keeps none: a later release's tests run that in the
source of this one, for a box of before (root).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.box.box import first_trust, promote
from tests.box.machine import base_image, install_tools
from tests.box.run import Run
from tests.box.sender import RECIPE, Sealed, make_release
from tests.support.sources import digest_of

_SOURCES = (
    *("appliance", "bundler", "media", "systemd", "ansible", "requirements", "examples/box.toml"),
    *(f"tests/box/{name}.py" for name in ("box", "machine", "operators", "sender", "sheet")),
)
PARTS = ("machine", "media", "ceremony")
SERVED = "served.json"
_KEPT_OTHERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What to know of a box that serves: an API key, the version in production, its medium's sheet and code."""

    key: str
    digest: str
    sheet: str
    code: str

    @classmethod
    def read(cls, folder: Path) -> "Served":
        """Return what lies in a folder."""
        return cls(**json.loads((folder / SERVED).read_text()))

    def write(self, folder: Path) -> None:
        """Leave it in a folder."""
        (folder / SERVED).write_text(json.dumps(asdict(self)))

    def sealed(self, run: Run) -> Sealed:
        """Return the medium that it was installed from."""
        return Sealed(volume=run.out / "media/volume-1", sheet=self.sheet, code=self.code)


def cache() -> Path:
    """Return where boxes that serve are kept."""
    return cache_of("served", *_SOURCES)


def cache_of(kind: str, *sources: str) -> Path:
    """Return where boxes are kept that are made from these files of the checkout and the base image."""
    digest = digest_of(*sources, more=str(base_image().stat().st_ino).encode())
    return base_image().parent / f"{kind}-{digest}"


def keep(run: Run, served: Served) -> None:
    """Leave a stopped box, its medium, its ceremony and its people in the cache; all but the newest others go."""
    served.write(run.out)
    keep_in(cache(), run.out)


def keep_in(place: Path, out: Path) -> None:
    """Leave what lies in a folder in one of the cache, called KIND-DIGEST; all but the newest others of its kind go."""
    others = [path for path in place.parent.glob(f"{place.name.split('-')[0]}-*") if path != place]
    for old in [place, *sorted(others, key=lambda path: path.stat().st_mtime)[:-_KEPT_OTHERS]]:
        shutil.rmtree(old, ignore_errors=True)
    partial = place.with_name(f"new-{place.name}-{os.getpid()}")  # another run may be making one
    partial.mkdir()
    for part in (*PARTS, SERVED):
        _copy(out / part, partial / part)
    partial.rename(place)


def take(run: Run) -> Served:
    """Put a box that serves into the run's folder, not started; made now where the cache has none of these bytes."""
    place = cache()
    if not (place / SERVED).exists():
        keep(run, make(run))
        return Served.read(place)
    return take_from(place, run)


def take_from(place: Path, run: Run) -> Served:
    """Put a box that is kept in a folder of the cache into the run's folder, not started."""
    for part in PARTS:
        shutil.rmtree(run.out / part, ignore_errors=True)
        _copy(place / part, run.out / part)
    for point in run.machine.media:
        (run.machine.root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return Served.read(place)


def copy_of_machine(place: Path) -> None:
    """Copy the disk of the box as it was when it was kept: an old image."""
    _copy(cache() / "machine", place)


def make(run: Run) -> Served:
    """Make one in the run's folder, the shortest way, and stop it."""
    with run.stage.chapter("No box of these bytes is kept: one is made, which takes minutes"):
        sealed = make_release(run.stage, run.out, recipe=RECIPE, ceremony=run.out / "ceremony")
        run.machine.create(base_image())
        run.machine.boot()
    first_trust(run, sealed)
    with run.stage.chapter("Install"):
        run.machine.result("sealift", "install")
    key = promote(run)
    run.machine.stop()
    return Served(key=key, digest=str(run.facts["promoted"]), sheet=sealed.sheet, code=sealed.code)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def main() -> int:
    """Make one in a folder of its own and write what to know of it there."""
    parser = argparse.ArgumentParser(prog="python -m tests.box.prepared", description="A box that serves (root).")
    parser.add_argument("folder", type=Path, help="a folder that is not there yet")
    out = parser.parse_args().folder.resolve()
    if os.geteuid() != 0:
        print("error: the box is a container of its own, and only root can start one", file=sys.stderr)
        return 55
    install_tools()
    out.mkdir(parents=True)
    run = Run.of(out, name=f"slm{os.getpid()}", media={"/media/sealift-1": out / "media/volume-1"})
    try:
        with run.summary():
            make(run).write(out)
    finally:
        run.machine.stop()
    return 0 if run.facts["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
