"""The box as a whole: `make bench-box`, or ROUNDS=3 python -m bench.box (root: it boots a real Debian 12).

    bare box       from the first command of the trust sheet to the first answer that is proven, on a Debian that has
                   nothing: first trust, install, two people, gates, promotion; the medium lies there already
    restart        `systemctl restart sealift.target` until the first answer over TLS from another network name space
    engine alone   the same weights by llama-cpp-python in a fresh process of the same environment in the same box:
                   started, loaded, asked the same; no proof of bytes, no record, no web server
    back           the first good answer after every process of the engine (the gateway, the ledger) was killed
    fail-over      two boxes in network name spaces, a lease of 3 seconds: from the last answer of the one whose cable
                   is cut to the first of the other, by the service address; with a witness and without

Restart and engine alone take turns. The box that serves is the one of `make box` (tests/box/prepared.py).
ONLY=failover measures the last alone.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.measuring import OUT, Row, Samples, interleaved, machine, say, write
from examples.demo.stage import Stage
from tests.box import pair, prepared
from tests.box.box import first_trust, promote, serve
from tests.box.load import load
from tests.box.machine import Machine, base_image, install_tools
from tests.box.network import Facility
from tests.box.run import ROOT, Run, wait_for_engine

ROUNDS: Final = int(os.environ.get("ROUNDS", "5"))
TIMES: Final = 1.2
PLUS_SECONDS: Final = 3.0
BACK_SECONDS: Final = 10.0
FAIL_OVER_SECONDS: Final = 10.0
ONLY: Final = os.environ.get("ONLY", "")
_ALONE: Final = """
import sys, time
from appliance.serve.llama_devices import load_backends
from llama_cpp import Llama
load_backends()  # the wheel carries one library for each kind of processor
model = Llama(model_path=sys.argv[1], n_ctx=4096, n_batch=512, n_threads=int(sys.argv[2]), verbose=False)
asked = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
told = model.create_chat_completion(messages=asked, temperature=0, max_tokens=8)
assert told["choices"][0]["message"]["content"]
print(time.time())
"""


@contextmanager
def boxed(out: Path, name: str) -> Iterator[Run]:
    """Yield a box that was not booted yet, with its facility; both are gone afterwards."""
    media = {"/media/sealift-1": out / "media/volume-1"}
    media["/media/sealift-1"].mkdir(parents=True)
    box = Machine(root=out / "machine", name=name, media=media, log=out / "console.log")
    stage = Stage(ROOT, tools=Path(sys.executable).parent, environment={})
    run = Run(out=out, stage=stage, machine=box, facility=Facility(name=name))
    try:
        yield run
    finally:
        run.facility.remove()
        box.stop()
        shutil.rmtree(box.root, ignore_errors=True)


def bare_to_answer(run: Run, served: prepared.Served) -> float:
    """Return the minutes from a bare Debian to the first proven answer."""
    run.machine.create(base_image())
    run.machine.boot()
    began = time.monotonic()
    first_trust(run, served.sealed(run))
    run.machine.result("sealift", "install")
    run.facility.create()
    run.facility.plug_in(run.machine.leader)
    serve(run, promote(run), chapter="The first answer, and its proof")
    return (time.monotonic() - began) / 60


def restart(run: Run, served: prepared.Served) -> float:
    """Return the seconds from a restart of everything to the first answer."""
    with load(run, served.key, callers=1) as asked:
        forget_starts(run)
        began = time.time()
        run.machine.run("systemctl", "restart", "sealift.target", shown=False)
        # Whatever was answered before the gateway's process began, the one before it answered.
        return asked.answered_after(_begun(run, "sealift-gateway.service")).ended - began


def _begun(run: Run, unit: str) -> float:
    told = run.machine.run("systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", unit, shown=False).stdout
    # The box has this machine's clocks.
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + int(told) / 1e6


def forget_starts(run: Run) -> None:
    """Let systemd not count what a benchmark restarts against the limit of a unit that keeps failing."""
    run.machine.run("systemctl", "reset-failed", "sealift*", shown=False, may_fail=True)


def alone(run: Run, served: prepared.Served, weights: str) -> float:
    """Return the seconds that the engine takes by itself, from its start to its answer."""
    python = f"/opt/sealift/engines/{served.digest[:12]}/bin/python"
    threads = max(1, len(os.sched_getaffinity(0)) - 1)  # as the launcher: one core is the gateway's
    began = time.time()
    told = run.machine.run(python, "-I", "-c", _ALONE, weights, str(threads), shown=False)
    return float(told.stdout) - began  # what it takes to end is nobody's to wait for


def back(run: Run, served: prepared.Served, unit: str) -> float:
    """Return the seconds from the death of a unit's processes to the next good answer that was asked for after it."""
    with load(run, served.key) as asked:
        forget_starts(run)
        began = time.time()
        run.machine.run("systemctl", "kill", "--signal=KILL", unit, shown=False)
        return asked.answered_since(time.time()).ended - began


def weights_of(run: Run) -> str:
    """Return where the box keeps the weights of its version: the largest object of the store."""
    told = run.machine.shell(
        "find /var/lib/sealift/store/objects -type f -printf '%s %p\\n' | sort -n | tail -1"
    ).stdout
    return told.split()[1]


def fail_over(folder: Path, *, witness: bool) -> Row:
    """Return the row of the longest of several fail-overs, each by a pair of its own."""
    seconds = []
    for number in range(ROUNDS):
        place = folder / f"pair-{witness}-{number}"
        place.mkdir()
        with pair.plant(witness=witness) as here:
            here.begin()
            seconds.append(pair.move_by_a_cut_cable(here, place))
            if here.both:
                message = "both boxes permitted serving at once"
                raise RuntimeError(message)
    return Row(
        name=f"fail-over over a cut cable, {'with a witness' if witness else 'no witness'}, longest",
        ours=max(seconds),
        peer=None,
        unit="s",
        goal=f"under {FAIL_OVER_SECONDS:g} s",
        met=max(seconds) < FAIL_OVER_SECONDS,
        more={"runs": seconds, "median": statistics.median(seconds)},
    )


def within(ours: Samples, peer: Samples) -> Row:
    """Return the row of the restart: at most the peer's time by `TIMES`, and `PLUS_SECONDS`."""
    return Row(
        name="restart to the first answer / the engine alone",
        ours=ours.median,
        peer=peer.median,
        unit="s",
        ratio=ours.median / peer.median,
        goal=f"at most {TIMES:g} times the peer's time plus {PLUS_SECONDS:g} s",
        met=ours.median <= TIMES * peer.median + PLUS_SECONDS,
        more={"runs": {"ours": ours.to_json(), "peer": peer.to_json()}},
    )


def main() -> int:
    """Measure and write `build/bench/box.json`."""
    if os.geteuid() != 0:
        say("skipped: the box is a container of its own, and only root can start one")
        return 0
    install_tools()
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="slbb", dir=OUT) as folder:
        rows = () if ONLY == "failover" else booted(Path(folder))
        moved = [fail_over(Path(folder), witness=witness) for witness in (False, True)]
    return write("box" if rows else "failover", (*rows, *moved, machine()))


def booted(folder: Path) -> tuple[Row, ...]:
    """Measure what needs a booted Debian."""
    with boxed(folder / "serving", f"slb{os.getpid()}") as run:
        served = prepared.take(run)
        run.machine.boot()
        run.facility.create()
        run.facility.plug_in(run.machine.leader)
        wait_for_engine(run)
        weights = weights_of(run)
        contestants = {
            "restart": lambda: restart(run, served),
            "engine alone": lambda: alone(run, served, weights),
        }
        found = interleaved(contestants, rounds=ROUNDS, before=lambda: wait_for_engine(run))
        units = {name: f"sealift-{name}.service" for name in ("ledger", "gateway")}
        units["engine"] = f"sealift-engine-production@{served.digest[:12]}.service"
        killed = {name: [back(run, served, unit) for _ in range(ROUNDS)] for name, unit in units.items()}
    with boxed(folder / "bare", f"slc{os.getpid()}") as run:
        shutil.copytree(prepared.cache() / "media", run.out / "media", dirs_exist_ok=True)
        minutes = bare_to_answer(run, served)
        chapters = dict(run.stage.times)
    worst = {name: max(seconds) for name, seconds in killed.items()}
    say(json.dumps(chapters, indent=1))
    return (
        Row(
            name="bare Debian to the first proven answer",
            ours=minutes,
            peer=None,
            unit="min",
            more={"seconds": chapters},
        ),
        within(found["restart"], found["engine alone"]),
        *(
            Row(
                name=f"answers again after the {name} was killed, longest",
                ours=seconds,
                peer=None,
                unit="s",
                goal=f"under {BACK_SECONDS:g} s",
                met=seconds < BACK_SECONDS,
                more={"runs": killed[name], "median": statistics.median(killed[name])},
            )
            for name, seconds in worst.items()
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main())
