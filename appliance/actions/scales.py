"""This machine beside the machines that the requirements ask for at each scale (B25, B27): what is enough, what is not.

Power, cooling and a second supply cannot be seen from here; they are named for people to look at. The large scale (B29)
is many machines and is compared with none.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.actions import gpus
from appliance.actions.doctor_machine import CARDS, card_mbit
from appliance.actions.filesystems import existing
from appliance.registry import memory
from appliance.registry.gpus import Gpu
from appliance.registry.known_models import tables
from appliance.verify.fit import Machine
from media import canonical
from media.errors import SealiftError

_GIB: Final = 2**30
_TB: Final = 10**12
_X86: Final = "linux_x86_64"
# Makers count in tens, and firmware keeps a part: 24 GB of a card are 23.99 GiB, 128 GB of memory 125.
_SIXTEENTHS: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What this machine is, as far as it can be seen; `network_mbit` is 0 where no card says its speed."""

    cores: int
    memory_bytes: int
    disk_bytes: int
    network_mbit: int
    platform: str
    cpu_flags: frozenset[str]
    gpus: tuple[int, ...] = ()

    @classmethod
    def probe(cls, state: Path, *, cards: Path = CARDS) -> Self:
        """Ask this machine.

        Args:
            state: A folder on the disk that weights lie on.
            cards: The kernel's folder of network cards.
        """
        found: tuple[Gpu, ...] = ()
        with suppress(SealiftError):  # without a card, or a driver that answers, it is a machine without
            found = gpus.gpus()
        machine = Machine.probe("")
        return cls(
            cores=os.cpu_count() or 1,
            memory_bytes=memory.machine().total,
            disk_bytes=shutil.disk_usage(existing(state)).total,
            network_mbit=max((card_mbit(card) for card in cards.glob("*")), default=0),
            platform=machine.platform,
            cpu_flags=machine.cpu_flags,
            gpus=tuple(int(one.memory_total_bytes) for one in found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a machine beside what is asked of it; `is_enough` is None where it cannot be seen."""

    name: str
    has: str
    asks: str
    is_enough: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One scale of the requirements, with this machine beside it."""

    id: str
    name: str
    serves: str
    users: tuple[int, int]
    parts: tuple[Part, ...]

    @property
    def lacks(self) -> tuple[Part, ...]:
        """What falls short."""
        return tuple(part for part in self.parts if part.is_enough is False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "id": self.id,
            "name": self.name,
            "serves": self.serves,
            "users": list(self.users),
            "fits": not self.lacks,
            "parts": [part.to_json() for part in self.parts],
        }


def compare(hardware: Hardware) -> tuple[Scale, ...]:
    """Return each scale that one machine can be of, the smallest first, part by part beside this one."""
    rows = [canonical.mapping(row, "scales") for row in canonical.array(tables()["scales"], "scales")]
    return tuple(
        Scale(
            id=row["id"],
            name=row["name"],
            serves=row["serves"],
            users=(row["users"][0], row["users"][1]),
            parts=tuple(_parts(row, hardware)),
        )
        for row in rows
        if row["gpus"]
    )


def _parts(row: dict[str, Any], here: Hardware) -> Iterator[Part]:
    yield Part(
        name="cores",
        has=str(here.cores),
        asks=f"{row['cores'][0]} to {row['cores'][1]}",
        is_enough=here.cores >= row["cores"][0],
    )
    absent = sorted(set(row["cpu_flags"]) - here.cpu_flags)
    is_x86 = here.platform == _X86
    yield Part(
        name="processor",
        has=("without " + ", ".join(absent) if absent else "has them") if is_x86 else here.platform,
        asks=", ".join(row["cpu_flags"]),
        is_enough=not absent if is_x86 else None,
    )
    yield Part(
        name="memory",
        has=f"{here.memory_bytes / _GIB:.0f} GiB",
        asks=f"{row['memory_gib']} GiB",
        is_enough=_reaches(here.memory_bytes, row["memory_gib"] * _GIB),
    )
    held = sum(here.gpus)
    yield Part(
        name="cards",
        has=f"{len(here.gpus)}, {held / _GIB:.0f} GiB together" if here.gpus else "none that answers",
        asks=f"{row['gpus']} or more, {row['gpus_gib']} GiB together ({row['gpu']})",
        is_enough=len(here.gpus) >= row["gpus"] and _reaches(held, row["gpus_gib"] * _GIB),
    )
    yield Part(
        name="disk",
        has=f"{here.disk_bytes / _TB:.1f} TB",
        asks=f"{row['disk_tb']} TB of NVMe",
        is_enough=_reaches(here.disk_bytes, row["disk_tb"] * _TB),
    )
    yield Part(
        name="network",
        has=f"{here.network_mbit / 1000:g} Gbit/s" if here.network_mbit else "no card says its speed",
        asks=f"{row['network_gbit']} Gbit/s",
        is_enough=here.network_mbit >= row["network_gbit"] * 1000 if here.network_mbit else None,
    )
    yield Part(
        name="power",
        has="cannot be seen from here",
        asks=f"{row['power_watts']} W, a second supply, and cooling for it",
        is_enough=None,
    )


def _reaches(has: int, asked: int) -> bool:
    return has * 16 >= asked * _SIXTEENTHS
