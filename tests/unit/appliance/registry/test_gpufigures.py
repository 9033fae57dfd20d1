"""Figures of GPUs as a file: one form, of now or not at all, and nothing that lies there instead stops the gateway."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, Places, PlacesSection
from appliance.gateway.metrics import Metrics
from appliance.registry import gpufigures
from appliance.registry.gpufigures import FRESH_SECONDS, GpuFigures
from appliance.registry.gpus import Gpu, parse
from media import canonical
from media.clock import FixedClock
from media.errors import MediaError

CARDS = (
    Gpu(gpu_id="0", utilization_percent=97, memory_bytes=78 * 2**30, memory_total_bytes=80 * 2**30, power_watts=312.5),
    Gpu(gpu_id="10", utilization_percent=0, memory_bytes=0, memory_total_bytes=80 * 2**30),
)
GOOD = GpuFigures(ticks=1000, gpus=CARDS).to_bytes()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=datetime(2026, 11, 21, tzinfo=UTC), ticks=1000.9)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Config(site="s", places=PlacesSection(root=str(tmp_path))).at
    gpufigures.folder(found).mkdir(parents=True)
    return found


def the_file(places: Places) -> Path:
    return gpufigures.folder(places) / gpufigures.FILE


def test_what_is_told_is_what_the_gateways_metrics_show_until_it_is_old(places: Places, clock: FixedClock) -> None:
    registry = Metrics(read_gpus=gpufigures.reader(places, clock, itself=lambda: pytest.fail("asked"))).registry
    labels = {"gpu_id": "0"}
    assert registry.get_sample_value("llama_gpu_utilization_percent", labels) is None

    gpufigures.publish(places, GpuFigures.of(reversed(CARDS), clock=clock))

    assert registry.get_sample_value("llama_gpu_utilization_percent", labels) == 97
    assert registry.get_sample_value("llm_gpu_memory_bytes", labels) == 78 * 2**30
    assert registry.get_sample_value("sealift_gpu_memory_total_bytes", labels) == 80 * 2**30
    assert registry.get_sample_value("nvidia_smi_utilization_gpu", {"gpu_id": "10"}) == 0
    assert registry.get_sample_value("sealift_gpu_power_watts", labels) == 312.5
    assert registry.get_sample_value("sealift_gpu_power_watts", {"gpu_id": "10"}) is None
    assert the_file(places).stat().st_mode & 0o777 == 0o644
    clock.advance(FRESH_SECONDS)
    assert registry.get_sample_value("llama_gpu_utilization_percent", labels) == 97
    clock.advance(1)
    assert registry.get_sample_value("llama_gpu_utilization_percent", labels) is None


def test_figures_of_a_time_to_come_are_not_shown_and_the_wall_clock_does_not_matter(
    places: Places, clock: FixedClock
) -> None:
    gpufigures.publish(places, GpuFigures(ticks=1001, gpus=CARDS))
    assert gpufigures.told(places, clock) == ()

    gpufigures.publish(places, GpuFigures(ticks=1000, gpus=CARDS))
    clock.at = datetime(1999, 1, 1, tzinfo=UTC)
    assert gpufigures.told(places, clock) == CARDS


def test_what_is_withdrawn_is_told_no_longer(places: Places, clock: FixedClock) -> None:
    gpufigures.publish(places, GpuFigures(ticks=1000, gpus=CARDS))

    gpufigures.withdraw(places)
    gpufigures.withdraw(places)

    assert gpufigures.told(places, clock) == ()


def test_a_gateway_without_the_folder_of_a_box_sees_the_gpus_itself(places: Places, clock: FixedClock) -> None:
    read = gpufigures.reader(places, clock, itself=lambda: CARDS)
    assert read() == ()

    gpufigures.folder(places).rmdir()

    assert read() == CARDS


def test_a_gpu_that_is_named_twice_is_told_once(clock: FixedClock) -> None:
    twice = GpuFigures.of([CARDS[1], CARDS[0], CARDS[1]], clock=clock)

    assert twice == GpuFigures(ticks=1000, gpus=CARDS)
    assert GpuFigures.from_bytes(twice.to_bytes()) == twice


def changed(**fields: Any) -> bytes:
    value = json.loads(GOOD)
    first = value["gpus"][0]
    for name, wrong in fields.items():
        (value if name in value else first)[name] = wrong
    return canonical.dumps(value)


WRONG = {
    "nothing": b"",
    "half": GOOD[: len(GOOD) // 2],
    "a space more": GOOD + b" ",
    "no JSON": b"\xff\xfe\x00",
    "too large": b"[" + b"0," * 2**17 + b"0]",
    "another format": changed(format=2),
    "ticks before the start": changed(ticks=-1),
    "an unknown field": changed(gpus=[{"id": 0}]),
    "a number that is text": changed(id="0"),
    "a negative number": changed(id=-1),
    "a number twice": changed(id=10),
    "a number too large": changed(id=1024),
    "more than all": changed(utilization_percent=101),
    "truth": changed(memory_bytes=True),
    "less than nothing": changed(power_milliwatts=-1),
    "labels of its own": changed(gpus={"0": 1}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_in_its_one_form_is_no_gpu(places: Places, clock: FixedClock, name: str) -> None:
    the_file(places).write_bytes(WRONG[name])

    assert gpufigures.told(places, clock) == ()
    with pytest.raises(MediaError):
        GpuFigures.from_bytes(WRONG[name])


@pytest.mark.parametrize("kind", ["link", "pipe", "pipe that is held open", "folder"])
def test_what_is_no_plain_file_is_no_gpu_and_nobody_waits_for_it(
    places: Places, clock: FixedClock, tmp_path: Path, kind: str
) -> None:
    path, elsewhere = the_file(places), tmp_path / "elsewhere"
    elsewhere.write_bytes(GOOD)
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    held = os.open(path, os.O_RDWR | os.O_NONBLOCK) if "held" in kind else None
    found: list[object] = []

    asking = threading.Thread(target=lambda: found.append(gpufigures.told(places, clock)), daemon=True)
    asking.start()
    asking.join(10)

    assert found == [()]
    if held is not None:
        os.close(held)


@given(
    st.lists(
        st.tuples(st.integers(0, 1023), st.floats(0, 100), st.floats(0, 2**30), st.none() | st.floats(0, 1e6)),
        max_size=20,
    ),
    st.integers(0, 2**40),
)
def test_whatever_the_tool_may_say_has_a_form_that_reads_again(
    rows: list[tuple[int, float, float, float | None]], ticks: int
) -> None:
    lines = [f"{number}, {use}, {memory}, {memory}, {'[N/A]' if p is None else p}" for number, use, memory, p in rows]
    gpus = [gpu for line in lines if (gpu := parse(line)) is not None]
    assert len(gpus) == len(rows)

    figures = GpuFigures.of(gpus, clock=FixedClock(at=datetime(2026, 1, 1, tzinfo=UTC), ticks=ticks))

    again = GpuFigures.from_bytes(figures.to_bytes())
    assert [one.gpu_id for one in again.gpus] == [str(number) for number in sorted({row[0] for row in rows})]
    assert again.to_bytes() == figures.to_bytes()


@given(st.binary(max_size=400))
def test_any_bytes_are_figures_or_our_own_refusal(untrusted: bytes) -> None:
    try:
        GpuFigures.from_bytes(untrusted)
    except MediaError:
        return
