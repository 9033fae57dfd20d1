import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler import wheelmetadata
from bundler.cache import Cache
from bundler.closure import find_gaps, require_complete
from bundler.errors import ScanError, SourceError
from bundler.sources import wheels
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target, WheelTarget
from bundler.wheelmetadata import Dependencies
from tests.support.payload import locked, sha256, wheel

TARGET = Target(profile="box")


def says(version: str = "1.0", *requires: str, python: str = "") -> Dependencies:
    lines = [f"Requires-Dist: {line}" for line in requires] + ([f"Requires-Python: {python}"] if python else [])
    return wheelmetadata.parse("\n".join(lines).encode(), label="x", version=version)


def gaps(wheels: dict[str, Dependencies], **extras: tuple[str, ...]) -> list[str]:
    return [str(gap) for gap in find_gaps(wheels, TARGET, extras=extras)]


def test_a_set_that_needs_only_itself_is_complete() -> None:
    assert gaps({"alpha": says("1.0", "Beta_x>=2", "gone; sys_platform == 'win32'"), "beta-x": says("2.1")}) == []


def test_each_missing_package_is_named_with_who_needs_it() -> None:
    assert gaps({"alpha": says("1.0", "beta>=2"), "gamma": says("3", "alpha<1", "beta")}) == [
        "alpha<1 for gamma 3 (alpha 1.0 is locked)",
        "beta for gamma 3 (not locked)",
        "beta>=2 for alpha 1.0 (not locked)",
    ]


def test_an_extra_that_another_wheel_asks_for_is_followed() -> None:
    wheels = {
        "alpha": says("1.0", "beta[fast]"),
        "beta": says("1.0", "speed>1; extra == 'fast'", "other; extra == 'slow'"),
    }

    assert gaps(wheels) == ["speed>1 for beta 1.0 (not locked)"]
    assert gaps({"beta": wheels["beta"]}) == []
    assert gaps({"beta": wheels["beta"]}, beta=("slow",)) == ["other for beta 1.0 (not locked)"]


def test_wheels_that_ask_for_each_other_end_the_walk() -> None:
    one = says("1.0", "beta[x]; extra == 'y'", "beta[x]")
    two = says("1.0", "alpha[y]; extra == 'x'")

    assert gaps({"alpha": one, "beta": two}) == []


def test_what_an_older_patch_release_needs_has_to_be_there() -> None:
    assert gaps({"alpha": says("1.0", "backport; python_full_version < '3.11.4'")}) == [
        "backport for alpha 1.0 (not locked)"
    ]


def test_markers_are_the_targets_and_not_the_builders() -> None:
    wheels = {"alpha": says("1.0", "arm-only; platform_machine == 'aarch64'", "old; python_version < '3.12'")}

    assert gaps(wheels) == ["old for alpha 1.0 (not locked)"]
    far = Target(profile="far", platform="linux_aarch64", python="3.12")
    assert [gap.wanted for gap in find_gaps(wheels, far, extras={})] == ["arm-only"]


def test_a_wheel_for_another_python_and_one_by_address_are_gaps() -> None:
    assert gaps({"alpha": says("1.0", python=">=3.12")}) == ["Python >=3.12 for alpha 1.0 (Python 3.11 is locked)"]
    assert gaps({"alpha": says("1.0", "beta @ https://x.invalid/b.whl"), "beta": says("1")}) == [
        "beta from an address for alpha 1.0 (nothing that way is locked)"
    ]


def test_an_incomplete_environment_stops_the_build(tmp_path: Path) -> None:
    file = wheel(tmp_path, "alpha", license_line="License-Expression: MIT\nRequires-Dist: beta>=2")
    chosen = ChosenWheel(name="alpha", version="1.0", file=file, sha256=sha256(file))

    with pytest.raises(SourceError) as caught:
        require_complete([chosen], TARGET, label="server")

    assert "server" in caught.value.what
    assert "beta>=2 for alpha 1.0" in caught.value.why


def test_the_extras_of_a_lock_are_followed(tmp_path: Path) -> None:
    file = wheel(tmp_path, "alpha", license_line="License-Expression: MIT\nRequires-Dist: fast; extra == 'speed'")
    (package,) = wheels.parse_lock(locked(file).replace("alpha==", "alpha[speed]=="), label="x")
    (chosen,) = wheels.obtain([package], TARGET, cache=Cache(root=tmp_path / "cache"), fetch=copying(file), built={})

    with pytest.raises(SourceError) as caught:
        require_complete([chosen], TARGET, label="server")

    assert "fast for alpha 1.0" in caught.value.why


def copying(file: Path) -> wheels.Fetch:
    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        shutil.copy(file, folder)

    return fetch


def test_a_wheel_without_metadata_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alpha-1.0-py3-none-any.whl").write_bytes(b"PK")

    with pytest.raises(ScanError):
        wheelmetadata.read(tmp_path / "alpha-1.0-py3-none-any.whl")


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: f"Requires-Dist: {text}\n".encode()))
def test_any_metadata_is_read_or_refused_by_us(untrusted: bytes) -> None:
    try:
        wheelmetadata.parse(untrusted, label="x", version="1")
    except ScanError:
        return


def test_what_people_left_out_may_be_missing_and_nothing_may_be_left_out_in_vain(tmp_path: Path) -> None:
    file = wheel(tmp_path, "alpha", license_line="License-Expression: MIT\nRequires-Dist: Sound>=2")
    alone = [ChosenWheel(name="alpha", version="1.0", file=file, sha256=sha256(file))]

    require_complete(alone, TARGET, label="engine-vllm", without={"sound"})

    with pytest.raises(SourceError, match=r"locks\.left_out: video is not left out of engine-vllm"):
        require_complete(alone, TARGET, label="engine-vllm", without={"sound", "video"})
