"""Any one bit of a sealed release, changed, is found: by our own check and by the second opinion."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.mediumcheck import check
from media import layout
from media.errors import SealiftError
from tests.support.medium import SimulatedMedium, make_medium

SECOND_OPINION = Path(__file__).resolve().parents[3] / "bundler" / "check" / "verify.py"
FEWER = settings(max_examples=30, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    return make_medium(tmp_path_factory.mktemp("flips") / "m")


@pytest.fixture(scope="module")
def second_opinion() -> ModuleType:
    spec = importlib.util.spec_from_file_location("second_opinion", SECOND_OPINION)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(medium: SimulatedMedium) -> list[Path]:
    return sorted(path for volume in medium.volumes for path in (volume / layout.RELEASE).rglob("*") if path.is_file())


def flipped(path: Path, position: float, bit: int) -> Iterator[None]:
    before = path.read_bytes()
    data = bytearray(before)
    data[int(position * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@FEWER
@given(st.integers(min_value=0), st.floats(min_value=0, max_value=1, exclude_max=True), st.integers(0, 7))
def test_our_check_finds_any_changed_bit(medium: SimulatedMedium, which: int, position: float, bit: int) -> None:
    every = files(medium)

    for _ in flipped(every[which % len(every)], position, bit):
        with pytest.raises(SealiftError):
            check(medium.volumes, ceremony=medium.ceremony, code=medium.code)


@FEWER
@given(st.integers(min_value=0), st.floats(min_value=0, max_value=1, exclude_max=True), st.integers(0, 7))
def test_the_second_opinion_finds_any_changed_bit(
    medium: SimulatedMedium, second_opinion: ModuleType, which: int, position: float, bit: int
) -> None:
    every = files(medium)
    signers = [each for person in ("alice", "bob") for each in ("--signer", medium.fingerprint(person))]
    arguments = ["--code", medium.code, *signers, *map(str, medium.volumes)]

    for _ in flipped(every[which % len(every)], position, bit):
        assert second_opinion.main(arguments) != 0
