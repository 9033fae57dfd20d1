"""What the evidence holds that people approved lies where engines of production read it, and nothing else does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.install import approvedsteps
from appliance.install.engines import Linked
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.supervisor import engine_unit
from appliance.registry import evidence
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.curve import Curve
from media import canonical
from tests.support.floor import Floor, open_floor
from tests.support.scripted_http import Reply
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import engine_replies

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

CURVE = Curve(threads=3, micros={1: 5000, 4: 8000}, machine="ab" * 32)


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def measures(floor: Floor, descriptor: ModelDescriptor, curve: Curve | None = CURVE) -> None:
    """Let the engines of a version say that they measured this."""
    replies = {}
    for stage in ("test", "production"):
        status = engine_replies(descriptor, stage=stage)["/sealift/v1/status"]
        assert isinstance(status, Reply)
        told = {**dict(status.body or {}), "step_curve": curve and curve.to_json()}
        replies[f"sealift-engine-{stage}@{descriptor.model_digest[:12]}.service"] = Reply(body=told)
    for unit, reply in replies.items():
        floor.supervisor.versions[unit]["/sealift/v1/status"] = reply


def served(floor: Floor, curve: Curve | None = CURVE) -> Path:
    """Bring a version into production whose validation measured a curve; return where that is to lie."""
    descriptor = floor.bring()
    measures(floor, descriptor, curve)
    floor.serve(descriptor)
    return place_of(floor, descriptor)


def place_of(floor: Floor, descriptor: ModelDescriptor) -> Path:
    """Return where a version's steps are to lie, beside the link that is made before."""
    place = floor.site.config.at.kept_steps(descriptor.model_digest[:12])
    place.parent.mkdir(parents=True)
    return place


def lay_down(floor: Floor, place: Path) -> None:
    approvedsteps.lay_down(floor.site.config.at, place.name.partition(".")[0])


def test_it_is_what_the_approved_evidence_holds_and_anybody_may_read_it(floor: Floor) -> None:
    place = served(floor)

    lay_down(floor, place)

    assert Curve.from_json(canonical.loads_canonical(place.read_bytes())) == CURVE
    assert place.stat().st_mode & 0o777 == 0o644
    before = place.stat().st_ino
    lay_down(floor, place)
    assert place.stat().st_ino == before
    place.write_bytes(b"spoiled")
    lay_down(floor, place)
    assert Curve.from_json(canonical.loads_canonical(place.read_bytes())) == CURVE


def test_a_later_run_that_nobody_approved_is_not_it(floor: Floor) -> None:
    descriptor = floor.bring()
    measures(floor, descriptor)
    floor.serve(descriptor)
    measures(floor, descriptor, Curve(threads=1, micros={1: 1}))
    floor.validate(descriptor)
    place = place_of(floor, descriptor)

    lay_down(floor, place)

    assert Curve.from_json(canonical.loads_canonical(place.read_bytes())) == CURVE


def test_where_nothing_was_measured_nothing_lies(floor: Floor) -> None:
    place = served(floor, None)
    place.write_bytes(b"of before")

    lay_down(floor, place)

    assert not place.exists()


@pytest.mark.parametrize("how", ["gone", "spoiled", "a pipe", "chain"])
def test_evidence_that_does_not_verify_is_none(floor: Floor, how: str) -> None:
    place, places = served(floor), floor.site.config.at
    lay_down(floor, place)
    for file in evidence.folder(places).iterdir():
        if how in {"gone", "a pipe"}:
            file.unlink()
        if how == "a pipe":
            os.mkfifo(file)
        elif how == "spoiled":
            file.write_bytes(file.read_bytes() + b" ")
    if how == "chain":
        (places.promoter / "promotions/000001.json").write_bytes(b"{}")

    lay_down(floor, place)

    assert not place.exists()


def test_a_version_that_is_not_in_production_has_none(floor: Floor) -> None:
    descriptor = floor.bring()
    measures(floor, descriptor)
    floor.validate(descriptor)
    place = place_of(floor, descriptor)

    lay_down(floor, place)

    assert not place.exists()


def test_it_is_laid_down_before_an_engine_of_production_starts_and_keeps_none_from_starting(floor: Floor) -> None:
    place, places = served(floor), floor.site.config.at
    digest = floor.in_production() or ""
    descriptor = floor.bring()  # known again, for its environment
    assert descriptor.model_digest == digest
    releases = InstalledReleases(places)
    releases.folder(1).mkdir(parents=True)
    environments = {"engine-llama-cpp": descriptor.environment}
    releases.write(InstalledRelease(serial=1, release="r1", environments=environments, host_files="e" * 64))
    releases.switch(1)
    inner = FakeSupervisor()

    Linked(inner, places).start(engine_unit("test", digest))
    assert not place.exists()
    Linked(inner, places).start(engine_unit("production", digest))
    assert Curve.from_json(canonical.loads_canonical(place.read_bytes())) == CURVE
    place.unlink()
    place.mkdir()
    Linked(inner, places).start(engine_unit("production", digest, "2"))

    assert [unit for _, unit in inner.asked] == [
        engine_unit("test", digest),
        engine_unit("production", digest),
        engine_unit("production", digest, "2"),
    ]
