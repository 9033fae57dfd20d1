"""Reads the GPUs of this machine from `nvidia-smi`, the driver's own tool; a machine without it has none."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_GPUS: Final = 1024
_QUERY: Final = "index,utilization.gpu,memory.used,memory.total,power.draw"
_SECONDS: Final = 5.0
_MIB: Final = 1024 * 1024
_MOST_PERCENT: Final = 100.0
_MOST_BYTES: Final = 2.0**50
_MOST_WATTS: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU at one moment; what it draws is not known of every one."""

    gpu_id: str
    utilization_percent: float
    memory_bytes: float
    memory_total_bytes: float
    power_watts: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields, memory in whole bytes."""
        return {
            "gpu_id": self.gpu_id,
            "utilization_percent": self.utilization_percent,
            "memory_bytes": int(self.memory_bytes),
            "memory_total_bytes": int(self.memory_total_bytes),
            "power_watts": self.power_watts,
        }


GpuReader = Callable[[], Sequence[Gpu]]


def no_gpus() -> Sequence[Gpu]:
    """Return none."""
    return ()


def open_reader() -> GpuReader:
    """Return what reads this machine's GPUs."""
    tool = shutil.which("nvidia-smi")
    return no_gpus if tool is None else lambda: read(tool)


def read(tool: str) -> Sequence[Gpu]:
    """Ask the tool; none where it does not answer."""
    command = [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return [gpu for line in done.stdout.splitlines() if (gpu := parse(line)) is not None]


def parse(untrusted_line: str) -> Gpu | None:
    """Return the GPU of one line; None where the driver says `[N/A]` or anything else that is no such number."""
    try:
        gpu_id, use, memory, total, power = (field.strip() for field in untrusted_line.split(","))
        return Gpu(
            gpu_id=str(_number(gpu_id)),
            utilization_percent=_figure(use, _MOST_PERCENT),
            memory_bytes=_figure(memory, _MOST_BYTES / _MIB) * _MIB,
            memory_total_bytes=_figure(total, _MOST_BYTES / _MIB) * _MIB,
            power_watts=_watts(power),
        )
    except ValueError:
        return None


def _number(untrusted_text: str) -> int:
    found = int(untrusted_text)
    if not 0 <= found < MOST_GPUS:
        raise ValueError
    return found


def _figure(untrusted_text: str, most: float) -> float:
    found = float(untrusted_text)
    if not 0 <= found <= most:  # nor is what is no number at all
        raise ValueError
    return found


def _watts(untrusted_text: str) -> float | None:
    try:
        return _figure(untrusted_text, _MOST_WATTS)
    except ValueError:
        return None
