"""What an engine does, told in the journal until a moment: steps, rows, tokens and times. Counts, and nothing else.

Only the scheduler's own counts are read, which hold no text, no token's number and nobody's name: there is nothing to
redact. The site file turns it on (`engine.debug_until`), and it ends by itself.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, Protocol

from appliance.serve.counts import Counted
from media.clock import Clock, SystemClock, from_text, to_text

SECONDS: Final = 1.0


class Told(Counted, Protocol):
    """What is asked: a `Scheduler`, as far as this module goes."""

    @property
    def is_alive(self) -> bool:
        """Whether answers are being made at all."""
        ...


def begin(scheduler: Told, until: str, *, clock: Clock | None = None) -> threading.Thread | None:
    """Tell what a scheduler does from now until a moment, in a thread of its own; None where that is past or empty."""
    clock = clock or SystemClock()
    if not until or clock.now() >= from_text(until):
        return None
    thread = threading.Thread(
        target=tell, args=(scheduler, from_text(until)), kwargs={"clock": clock}, name="debugging", daemon=True
    )
    thread.start()
    return thread


def tell(
    scheduler: Told,
    until: datetime,
    *,
    clock: Clock,
    sleep: Callable[[float], None] = time.sleep,
    write: Callable[[str], Any] = sys.stderr.write,
) -> None:
    """Write a line for each second in which a step was made or somebody waits, until the moment or the engine's end."""
    before, at = asdict(scheduler.counts), clock.monotonic()
    while scheduler.is_alive and clock.now() < until:
        sleep(SECONDS)
        counts, now = asdict(scheduler.counts), clock.monotonic()
        made = {name: count - before[name] for name, count in counts.items()}
        seconds, steps, waiting = now - at, made["steps"], scheduler.waiting
        before, at = counts, now
        if not steps and not waiting:
            continue
        line = {
            "timestamp": to_text(clock.now()),
            "event": "engine_steps",
            "ms": round(1000 * seconds),
            **made,
            "rows_a_step": round(made["rows"] / steps, 2) if steps else 0,
            "ms_a_step": round(1000 * seconds / steps, 2) if steps else 0,
            "running": scheduler.running,
            "waiting": waiting,
        }
        write(json.dumps(line, separators=(",", ":")) + "\n")
