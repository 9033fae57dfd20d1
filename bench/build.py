"""Building a release with more weights in it: `make bench-build`, or SIZE=1GiB ROUNDS=3 python -m bench.build.

Ours is what the weights add to a whole build (gather, scan, candidate, statements, then sync): a build with them less
a build of the same recipe with a few kilobytes. The peer is one read and one write of them: `cp`, then `sync` of the
copy. Three ways in: a file on the candidate's own file system, a file on another one, and two sites that share it.
The cache is cold before each run, and the contestants take turns. No engine is here to load the model with: that part
of the scan maps the file once more, from the cache that hashing it filled.
"""

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measuring import Row, Samples, forget, interleaved, machine, run, say, size_in_bytes, timed, write
from bundler.build import build_sites
from bundler.recipe import Recipe
from tests.support.recipes import one_site, two_sites
from tests.support.workshop import workshop

TIMES = 1.3
ROUNDS = int(os.environ.get("ROUNDS", "5"))
PLACE = os.environ.get("BENCH_DIR") or None
ELSEWHERE = os.environ.get("BENCH_OTHER", "/dev/shm")  # noqa: S108 - a second file system, not a place for secrets
LITTLE = 64 * 1024


def builder(recipe: Path, folder: Path) -> Callable[[], float]:
    """Return what builds a recipe into an empty work folder and syncs it, and tells the seconds."""
    loaded, shop = Recipe.load(recipe), workshop(folder / "shop")

    def build() -> float:
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)

        def whole() -> None:
            build_sites(shop, loaded, work)
            run("sync", "-f", work)

        return timed(whole)

    build()  # the wheels are in the cache from here on
    return build


def copier(weights: Path, folder: Path) -> Callable[[], float]:
    """Return what reads the weights once and writes them once, durably."""

    def copy() -> float:
        place = folder / "copy"
        place.unlink(missing_ok=True)

        def whole() -> None:
            run("cp", "--reflink=never", weights, place)
            run("sync", place)

        return timed(whole)

    return copy


def added(name: str, more: Samples, less: Samples, peer: Samples) -> Row:
    """Return the row of what the weights added to a build."""
    ours = statistics.median(more.seconds) - statistics.median(less.seconds)
    runs = {"with": more.to_json(), "without": less.to_json(), "peer": peer.to_json()}
    return Row(
        name=name,
        ours=ours,
        peer=peer.median,
        unit="s",
        ratio=ours / peer.median,
        goal=f"at most {TIMES:g} times one read and one write",
        met=ours / peer.median <= TIMES,
        more={"runs": runs},
    )


def main() -> int:
    """Measure and write `build/bench/build.json`."""
    size = size_in_bytes("1GiB")
    with tempfile.TemporaryDirectory(dir=PLACE) as own, tempfile.TemporaryDirectory(dir=ELSEWHERE) as other:
        here, there = Path(own), Path(other)
        say(f"making {size >> 20} MiB of weights, three times")
        small, large = (one_site(here / f"recipe-{length}", weights_bytes=length) for length in (LITTLE, size))
        away = one_site(there / "recipe", weights_bytes=size)
        both_small, both = (two_sites(here / f"both-{length}", weights_bytes=length) for length in (LITTLE, size))
        contestants = {
            "without": builder(small, _made(here / "a")),
            "with": builder(large, _made(here / "b")),
            "from elsewhere": builder(away, _made(here / "c")),
            "two sites without": builder(both_small, _made(here / "d")),
            "two sites with": builder(both, _made(here / "e")),
            "cp, sync": copier(large.with_name("shared.gguf"), here),
            "cp from elsewhere, sync": copier(away.with_name("shared.gguf"), here),
        }
        found = interleaved(contestants, rounds=ROUNDS, before=lambda: forget(here))
    peer, peer_elsewhere = found["cp, sync"], found["cp from elsewhere, sync"]
    return write(
        "build",
        (
            added(f"{size >> 20} MiB of weights beside the candidate", found["with"], found["without"], peer),
            added("the same, for two sites", found["two sites with"], found["two sites without"], peer),
            added("the same, from another file system", found["from elsewhere"], found["without"], peer_elsewhere),
            machine(),
        ),
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
