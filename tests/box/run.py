"""One run of the box: where it lies, how it speaks, and what became known on the way."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.demo.stage import Stage, StageError
from tests.box.machine import BoxError, Machine
from tests.box.network import BOX_ADDRESS, Facility

ROOT = Path(__file__).resolve().parents[2]
HOSTNAME = "llm.demo-hospital.internal"
_ENGINE_TRIES = 120


@dataclass(slots=True, kw_only=True)
class Run:
    """One run: where it lies, how it speaks, what became known."""

    out: Path
    stage: Stage
    machine: Machine
    facility: Facility
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, out: Path, *, name: str, media: dict[str, Path]) -> "Run":
        """Return a run in a folder that is there, with a machine that is not made yet.

        Args:
            out: Where it lies.
            name: Of the machine and of the facility's network.
            media: Folders that are plugged in, made here, by their mount points.
        """
        for folder in media.values():
            folder.mkdir(parents=True)
        machine = Machine(root=out / "machine", name=name, media=media, log=out / "console.log")
        stage = Stage(ROOT, tools=Path(sys.executable).parent, environment={})
        return cls(out=out, stage=stage, machine=machine, facility=Facility(name=name))

    def require(self, name: str, holds_now: bool, detail: object = "") -> None:  # noqa: FBT001 - reads as an assertion
        """Note a fact and end the run when it does not hold."""
        self.facts[name] = holds_now
        if not holds_now:
            message = f"not true: {name} {detail}"
            raise BoxError(message)

    @contextmanager
    def summary(self) -> Iterator[None]:
        """Write what became known to summary.json in the end, however that comes: held, a fault, or Ctrl-C."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
        began, ended = time.monotonic(), "interrupted"
        try:
            yield
            ended = ""
        except (BoxError, StageError, RuntimeError) as error:
            ended = str(error) or type(error).__name__
            print(f"\nerror: {ended}", file=sys.stderr)
        finally:
            minutes = round((time.monotonic() - began) / 60, 1)
            self.facts |= {"ok": not ended, "minutes": minutes, "seconds": self.stage.times}
            self.facts |= {"ended": ended, "chapter": self.stage.now} if ended else {}
            (self.out / "summary.json").write_text(json.dumps(self.facts, indent=2) + "\n")
            print(f"\n{'It did not hold' if ended else 'All of it held'}; {minutes} minutes; see summary.json")

    def workstation(self, do: str, **fields: Any) -> dict[str, Any]:
        """Let a workstation of the facility do one thing."""
        authority = self.machine.root / "etc/sealift/tls/ca.crt"
        job = {"do": do, "address": BOX_ADDRESS, "hostname": HOSTNAME, "authority": str(authority), **fields}
        told = self.facility.run(sys.executable, "-m", "tests.box.facility", feed=json.dumps(job))
        found: dict[str, Any] = json.loads(told)
        return found


def boot(run: Run) -> None:
    """Boot a box that serves, lay the facility's cable to it, and wait for its engine."""
    run.machine.boot()
    run.facility.create()
    run.facility.plug_in(run.machine.leader)
    wait_for_engine(run)


def wait_for_engine(run: Run) -> None:
    """Wait until the engine of the version in production is active again."""
    digest = run.machine.told("sealift", "status")["production"]["model_digest"]
    unit = f"sealift-engine-production@{digest[:12]}.service"
    for _ in range(_ENGINE_TRIES):
        state = run.machine.run("systemctl", "is-active", unit, shown=False, may_fail=True).stdout.strip()
        if state == "active":
            return
        time.sleep(0.5)
    run.require("the engine is back after the boot", holds_now=False, detail=state)
