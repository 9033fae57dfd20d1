from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import SigningError
from bundler.plan import ReleasePlan
from media.canonical import dumps, loads
from media.errors import MalformedError, SealiftError
from tests.support.medium import MACHINE

PLAN = ReleasePlan(
    release="demo-1",
    serial=1,
    created="2026-11-20T07:00:00Z",
    stale_after="2027-11-20T08:00:00Z",
    sites=("demo-clinic",),
    targets=(MACHINE,),
    kinds={"data/release.json": "release"},
    checkpoints={"demo-clinic/ledger": {"size": 3, "root": "0" * 64}},
    issue=2,
    payload_digest="1" * 64,
    rehearsal="answered-on-cpu",
)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    assert ReleasePlan.from_bytes(PLAN.to_bytes()) == PLAN


def test_a_plan_without_a_payload_digest_is_read_back_too() -> None:
    plan = replace(PLAN, payload_digest="")

    assert ReleasePlan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"serial": 0},
        {"release": "Demo 1"},
        {"sites": []},
        {"sites": ["Demo Clinic"]},
        {"created": "yesterday"},
        {"stale_after": "2027-13-20T08:00:00Z"},
        {"kinds": {"data/release.json": "attestation"}},
        {"issue": 1000},
        {"surprise": True},
        {"targets": {}},
        {"payload_digest": "ABC"},
        {"rehearsal": "perfect"},
    ],
)
def test_a_plan_with_a_wrong_field_is_refused(change: dict[str, object]) -> None:
    value = {**loads(PLAN.to_bytes()), **change}

    with pytest.raises(MalformedError):
        ReleasePlan.from_bytes(dumps(value))


def test_a_missing_plan_says_to_build() -> None:
    with pytest.raises(SigningError) as refused:
        ReleasePlan.load(Path("/nonexistent/plan.json"))

    assert "sealift-bundler build" in refused.value.fix


def test_any_other_bytes_are_one_of_our_errors() -> None:
    with pytest.raises(SealiftError):
        ReleasePlan.from_bytes(b"\xff{")
