"""What the GPUs did a moment ago, told by the one unit that may see them to the gateways, which may not (format 1).

    /run/sealift/gpus/gpus.json    of this boot, since the folder is empty after each start

`sealift-gpus` (`appliance.gateway.gpuunit`) alone writes it. It holds nothing secret, and anybody may read it.

Promises: figures have one byte form (RFC 8785), and whatever else lies there is no GPU; so are figures that are older
than `FRESH_SECONDS`, or from a time to come, by the kernel's monotonic seconds, which nobody can set. What is not known
now is never shown as if it were.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.config import Places
from appliance.registry.gpus import MOST_GPUS, Gpu, GpuReader
from media import canonical, durable
from media.clock import Clock
from media.errors import MediaError

FORMAT: Final = 1
FILE: Final = "gpus.json"
_FOLDER: Final = "gpus"
FRESH_SECONDS: Final = 45
_KEYS: Final = ("id", "utilization_percent", "memory_bytes", "memory_total_bytes", "power_milliwatts")
_MOST_PERCENT: Final = 100
_MILLI: Final = 1000
_MAX_BYTES: Final = 256 * 1024
_WHAT: Final = "The figures of GPUs"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFigures:
    """Each GPU at one moment, by number, each once.

    Attributes:
        ticks: The kernel's monotonic seconds when they were read.
        gpus: What was read.
    """

    ticks: int
    gpus: tuple[Gpu, ...]

    @classmethod
    def of(cls, gpus: Iterable[Gpu], *, clock: Clock) -> Self:
        """Return figures of this moment; where a GPU is named twice, the last counts."""
        once = {int(gpu.gpu_id): gpu for gpu in gpus}
        return cls(ticks=int(clock.monotonic()), gpus=tuple(once[number] for number in sorted(once)))

    def to_bytes(self) -> bytes:
        """Return the file, in whole units: percent, bytes, thousandths of a watt."""
        return canonical.dumps(
            {"format": FORMAT, "ticks": self.ticks, "gpus": [_to_json(gpu) for gpu in self.gpus]},
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a file.

        Raises:
            MediaError: It is not in its one form.
        """
        value = canonical.exact_keys(
            canonical.loads_canonical(untrusted, max_bytes=_MAX_BYTES), ("format", "gpus", "ticks"), what=_WHAT
        )
        canonical.integer(value["format"], _WHAT, minimum=FORMAT, maximum=FORMAT)
        gpus: list[Gpu] = []
        for untrusted_gpu in canonical.array(value["gpus"], _WHAT, most=MOST_GPUS):
            gpus.append(_from_json(untrusted_gpu, least=int(gpus[-1].gpu_id) + 1 if gpus else 0))
        return cls(ticks=canonical.integer(value["ticks"], _WHAT), gpus=tuple(gpus))

    def is_fresh(self, clock: Clock) -> bool:
        """Whether they may be shown as those of now."""
        return 0 <= int(clock.monotonic()) - self.ticks <= FRESH_SECONDS


def folder(places: Places) -> Path:
    """Return where they are told; made on a box, and nowhere else."""
    return places.run / _FOLDER


def publish(places: Places, figures: GpuFigures) -> None:
    """Show the figures to everybody on this machine.

    Raises:
        OSError: They cannot be written.
    """
    durable.replace(folder(places) / FILE, figures.to_bytes(), mode=0o644)


def withdraw(places: Places) -> None:
    """Show none from now on.

    Raises:
        OSError: They cannot be taken away.
    """
    (folder(places) / FILE).unlink(missing_ok=True)


def told(places: Places, clock: Clock) -> Sequence[Gpu]:
    """Return what `sealift-gpus` says now; none where it says nothing, says it no longer, or does not say it right."""
    try:
        figures = GpuFigures.from_bytes(_untrusted_bytes(folder(places) / FILE))
    except (OSError, MediaError):
        return ()
    return figures.gpus if figures.is_fresh(clock) else ()


def reader(places: Places, clock: Clock, *, itself: GpuReader) -> GpuReader:
    """Return what reads the GPUs for a gateway.

    Args:
        places: Where they are told: on a box, which has the folder for it.
        clock: How old they are.
        itself: Asked where there is no such folder: in a demo and in a pod the gateway sees what its user sees.
    """
    return lambda: told(places, clock) if folder(places).is_dir() else itself()


def _untrusted_bytes(path: Path) -> bytes:
    """Return the start of a plain file; of a link, a pipe or a device nothing, and nobody waits for one."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        return stream.read(_MAX_BYTES + 1) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""


def _to_json(gpu: Gpu) -> dict[str, Any]:
    return {
        "id": int(gpu.gpu_id),
        "utilization_percent": round(gpu.utilization_percent),
        "memory_bytes": round(gpu.memory_bytes),
        "memory_total_bytes": round(gpu.memory_total_bytes),
        "power_milliwatts": None if gpu.power_watts is None else round(gpu.power_watts * _MILLI),
    }


def _from_json(untrusted: Any, *, least: int) -> Gpu:
    value = canonical.exact_keys(untrusted, _KEYS, what=_WHAT)
    power = value["power_milliwatts"]
    return Gpu(
        gpu_id=str(canonical.integer(value["id"], _WHAT, minimum=least, maximum=MOST_GPUS - 1)),
        utilization_percent=canonical.integer(value["utilization_percent"], _WHAT, maximum=_MOST_PERCENT),
        memory_bytes=canonical.integer(value["memory_bytes"], _WHAT),
        memory_total_bytes=canonical.integer(value["memory_total_bytes"], _WHAT),
        power_watts=None if power is None else canonical.integer(power, _WHAT) / _MILLI,
    )
