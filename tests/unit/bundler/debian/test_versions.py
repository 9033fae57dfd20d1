import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.debian.versions import DebianVersion

IN_ORDER = [
    "0", "0.9~~", "0.9~~a", "0.9~", "0.9", "1.0~rc1", "1.0~rc1-1", "1.0", "1.0-0.1", "1.0-1", "1.0-1+b1",
    "1.0-1+deb12u1", "1.0-1+deb12u2", "1.0-1+deb12u10", "1.0a", "1.0+dfsg-1", "1.0.1", "1.2", "1.10", "2", "1:0.1",
]  # fmt: skip


def test_versions_sort_as_dpkg_sorts_them() -> None:
    assert [each.text for each in sorted(map(DebianVersion, reversed(IN_ORDER)))] == IN_ORDER


def test_versions_that_mean_the_same_are_equal() -> None:
    assert DebianVersion("1.0") == DebianVersion("0:1.0-0") == DebianVersion("1.00")
    assert hash(DebianVersion("1.0")) == hash(DebianVersion("1.00"))


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_two_texts_have_one_order(left: str, right: str) -> None:
    one, other = DebianVersion(left), DebianVersion(right)

    assert (one < other) + (other < one) + (one == other) == 1


def test_numbers_of_any_length_are_compared() -> None:
    assert DebianVersion("1." + "9" * 5000) < DebianVersion("1." + "1" + "0" * 5000)


_VERSION = st.from_regex(r"\A([0-3]:)?[0-9][0-9a-c.+~]{0,5}(-[0-9a-c.+~]{1,4})?\Z")


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs Debian's dpkg")
@given(_VERSION, _VERSION)
@settings(max_examples=2000 if os.environ.get("SEALIFT_DEEP") == "1" else 30)
def test_dpkg_has_the_same_opinion(left: str, right: str) -> None:
    def dpkg(relation: str) -> bool:
        command = ["dpkg", "--compare-versions", left, relation, right]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    assert (DebianVersion(left) < DebianVersion(right)) == dpkg("lt")
    assert (DebianVersion(left) == DebianVersion(right)) == dpkg("eq")
