"""Metadata of another shape never reaches python-tuf; what python-tuf refuses comes back as one of our errors."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.verify.metadata import TrustChain, read_role
from media.errors import LimitExceededError, MalformedError, MediaError, TrustError
from tests.support.medium import SimulatedMedium, make_medium

FILES = {
    "root": "metadata/1.root.json",
    "timestamp": "metadata/timestamp.json",
    "snapshot": "metadata/1.snapshot.json",
    "targets": "metadata/1.targets.json",
}


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


def _expiring(value: dict[str, Any]) -> None:
    value["signed"]["expires"] = "2030-01-01T00:00:00Z"


def _other_type(value: dict[str, Any]) -> None:
    value["signed"]["_type"] = "mirrors"


def _no_version(value: dict[str, Any]) -> None:
    del value["signed"]["version"]


def _version_zero(value: dict[str, Any]) -> None:
    value["signed"]["version"] = 0


def _version_true(value: dict[str, Any]) -> None:
    value["signed"]["version"] = True


def _other_specification(value: dict[str, Any]) -> None:
    value["signed"]["spec_version"] = "2.0.0"


def _unknown_field(value: dict[str, Any]) -> None:
    value["signed"]["delegations"] = {"keys": {}, "roles": []}


def _extra_part(value: dict[str, Any]) -> None:
    value["comment"] = "hello"


def _no_signature(value: dict[str, Any]) -> None:
    value["signatures"] = []


def _same_signature_twice(value: dict[str, Any]) -> None:
    value["signatures"] *= 2


def _signature_without_key(value: dict[str, Any]) -> None:
    del value["signatures"][0]["keyid"]


def _signature_with_more(value: dict[str, Any]) -> None:
    value["signatures"][0]["note"] = "x"


def _signature_is_text(value: dict[str, Any]) -> None:
    value["signatures"] = "none"


@pytest.mark.parametrize("role", FILES)
@pytest.mark.parametrize(
    "spoil",
    [
        _expiring,
        _other_type,
        _no_version,
        _version_zero,
        _version_true,
        _other_specification,
        _unknown_field,
        _extra_part,
        _no_signature,
        _same_signature_twice,
        _signature_without_key,
        _signature_with_more,
        _signature_is_text,
    ],
)
def test_another_shape_is_malformed(
    medium: SimulatedMedium, role: str, spoil: Callable[[dict[str, Any]], None]
) -> None:
    value = json.loads(medium.path(FILES[role]).read_bytes())
    read_role(json.dumps(value).encode(), role)

    spoil(value)

    with pytest.raises(MalformedError):
        read_role(json.dumps(value).encode(), role)


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
@pytest.mark.parametrize("more", [{"length": 1}, {"hashes": {"sha256": "00" * 32}}, {"version": 0}])
def test_timestamp_and_snapshot_name_versions_only(medium: SimulatedMedium, role: str, more: dict[str, Any]) -> None:
    value = json.loads(medium.path(FILES[role]).read_bytes())
    next(iter(value["signed"]["meta"].values())).update(more)

    with pytest.raises(MalformedError):
        read_role(json.dumps(value).encode(), role)


def test_snapshots_that_are_not_consistent_are_malformed(medium: SimulatedMedium) -> None:
    value = json.loads(medium.path(FILES["root"]).read_bytes())
    value["signed"]["consistent_snapshot"] = False

    with pytest.raises(MalformedError):
        read_role(json.dumps(value).encode(), "root")


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_role_or_one_of_our_errors(untrusted: bytes) -> None:
    for role in FILES:
        with contextlib.suppress(MalformedError, LimitExceededError):
            read_role(untrusted, role)


def test_one_changed_value_anywhere_in_a_root_is_refused_by_one_of_our_errors(medium: SimulatedMedium) -> None:
    genuine = medium.root_json.decode()
    for at in range(0, len(genuine), 97):
        changed = genuine[:at] + chr((ord(genuine[at]) + 1) % 128) + genuine[at + 1 :]

        with pytest.raises((MediaError, TrustError)):
            TrustChain((changed,), "demo")
