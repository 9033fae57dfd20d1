"""What the GPUs of this machine do now, read by the gateway's own reader in a process of its own.

Actions do not know the gateway; what people see is read as its metrics are, which are a few seconds older.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

from appliance.errors import PreflightError
from media import canonical
from media.errors import SealiftError

_TOOL: Final = "nvidia-smi"
_READER: Final = ("-I", "-m", "appliance.gateway.gpulisting")
_SECONDS: Final = 30
_MAX_BYTES: Final = 256 * 1024
_FIX: Final = (
    "see `sealift doctor`; engines without a GPU run on the processor. AMD's cards are not read here: rocm-smi"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNow:
    """One GPU at this moment; what it draws is not known of every one."""

    gpu_id: str
    utilization_percent: float
    memory_bytes: int
    memory_total_bytes: int
    power_watts: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {name: getattr(self, name) for name in self.__slots__}


def gpus(command: tuple[str, ...] = (sys.executable, *_READER)) -> tuple[GpuNow, ...]:
    """Return every GPU that tells what it does.

    Raises:
        PreflightError: None is seen, with the reason as far as it is known.
    """
    if shutil.which(_TOOL) is None:
        raise PreflightError(what="no GPU is seen", why=f"{_TOOL}, the driver's own tool, is not here", fix=_FIX)
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
        listed = canonical.array(canonical.loads(done.stdout, max_bytes=_MAX_BYTES, allow_floats=True), "GPUs")
        found = tuple(_gpu(canonical.exact_keys(one, tuple(GpuNow.__slots__), what="a GPU")) for one in listed)
    except (OSError, ValueError, TypeError, subprocess.SubprocessError, SealiftError) as error:
        raise PreflightError(what="the GPUs could not be read", why=type(error).__name__, fix=_FIX) from error
    if not found:
        raise PreflightError(what="no GPU is seen", why=f"{_TOOL} names none, or gives no figures of any", fix=_FIX)
    return found


def _gpu(fields: dict[str, Any]) -> GpuNow:
    power = fields["power_watts"]
    return GpuNow(
        gpu_id=canonical.text(fields["gpu_id"], "gpu_id"),
        utilization_percent=float(fields["utilization_percent"]),
        memory_bytes=int(fields["memory_bytes"]),
        memory_total_bytes=int(fields["memory_total_bytes"]),
        power_watts=None if power is None else float(power),
    )
