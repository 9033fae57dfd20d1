"""How a benchmark measures and what it writes down: interleaved runs, medians, a cold cache, the machine.

A result is `build/bench/NAME.json`: a list of objects with name, ours, peer, unit, ratio, goal and met, in the order of
the rows. Rows may hold more (every single run, the load at the time), so that a figure can be judged later.
"""

import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
OUT: Final = ROOT / "build/bench"
_ASK_VERSIONS: Final = """
import sys
from importlib.metadata import PackageNotFoundError, version

for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        continue
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a result.

    Args:
        name: What was measured, against what.
        ours: Our figure; None where a row only informs about something else.
        peer: The other's figure, in the same unit.
        unit: Of both.
        ratio: As the goal counts it.
        goal: Text; None where a row only informs.
        met: Whether the goal was reached; None where there is none.
        more: Whatever helps to judge it.
    """

    name: str
    ours: float | None
    peer: float | None
    unit: str
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as they are written."""
        own = {name: getattr(self, name) for name in ("name", "ours", "peer", "unit", "ratio", "goal", "met")}
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in own.items()}
        return {**rounded, **self.more}


@dataclass(slots=True, kw_only=True)
class Samples:
    """What one contestant took, run by run, with the load of the machine when each began."""

    seconds: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of all runs, in seconds."""
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return every run."""
        return {"seconds": [round(each, 3) for each in self.seconds], "load": [round(each, 2) for each in self.load]}


def at_most(name: str, ours: Samples, peer: Samples, *, times: float) -> Row:
    """Return a row whose goal is to take at most `times` what the peer takes; the ratio is ours by the peer's."""
    ratio = ours.median / peer.median
    goal = f"at most {times:g} times the peer's time"
    more = {"runs": {"ours": ours.to_json(), "peer": peer.to_json()}}
    return Row(
        name=name, ours=ours.median, peer=peer.median, unit="s", ratio=ratio, goal=goal, met=ratio <= times, more=more
    )


def faster(name: str, ours: Samples, peer: Samples, *, times: float) -> Row:
    """Return a row whose goal is to be at least `times` as fast as the peer; the ratio is the peer's time by ours."""
    ratio = peer.median / ours.median
    goal = f"at least {times:g} times faster"
    more = {"runs": {"ours": ours.to_json(), "peer": peer.to_json()}}
    return Row(
        name=name, ours=ours.median, peer=peer.median, unit="s", ratio=ratio, goal=goal, met=ratio >= times, more=more
    )


def interleaved(
    contestants: Mapping[str, Callable[[], float]], *, rounds: int, before: Callable[[], None]
) -> dict[str, Samples]:
    """Run all contestants one after another, `rounds` times, each round beginning with another one.

    Args:
        contestants: By name; each returns the seconds that it measured.
        rounds: How often.
        before: Called before each run, such as `forget`.
    """
    names = list(contestants)
    found = {name: Samples() for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            before()
            found[name].load.append(os.getloadavg()[0])
            seconds = contestants[name]()
            found[name].seconds.append(seconds)
            say(f"  round {number + 1}  {name:<28} {seconds:8.2f} s   load {found[name].load[-1]:.1f}")
    return found


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` took."""
    begun = monotonic()
    work()
    return monotonic() - begun


def require_text(first_seconds: float) -> None:
    """Pass where a stream had text, the first after so long. Without any it would be the quickest of all.

    Raises:
        ValueError: It had none.
    """
    if not first_seconds:
        message = "a streamed answer had no text"
        raise ValueError(message)


def forget(*folders: Path) -> None:
    """Write out what is waiting below these folders and drop their files from the page cache.

    Programs stay warm, and so does what other people on the machine read: only the data is cold.
    """
    libc = ctypes.CDLL(None)
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY)
        libc.syncfs(descriptor)
        os.close(descriptor)
        for path in folder.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def versions(*environments: tuple[Path, Sequence[str]]) -> Row:
    """Return a row with what is installed where contestants run, by package.

    Args:
        environments: An interpreter each, and the packages to ask it for; one that it does not have is left out.

    Raises:
        SystemExit: Two contestants that are to share a package have it in two versions.
    """
    found: dict[str, str] = {}
    for python, packages in environments:
        asked = subprocess.run(
            [python, "-I", "-c", _ASK_VERSIONS, *packages], check=True, capture_output=True, text=True
        )
        for line in asked.stdout.splitlines():
            package, _, version = line.partition(" ")
            if found.setdefault(package, version) != version:
                raise SystemExit(f"error: contestants have {package} {found[package]} and {version}")
    return Row(name="versions", ours=None, peer=None, unit="", more={"versions": found})


def machine() -> Row:
    """Return a row with the facts of this machine, and its load now."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    facts = {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "at": datetime.now(UTC).date().isoformat(),
    }
    return Row(
        name="machine", ours=os.getloadavg()[0], peer=None, unit="load average of one minute", more={"facts": facts}
    )


def write(name: str, rows: Iterable[Row]) -> int:
    """Write and print a result; return 0 when no goal was missed, else 1."""
    listed = [row.to_json() for row in rows]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(listed, indent=2) + "\n")
    for row in listed:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        figures = " / ".join(f"{value:.2f}" for value in (row["ours"], row["peer"]) if value is not None)
        say(f"{row['name']:<52} {figures:>16} {row['unit']:<4} {ratio:>6}  {row['goal'] or '':<34} {verdict}")
    return 1 if any(row["met"] is False for row in listed) else 0


def size_in_bytes(usual: str) -> int:
    """Return what SIZE says, such as 512MiB or 4GiB; `usual` where it says nothing."""
    text = os.environ.get("SIZE", usual)
    for suffix, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * factor)
    raise SystemExit(f"SIZE={text}: give it like 512MiB or 4GiB")


def run(*words: str | Path, **more: Any) -> None:
    """Run a program; its exit status must be 0, and what it prints is not shown."""
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL, **more)


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
