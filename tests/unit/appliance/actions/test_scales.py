"""A machine beside those that are asked for: each part is judged by its figure, and what is unseen says so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.scales import Hardware, Scale, compare
from appliance.registry.known_models import tables

GIB = 2**30
SMALL = Hardware(
    cores=16,
    memory_bytes=126 * GIB,  # 128 GB, less what firmware keeps
    disk_bytes=10**12,
    network_mbit=10_000,
    platform="linux_x86_64",
    cpu_flags=frozenset({"avx2", "bmi2", "f16c", "fma", "sse2"}),
    gpus=(24_564 * 2**20,),
)
MEDIUM = replace(
    SMALL,
    cores=64,
    memory_bytes=512 * GIB,
    disk_bytes=4 * 10**12,
    network_mbit=25_000,
    gpus=(40_960 * 2**20, 40_960 * 2**20),
)


def scale(hardware: Hardware, name: str) -> Scale:
    return next(one for one in compare(hardware) if one.name == name)


def test_a_machine_of_a_scale_is_told_so_part_by_part() -> None:
    assert [one.id for one in compare(SMALL)] == ["B25", "B27"]
    assert scale(SMALL, "small").lacks == scale(MEDIUM, "medium").lacks == ()
    assert scale(SMALL, "small").to_json()["fits"] is True
    assert {part.name for part in scale(SMALL, "medium").lacks} == {"cores", "memory", "cards", "disk", "network"}
    assert [part.name for part in scale(SMALL, "small").parts if part.is_enough is None] == ["power"]


@pytest.mark.parametrize(
    ("part", "less"),
    [
        ("cores", {"cores": 15}),
        ("processor", {"cpu_flags": frozenset({"avx2"})}),
        ("memory", {"memory_bytes": 119 * GIB}),
        ("cards", {"gpus": ()}),
        ("cards", {"gpus": (22 * GIB,)}),
        ("disk", {"disk_bytes": 9 * 10**11}),
        ("network", {"network_mbit": 1_000}),
    ],
)
def test_what_falls_short_is_named_with_what_is_there_and_what_is_asked(part: str, less: dict[str, Any]) -> None:
    (found,) = scale(replace(SMALL, **less), "small").lacks

    assert found.name == part
    assert found.has
    assert found.asks


def test_one_large_card_is_not_two() -> None:
    assert [part.name for part in scale(replace(MEDIUM, gpus=(141 * GIB,)), "medium").lacks] == ["cards"]


def test_what_cannot_be_seen_is_not_judged() -> None:
    odd = scale(replace(SMALL, network_mbit=0, platform="linux_aarch64", cpu_flags=frozenset()), "small")

    assert odd.lacks == ()
    assert [part.name for part in odd.parts if part.is_enough is None] == ["processor", "network", "power"]


def test_this_machine_is_asked(tmp_path: Path) -> None:
    for name, speed in {"eno1": "1000", "eno2": "25000", "lo": "", "down": "-1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "speed").write_text(f"{speed}\n")

    found = Hardware.probe(tmp_path / "not/there/yet", cards=tmp_path)

    assert found.network_mbit == 25_000
    assert found.cores >= 1
    assert found.memory_bytes > 0
    assert found.disk_bytes > 0
    assert found.platform.startswith("linux_")


def test_every_scale_of_one_machine_says_what_it_asks_for() -> None:
    asked = {row["id"]: row for row in tables()["scales"]}

    assert (asked["B25"]["gpus_gib"], asked["B27"]["gpus"], asked["B27"]["gpus_gib"]) == (24, 2, 80)
    assert asked["B29"]["gpus"] == 0  # many machines, compared with none
