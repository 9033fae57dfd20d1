"""The search for identifiers beside Presidio's analyzer: how much each finds of marked notes, and how long it takes.

Ours is the gateway's detector with all that a box has without a list of its own people: patterns, numbers with a label,
names by the words around them. The peer is Presidio's analyzer with all its recognisers, in an environment of its own
(`bench/presidio.txt`), without a trained model, since none can be had without a network. Both read the same notes in
turns, in one process each. NOTES (heldout) names them: nobody who writes rules reads `bench/notes-heldout.txt`; those
of `bench/notes-dev.txt` are there to make rules with. ROUNDS (5) is read from the environment.

In its turn each reads for about as long as the other: what waits while the other reads comes back to a cold processor,
and whoever is through in a tenth of the time would be measured by that.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from appliance.phi.detect import PatternDetector, WithNames
from appliance.phi.names import NameRecogniser
from bench.measuring import ROOT, Row, machine, run, say, versions, write
from bench.notes import Score, notes, scored

ROUNDS: Final = int(os.environ.get("ROUNDS", "5"))
NOTES: Final = os.environ.get("NOTES", "heldout")
_LOCK: Final = ROOT / "bench/presidio.txt"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealift/bench"
_TIMES_FASTER: Final = 10.0
_READINGS: Final = 8  # of ours in a turn

Found = list[list[tuple[int, int]]]
Reader = Callable[[Sequence[str]], tuple[Found, list[float]]]


def environment() -> Path:
    """Return the folder of Presidio's environment, made now where the lock file has none."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = _CACHE / f"presidio-{digest}"
    if not (folder / "made").exists():
        say("making an environment for Presidio; this takes a minute, once")
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "--no-deps", "-r", _LOCK)
        (folder / "made").touch()
    return folder


@contextmanager
def presidio() -> Iterator[Reader]:
    """Run Presidio's analyzer until the block ends; give what reads texts with it."""
    python = environment() / "bin/python"
    child = ROOT / "bench/presidio_child.py"
    with subprocess.Popen([python, "-I", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None  # noqa: S101 - pipes
        assert told is not None  # noqa: S101 - pipes

        def read(texts: Sequence[str]) -> tuple[Found, list[float]]:
            asked.write(json.dumps(list(texts)) + "\n")
            asked.flush()
            answer: dict[str, Any] = json.loads(told.readline())
            return [[(start, end) for start, end in each] for each in answer["found"]], answer["seconds"]

        try:
            yield read
        finally:
            asked.close()


def ours() -> Reader:
    """Return what reads texts with the gateway's detector."""
    detector = WithNames(PatternDetector(), NameRecogniser())

    def read(texts: Sequence[str]) -> tuple[Found, list[float]]:
        seconds = []
        for _ in range(_READINGS):
            found: Found = []
            for text in texts:
                began = time.perf_counter()
                each = detector.find(text)
                seconds.append(time.perf_counter() - began)
                found.append([(one.start, one.end) for one in each])
        return found, seconds

    return read


def main() -> int:
    """Measure and write build/bench/phi.json; return 1 where a goal was missed."""
    given = notes(NOTES)
    texts = [one.text for one in given]
    taken: dict[str, list[float]] = {"ours": [], "Presidio": []}
    scores: dict[str, Score] = {}
    with presidio() as peer:
        readers = {"ours": ours(), "Presidio": peer}
        for turn in range(ROUNDS + 1):
            for name in sorted(readers, reverse=bool(turn % 2)):
                found, seconds = readers[name](texts)
                scores[name] = scored(given, found)
                if turn > 0:  # the first warms up
                    taken[name].append(statistics.median(seconds))
    ran = versions((environment() / "bin/python", ["presidio-analyzer"]))
    rows = [machine(), ran, *_rows(scores["ours"], scores["Presidio"], taken)]
    mine, other = scores["ours"], scores["Presidio"]
    for name, marked in mine.marked.items():
        say(f"  {name:<8} {mine.found[name]:4} and {other.found[name]:4} of {marked}")
    return write("phi", rows)


def _rows(mine: Score, other: Score, taken: dict[str, list[float]]) -> Iterator[Row]:
    fast, slow = statistics.median(taken["ours"]), statistics.median(taken["Presidio"])
    yield Row(
        name="identifiers found of those marked",
        ours=mine.recall * 100,
        peer=other.recall * 100,
        unit="%",
        ratio=mine.recall / other.recall,
        goal="more than Presidio's analyzer",
        met=mine.recall > other.recall,
        more={"found": {"ours": mine.found, "Presidio": other.found}, "marked": mine.marked},
    )
    yield Row(
        name="other words hidden with them",
        ours=mine.overmasked * 100,
        peer=other.overmasked * 100,
        unit="%",
        ratio=mine.overmasked / other.overmasked if other.overmasked else None,
    )
    yield Row(
        name="to read one note, median",
        ours=fast * 1000,
        peer=slow * 1000,
        unit="ms",
        ratio=slow / fast,
        goal=f"at least {_TIMES_FASTER:g} times faster",
        met=slow >= _TIMES_FASTER * fast,
        more={"runs": taken},
    )


if __name__ == "__main__":
    raise SystemExit(main())
