"""Receiving beside what people do instead: `make bench-receive`, or SIZE=1GiB ROUNDS=3 python -m bench.receive.

Ours is the whole copier: a fresh process that checks signatures, people, site and serial, then proves and stores every
byte durably. The others copy the same volume to the same disk and sync the files they wrote, nothing else. The cache is
cold before each run, and the contestants take turns. The medium lies on the disk itself or on another device, as
BENCH_MEDIUM says (`bench.carrier`); then RAUC's bundle lies there too.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from bench import media, rauc
from bench.carrier import Carrier, carrier
from bench.measuring import Row, at_most, faster, forget, interleaved, machine, run, say, size_in_bytes, timed, write

RSS_LIMIT_MIB = 96
FLAT = 1.1
MEMORY_SIZES = (2**30, 8 * 2**30)
SMALL_FILES = int(os.environ.get("FILES", "20000"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
PLACE = os.environ.get("BENCH_DIR") or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copier:
    """One run of the copier: how long, and how much memory it had at most."""

    seconds: float
    rss_mib: float


def copier(medium: media.BenchMedium, store: Path, *, cores: int | None = None) -> Copier:
    """Receive a volume into a fresh store, on so many cores or on all."""
    every = sorted(os.sched_getaffinity(0))
    job = medium.job(store)
    begun = monotonic()
    process = subprocess.Popen(media.copier(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/")
    os.sched_setaffinity(process.pid, every[:cores] if cores else every)
    if process.stdin is None:
        raise SystemExit("the copier has no stdin")
    peak = 0
    try:
        process.stdin.write(job)
        process.stdin.close()
        while process.poll() is None:
            peak = max(peak, high_water(process.pid))
            sleep(0.01)
    finally:
        process.kill()
        process.wait()
    seconds = monotonic() - begun
    if process.returncode != 0:
        raise SystemExit(f"the copier ended with {process.returncode}")
    return Copier(seconds=seconds, rss_mib=peak / 1024)


def high_water(pid: int) -> int:
    """Return the most memory that a process had so far, in KiB; what `wait4` says counts its parent's as well."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def copy_and_sync(volume: Path, place: Path) -> None:
    """`cp -r`, then `sync` of the files and folders that were made."""
    run("cp", "-r", volume, place)
    made = [place, *place.rglob("*")]
    run("sync", *made)


def comparison(folder: Path, size: int, on: Carrier) -> list[Row]:
    """Return the rows of time, for one release of this size on a medium."""
    medium = media.make(folder / "m", size, volume=on.folder / "volume-1")
    place = folder / "place"
    release = medium.volume / "release"

    def fresh(work: Callable[[], object]) -> float:
        seconds = timed(work)
        shutil.rmtree(place)
        return seconds

    def copied() -> None:
        copy_and_sync(medium.volume, place)

    def by_openssl() -> None:
        run("openssl", "dgst", "-sha256", *medium.payload)
        copied()

    def by_sha256sum() -> None:
        run("sha256sum", "--check", "--quiet", "manifest-sha256.txt", cwd=release)
        copied()

    contestants: dict[str, Callable[[], float]] = {
        "sealift": lambda: fresh(lambda: copier(medium, place)),
        "cp, sync": lambda: fresh(copied),
        "openssl dgst, cp, sync": lambda: fresh(by_openssl),
        "sha256sum -c, cp, sync": lambda: fresh(by_sha256sum),
    }
    with ExitStack() as stack:
        if rauc.is_there():
            bundle = on.folder / "payload.raucb"
            peer = stack.enter_context(rauc.prepared(folder / "r", medium.payload, bundle=bundle))
            contestants["rauc install"] = peer.install
        else:
            say("rauc, its service or root is missing: no row for it")
        cold = {name: on.reading(work, least=size) for name, work in contestants.items()}
        found = interleaved(cold, rounds=ROUNDS, before=lambda: forget(folder, on.folder))
    ours, named = found["sealift"], f"receive {size / 2**30:g} GiB from {on.kind}"
    rows = [
        at_most(f"{named}, against cp and sync", ours, found["cp, sync"], times=1.0),
        faster(f"{named}, against openssl, cp, sync", ours, found["openssl dgst, cp, sync"], times=1.5),
        faster(f"{named}, against sha256sum -c, cp, sync", ours, found["sha256sum -c, cp, sync"], times=4.0),
    ]
    if "rauc install" in found:
        rows.append(faster(f"{named}, against RAUC", ours, found["rauc install"], times=2.5))
    return [*rows, scaling(medium, place, on)]


def scaling(medium: media.BenchMedium, place: Path, on: Carrier) -> Row:
    """Return how much faster one big file is received on all cores than on one."""
    cores = len(os.sched_getaffinity(0))
    one: list[float] = []
    every: list[float] = []
    for _ in range(ROUNDS):
        for found, count in ((one, 1), (every, cores)):
            forget(place.parent, on.folder)
            found.append(copier(medium, place, cores=count).seconds)
            shutil.rmtree(place)
    ours, single = statistics.median(every), statistics.median(one)
    return Row(
        name=f"one big file from {on.kind} on {cores} cores, against one core",
        ours=ours,
        peer=single,
        unit="s",
        ratio=single / ours,
        more={"runs": {"ours": every, "peer": one}},
    )


def memory(folder: Path, size: int, smaller: float | None) -> Row:
    """Return the copier's peak memory for a release of this size; beside it that for a smaller one, where known."""
    medium = media.make(folder / "m", size)
    peak = copier(medium, folder / "place").rss_mib
    ratio = None if smaller is None else peak / smaller
    flat = "" if ratio is None else f", at most {FLAT:g} times"
    return Row(
        name=f"memory of the copier at {size / 2**30:g} GiB",
        ours=peak,
        peer=smaller,
        unit="MiB",
        ratio=ratio,
        goal=f"under {RSS_LIMIT_MIB} MiB{flat}",
        met=peak < RSS_LIMIT_MIB and (ratio is None or ratio <= FLAT),
    )


def many_files(folder: Path, count: int) -> list[Row]:
    """Return the rows of a release of many small files, as wheels and packages are: time and memory."""
    medium = media.make_many(folder / "m", count)
    place = folder / "place"
    peaks: list[float] = []

    def ours() -> float:
        found = copier(medium, place)
        peaks.append(found.rss_mib)
        shutil.rmtree(place)
        return found.seconds

    def theirs() -> float:
        seconds = timed(lambda: copy_and_sync(medium.volume, place))
        shutil.rmtree(place)
        return seconds

    found = interleaved({"sealift": ours, "cp, sync": theirs}, rounds=ROUNDS, before=lambda: forget(folder))
    own, peer = found["sealift"], found["cp, sync"]
    named, peak = f"{count} files of 4 to 200 KiB", max(peaks)
    return [
        Row(
            name=f"receive {named}, against cp and sync",
            ours=own.median,
            peer=peer.median,
            unit="s",
            ratio=own.median / peer.median,
            more={"runs": {"ours": own.to_json(), "peer": peer.to_json()}},
        ),
        Row(
            name=f"memory of the copier at {named}",
            ours=peak,
            peer=None,
            unit="MiB",
            goal=f"under {RSS_LIMIT_MIB} MiB",
            met=peak < RSS_LIMIT_MIB,
        ),
    ]


def main() -> int:
    """Measure, write build/bench/receive.json, and say which goals were met."""
    size = size_in_bytes("4GiB")
    rows = [machine()]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=PLACE) as name, carrier(Path(name), most=2 * size) as on:
        rows += comparison(Path(name), size, on)
    smaller: float | None = None
    for each in sorted({min(most, size if "SIZE" in os.environ else most) for most in MEMORY_SIZES}):
        with tempfile.TemporaryDirectory(prefix="bench-", dir=PLACE) as name:
            needed = 3 * each + 2**30
            if shutil.disk_usage(name).free < needed:
                say(f"no room to measure memory at {each / 2**30:g} GiB: {needed / 2**30:g} GiB are needed")
                continue
            rows.append(memory(Path(name), each, smaller))
            smaller = rows[-1].ours
    with tempfile.TemporaryDirectory(prefix="bench-", dir=PLACE) as name:
        rows += many_files(Path(name), SMALL_FILES)
    return write("receive", [*rows, machine()])


if __name__ == "__main__":
    raise SystemExit(main())
