"""What the doctor measures of disk and network is judged by the figures asked for, and nothing is left behind."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.actions import doctor_speeds
from appliance.config import Config, NetworkSection, PlacesSection
from appliance.store.content import ContentStore

MIB = 2**20


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(site="s", environment="demo", places=PlacesSection(root=str(tmp_path)))
    made.at.state.mkdir(parents=True)
    return made


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(64)
        yield door.getsockname()[1]


def box(*egress: str) -> Config:
    return Config(site="s", network=NetworkSection(egress=list(egress)))


@pytest.mark.parametrize(
    ("rate", "is_good", "words"),
    [
        (7000.0, True, "7000 MB/s"),
        (5000.0, True, "5000 MB/s"),
        (4999.0, None, "slow for weights"),
        (499.0, None, "slow for both"),
        (19.0, False, "slow for both"),
        (None, None, "cannot be told"),
    ],
)
def test_a_disk_is_judged_by_what_weights_and_caches_ask_for(
    rate: float | None, words: str, *, is_good: bool | None
) -> None:
    found = doctor_speeds.judged_rate(rate)

    assert found.is_good is is_good
    assert words in found.text
    assert "NVMe" in found.fix


def test_a_disk_without_a_large_object_is_read_by_a_file_that_is_gone_afterwards(config: Config) -> None:
    (found,) = doctor_speeds.reading(config)

    assert found.name == "disk reading"
    assert "MB/s" in found.text or "cannot be told" in found.text  # a file system in memory has no direct reads
    assert list(config.at.state.iterdir()) == []


def test_nothing_is_said_of_a_disk_where_nothing_may_be_written(config: Config) -> None:
    config.at.state.rmdir()

    assert list(doctor_speeds.reading(config)) == []


def test_the_stores_largest_object_is_read_where_it_is_large_enough(config: Config) -> None:
    objects = ContentStore(config.at.store).objects
    for name, size in (("aa", 31 * MIB), ("bb", 33 * MIB), ("cc", 32 * MIB)):
        (objects / name).mkdir(parents=True)
        with (objects / name / (name * 32)).open("wb") as sparse:
            sparse.truncate(size)

    assert doctor_speeds.largest_object(config) == objects / "bb" / ("bb" * 32)
    (objects / "bb" / ("bb" * 32)).unlink()
    (objects / "cc" / ("cc" * 32)).unlink()
    assert doctor_speeds.largest_object(config) is None


def test_what_is_no_file_of_its_own_has_no_rate(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "small").write_bytes(b"x")

    assert [doctor_speeds.read_rate(tmp_path / name) for name in ("link", "small", "absent")] == [None, None, None]


@pytest.mark.parametrize(
    ("speeds", "is_good"),
    [
        ({"eno1": "100"}, False),
        ({"eno1": "1000"}, None),
        ({"eno1": "100", "eno2": "10000"}, True),
    ],
)
def test_the_fastest_network_card_is_judged(tmp_path: Path, speeds: dict[str, str], *, is_good: bool | None) -> None:
    for name, speed in {**speeds, "lo": "100000"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "speed").write_text(speed)
        (tmp_path / name / "operstate").write_text("up")

    (found,) = doctor_speeds.card_speed(box(), tmp_path)

    assert found.is_good is is_good
    assert max(speeds) in found.text


@pytest.mark.parametrize(("speed", "state"), [("-1", "up"), ("", "up"), ("10", "down")])
def test_a_card_that_does_not_say_or_is_down_is_not_judged(tmp_path: Path, speed: str, state: str) -> None:
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0/speed").write_text(speed)
    (tmp_path / "eth0/operstate").write_text(state)

    assert list(doctor_speeds.card_speed(box(), tmp_path)) == []


def test_named_machines_are_timed_and_one_that_takes_no_connection_is_named(listening: int) -> None:
    with socket.socket() as shut:
        shut.bind(("127.0.0.1", 0))  # bound and not listening: refused
        closed = f"tcp 127.0.0.1 {shut.getsockname()[1]}"
        found = list(doctor_speeds.times(box(f"tcp 127.0.0.1 {listening}", "udp 127.0.0.1 123", closed)))

    assert [one.text.split(" ms")[0].rpartition(" ")[0] for one in found[:1]] == [f"tcp 127.0.0.1 {listening}"]
    assert "the slowest of 20" in found[0].text
    assert (found[1].is_good, found[1].text) == (None, f"{closed} does not take connections")
    assert len(found) == 2


@pytest.mark.parametrize(
    ("millis", "is_good"),
    [([0.3, 9.9, 0.4], True), ([0.3, 0.4, 40.0], None), ([11.0, 12.0, 0.4], False), ([10.1], False)],
)
def test_a_named_machine_is_judged_by_its_usual_time_and_a_single_slow_one_is_noted(
    millis: list[float], *, is_good: bool | None
) -> None:
    found = doctor_speeds.judged_time("tcp 10.0.0.8 5432", millis)

    assert found.is_good is is_good
    assert found.text.startswith("tcp 10.0.0.8 5432 ")
    assert found.fix


def test_timing_ends_when_its_seconds_are_over(listening: int) -> None:
    assert doctor_speeds.connects("127.0.0.1", listening, seconds=0) == []
    assert len(doctor_speeds.connects("127.0.0.1", listening, tries=3)) == 3
