"""What is plugged in, as files: names, what is not shown, and which medium may take EXPORTs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, PlacesSection
from appliance.errors import JobRefusedError
from appliance.install import arrivals
from appliance.install.arrivals import EXPORT_LABEL, Arrival
from media import canonical
from media.errors import MalformedError

STICK = Arrival(
    name="sdb1",
    id="0123456789abcdef",
    state="mounted",
    why="",
    filesystem="vfat",
    label="STICK",
    bytes=2**30,
    at="2026-11-20T12:00:00Z",
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / arrivals.BLOCK / "sdb1").mkdir(parents=True)
    return Config(site="demo", environment="demo", places=PlacesSection(root=str(tmp_path)))


@pytest.mark.parametrize("name", ["sdb1", "sr0", "mmcblk0p1", "loop7"])
def test_names_of_the_kernel_are_taken(name: str) -> None:
    assert arrivals.require_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", "../sdb1", "sdb1/", "/dev/sdb1", "sdb1\n", "SDB1", "s", "-rf", "sdb-1", "a" * 16, 1, None]
)
def test_other_names_never_become_a_path_or_a_unit(config: Config, name: Any) -> None:
    with pytest.raises(MalformedError):
        arrivals.require_name(name)
    with pytest.raises(MalformedError):
        arrivals.arrived(config.at, name)


def test_what_was_kept_is_what_is_shown(config: Config, tmp_path: Path) -> None:
    arrivals.keep(config.at, STICK)
    assert arrivals.arrived(config.at, "sdb1") == STICK
    assert arrivals.shown(config.at, "sdb1").is_read is False

    arrivals.keep_inspected(config.at, STICK, claims={"untrusted_serial": 3}, problem="")
    (found,) = arrivals.all_shown(config.at)
    assert (found.claims, found.is_read) == ({"untrusted_serial": 3}, True)
    assert (config.at.arrived / "sdb1.json").stat().st_mode & 0o777 == 0o644

    (config.at.arrived / "sdb1.json").unlink()  # as the unit does when the medium is pulled out
    assert arrivals.all_shown(config.at) == ()
    with pytest.raises(JobRefusedError):
        arrivals.arrived(config.at, "sdb1")


def test_what_the_medium_before_claimed_is_not_shown_of_the_next(config: Config, tmp_path: Path) -> None:
    arrivals.keep_inspected(config.at, STICK, claims={"untrusted_serial": 3}, problem="")
    arrivals.keep(config.at, replace(STICK, id="f" * 16))

    assert arrivals.shown(config.at, "sdb1").claims is None


def test_a_medium_that_was_pulled_out_is_not_shown(config: Config, tmp_path: Path) -> None:
    arrivals.keep(config.at, replace(STICK, state="refused", why="its file system is ntfs"))
    (tmp_path / arrivals.BLOCK / "sdb1").rmdir()

    assert arrivals.all_shown(config.at) == ()


def test_claims_that_are_too_long_are_left_out(config: Config, tmp_path: Path) -> None:
    stick = replace(STICK, label=EXPORT_LABEL)
    arrivals.keep(config.at, stick)
    arrivals.keep_inspected(config.at, stick, claims={"untrusted_release": "x" * 2**21}, problem="")

    found = arrivals.shown(config.at, "sdb1")
    assert (found.claims, found.problem) == ({}, "it claims too much to be shown")
    assert not found.may_take_exports


@pytest.mark.parametrize(
    ("label", "claims", "state", "expected"),
    [
        (EXPORT_LABEL, None, "mounted", True),
        ("STICK", None, "mounted", False),
        ("sealift-out", None, "mounted", False),
        # What came from a sender is never written to, whatever it calls itself.
        (EXPORT_LABEL, {"untrusted_serial": 3}, "mounted", False),
        (EXPORT_LABEL, {"problems": ["it cannot be read"]}, "mounted", False),
        (EXPORT_LABEL, None, "refused", False),
    ],
)
def test_only_a_marked_medium_that_is_no_volume_may_take_exports(
    config: Config, tmp_path: Path, label: str, claims: Any, state: str, *, expected: bool
) -> None:
    arrival = replace(STICK, label=label, state=state)
    arrivals.keep(config.at, arrival)
    assert not arrivals.shown(config.at, "sdb1").may_take_exports, "not read yet"

    arrivals.keep_inspected(config.at, arrival, claims=claims, problem="" if claims else "it is no Sealift volume")

    assert arrivals.shown(config.at, "sdb1").may_take_exports is expected


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=9)),
        lambda inner: st.dictionaries(st.sampled_from([*STICK.to_json(), "more"]), inner, max_size=9),
        max_leaves=9,
    )
)
def test_whatever_a_file_holds_is_an_arrival_or_an_error_of_ours(untrusted: Any) -> None:
    try:
        assert Arrival.from_json(untrusted).to_json() == untrusted
    except MalformedError:
        return


def test_an_arrival_survives_being_written() -> None:
    assert Arrival.from_json(canonical.loads(canonical.dumps(STICK.to_json()))) == STICK
