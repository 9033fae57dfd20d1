"""What a server with GPUs draws from the wall, gives off as heat, and needs as a power supply (M2, M3, X1, X2).

load   GPUs x their rating + 300 W for processors + 200 W for the rest
wall   load / 0.85, what the supplies lose included
heat   wall x 3.412 BTU/h: what a supply loses warms the room too, so heat is reckoned from the wall
supply wall x 1.2
"""

from dataclasses import dataclass
from typing import Any, Final

from media.errors import UsageError

GPU_WATTS: Final = {"RTX_4090": 450, "A100_40GB": 400, "A100_80GB": 400, "H100": 700}
"""Makers' ratings in watts (B52)."""
OTHER_GPU_WATTS: Final = 400
MOST_GPUS: Final = 1024
_PROCESSOR_WATTS: Final = 300
_SYSTEM_WATTS: Final = 200
_EFFICIENCY: Final = 0.85
_BTU_PER_HOUR: Final = 3.412
_RESERVE: Final = 1.2
_HOURS: Final = 24 * 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What a server needs; all numbers are rounded to whole ones.

    Attributes:
        gpu_watts: The rating of one GPU that was reckoned with.
        load_watts: What the parts take.
        total_power_watts: What is drawn from the wall.
        cooling_btu_per_hour: What the room's cooling has to take away.
        recommended_psu_watts: What the supplies should be rated for together.
        monthly_kwh: At full load through a month of 30 days.
    """

    gpu_watts: int
    load_watts: int
    total_power_watts: int
    cooling_btu_per_hour: int
    recommended_psu_watts: int
    monthly_kwh: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {name: getattr(self, name) for name in self.__slots__}


def power(gpus: int, model: str = "", *, gpu_watts: int | None = None) -> Power:
    """Return what a server with so many GPUs needs.

    Args:
        gpus: None for a server that computes on its processors alone.
        model: A name of `GPU_WATTS`; another one counts with 400 W.
        gpu_watts: The rating, where it is known better.

    Raises:
        UsageError: A number is out of range.
    """
    watts = GPU_WATTS.get(model, OTHER_GPU_WATTS) if gpu_watts is None else gpu_watts
    if not 0 <= gpus <= MOST_GPUS or not 0 < watts <= 10_000:
        raise UsageError(
            what="this is no server", why=f"{gpus} GPUs of {watts} W", fix=f"name 0 to {MOST_GPUS} GPUs of 1 to 10000 W"
        )
    load = gpus * watts + _PROCESSOR_WATTS + _SYSTEM_WATTS
    wall = load / _EFFICIENCY
    return Power(
        gpu_watts=watts,
        load_watts=load,
        total_power_watts=round(wall),
        cooling_btu_per_hour=round(wall * _BTU_PER_HOUR),
        recommended_psu_watts=round(wall * _RESERVE),
        monthly_kwh=round(wall * _HOURS / 1000),
    )
