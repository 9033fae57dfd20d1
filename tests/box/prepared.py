"""A box that serves, made once for many tests: kept in the cache under a digest of everything it is made from.

`make box` leaves its own there when all of it held; where there is none, the shortest way to one is gone here.
"""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.box.box import first_trust, promote
from tests.box.machine import base_image
from tests.box.run import Run
from tests.box.sender import RECIPE, Sealed, make_release
from tests.support.sources import digest_of

_SOURCES = (
    *("appliance", "bundler", "media", "systemd", "ansible", "requirements", "examples/box.toml"),
    *(f"tests/box/{name}.py" for name in ("box", "machine", "operators", "sender", "sheet")),
)
_PARTS = ("machine", "media", "ceremony")
_KEPT_OTHERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What to know of a box that serves: an API key, the version in production, its medium's sheet and code."""

    key: str
    digest: str
    sheet: str
    code: str

    def sealed(self, run: Run) -> Sealed:
        """Return the medium that it was installed from."""
        return Sealed(volume=run.out / "media/volume-1", sheet=self.sheet, code=self.code)


def cache() -> Path:
    """Return where boxes that serve are kept."""
    return base_image().parent / f"served-{_digest()}"


def keep(run: Run, served: Served) -> None:
    """Leave a stopped box, its medium, its ceremony and its people in the cache; all but the newest others go."""
    place = cache()
    others = [path for path in place.parent.glob("served-*") if path != place]
    for old in [place, *sorted(others, key=lambda path: path.stat().st_mtime)[:-_KEPT_OTHERS]]:
        shutil.rmtree(old, ignore_errors=True)
    partial = place.with_name(f"new-served-{os.getpid()}")  # another run may be making one
    partial.mkdir()
    for part in _PARTS:
        _copy(run.out / part, partial / part)
    (partial / "served.json").write_text(json.dumps(asdict(served)))
    partial.rename(place)


def take(run: Run) -> Served:
    """Put a box that serves into the run's folder, not started; made now where the cache has none of these bytes."""
    place = cache()
    if not (place / "served.json").exists():
        _make(run)
    else:
        for part in _PARTS:
            shutil.rmtree(run.out / part, ignore_errors=True)
            _copy(place / part, run.out / part)
    return Served(**json.loads((place / "served.json").read_text()))


def copy_of_machine(place: Path) -> None:
    """Copy the disk of the box as it was when it was kept: an old image."""
    _copy(cache() / "machine", place)


def _make(run: Run) -> None:
    with run.stage.chapter("No box of these bytes is kept: one is made, which takes minutes"):
        sealed = make_release(run.stage, run.out, recipe=RECIPE, ceremony=run.out / "ceremony")
        run.machine.create(base_image())
        run.machine.boot()
    first_trust(run, sealed)
    with run.stage.chapter("Install"):
        run.machine.result("sealift", "install")
    key = promote(run)
    run.machine.stop()
    keep(run, Served(key=key, digest=str(run.facts["promoted"]), sheet=sealed.sheet, code=sealed.code))


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def _digest() -> str:
    return digest_of(*_SOURCES, more=str(base_image().stat().st_ino).encode())
