"""The step times that a version's validation kept, as one production engine may go by them, or why it may not.

Validation measures on the test engine and keeps the curve in its evidence, whose digest two people sign. The job
service lays it down beside the engine's environment (`appliance.install.approvedsteps`), where the engine can read it.

Promises: an engine goes by a kept curve only in production, on the machine and with the threads that it was measured
with, for a version whose layers all lie on the processor, where it says how prompts are read, and while the narrowest
and the widest step still take what it says; everywhere else it measures. What is read is only about speed, and nobody's
word all the same: it is bounded, and what is no curve is none.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from appliance.places import Places
from appliance.registry import evidence
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import curve as curves
from appliance.serve.curve import Curve
from appliance.serve.engine import Decoder
from appliance.serve.instance import Instance
from appliance.serve.machinemark import mark
from media import canonical
from media.clock import Clock
from media.errors import SealiftError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What an engine starts with.

    Attributes:
        threads: That decode.
        machine: The mark of this machine.
        curve: What validation kept and this engine may go by.
        why: Why it may not, in words for the journal; empty where it may.
    """

    threads: int
    machine: str
    curve: Curve | None = None
    why: str = ""


def kept(places: Places, descriptor: ModelDescriptor, instance: Instance, *, threads: int) -> Kept:
    """Return what an engine that decodes with so many threads may go by."""
    machine = mark()
    found, why = _laid_down(places, descriptor, instance)
    if found is None:
        return Kept(threads=threads, machine=machine, why=why)
    if not machine or found.machine != machine:
        why = "its validation measured on another machine or processor"
    elif found.threads != threads:
        why = f"its validation measured with {found.threads} threads, and this engine has {threads}"
    elif not found.prompts:
        why = "its validation did not measure how prompts are read"
    return Kept(threads=threads, machine=machine, curve=None if why else found, why=why)


def taken(known: Kept, decoder: Decoder, *, clock: Clock, seconds: float, say: Callable[[str], object]) -> Curve:
    """Return the kept curve where steps still take what it says, else measure; `say` is told which, in a line.

    Args:
        known: What may be gone by.
        decoder: Whose sequences are all empty; nothing else may use it meanwhile.
        clock: Times the steps.
        seconds: About how long measuring steps of several answers may take; see `measure`.
        say: Takes the line.

    Raises:
        EngineProtocolError: A step failed.
    """
    why = known.why
    if known.curve is not None:
        if curves.fits(known.curve, decoder, clock=clock):
            say("step times: as its validation measured them on this machine\n")
            return known.curve
        why = "steps no longer take what its validation measured"
    say(f"step times: measured now, since {why}\n")
    return curves.measure(decoder, clock=clock, threads=known.threads, seconds=seconds, machine=known.machine)


def _laid_down(places: Places, descriptor: ModelDescriptor, instance: Instance) -> tuple[Curve | None, str]:
    """Return what lies there for such an engine, or why nothing does."""
    if instance.stage != "production":
        return None, "this is the test stage"
    if descriptor.runtime.llama.n_gpu_layers:
        return None, "this version has layers on a GPU"
    try:
        untrusted = _read(places, descriptor.model_digest[:12])
        if untrusted is None:
            return None, "nothing that its validation measured lies here"
        return Curve.from_json(canonical.loads_canonical(untrusted, max_bytes=evidence.MOST_STEPS_BYTES)), ""
    except OSError as error:
        return None, f"what its validation measured cannot be read ({error.strerror})"
    except SealiftError:
        return None, "what its validation measured does not read"


def _read(places: Places, digest12: str) -> bytes | None:
    try:
        descriptor = os.open(places.kept_steps(digest12), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(evidence.MOST_STEPS_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
