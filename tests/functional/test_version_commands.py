"""The life of a version by the real commands: shown, held, deleted, collected, brought back by a receive."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.actions.receive import receive
from appliance.actions.scrub import scrub
from appliance.errors import ConflictError
from media.clock import SystemClock
from tests.support.medium import make_medium
from tests.support.promoting import enrol_all, homes
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder, version_files

__all__ = ["homes"]  # a fixture
pytestmark = pytest.mark.slow


@pytest.fixture
def site() -> Iterator[RunningSite]:
    with short_folder() as root:
        medium = make_medium(root / "m", serial=1, files=version_files(weights=b"GGUF weights to go"))
        with running_site(root, medium) as running:
            receive(running.config, medium.volumes, clock=SystemClock(), progress=lambda *_: None)
            yield running


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


@pytest.fixture
def people(site: RunningSite, sealift: Run, homes: dict[str, Path]) -> None:
    enrol_all(site, sealift, homes)


def objects(site: RunningSite) -> set[str]:
    return {path.name for path in Path(site.config.at.store, "objects").rglob("*") if path.is_file()}


@pytest.mark.usefixtures("people")
def test_a_version_is_shown_held_deleted_collected_and_brought_back(site: RunningSite, sealift: Run) -> None:
    (digest,) = site.register(1)
    by = ("--as", "eva-rossi", "--reason", "case 12")

    shown = as_json(sealift, "models", "show", digest[:8])
    assert (shown["stage"], shown["alias"], shown["provenance"]["review_status"]) == (
        "registered",
        None,
        "not reviewed",
    )
    assert [one["model_digest"] for one in as_json(sealift, "models", "variants")["models"]["tiny"]] == [digest]
    assert as_json(sealift, "models", "fit", digest)["production"] is None
    assert [scale["name"] for scale in as_json(sealift, "models", "advise")["scales"]] == ["small", "medium"]
    assert "!! cores" in sealift("models", "advise").out or "ok cores" in sealift("models", "advise").out
    asked = as_json(sealift, "models", "fit", digest, "--people", "50")["people"]
    assert (asked["scale"], asked["limits"]["concurrent_requests"]) == ("medium", 1)  # it answers one at a time
    assert "concurrent_requests = 1\n" in sealift("models", "fit", digest, "--people", "50").out
    planned = as_json(sealift, "models", "advise", "--gpu-gib", "0", "--memory-gib", "16")
    assert (planned["on"], planned["scales"]) == ("cpu", [])

    as_json(sealift, "models", "hold", digest, *by)
    refused = sealift("--json", "models", "delete", digest, *by)
    assert refused.code == ConflictError.exit_code
    assert "legal hold: case 12" in refused.out + refused.err
    assert as_json(sealift, "models", "delete", digest, "--dry-run")["needs"] != []
    as_json(sealift, "models", "lift", digest, "--as", "finn-olsen", "--reason", "closed")

    before, weights = objects(site), shown["weights_digest"]
    done = as_json(sealift, "models", "delete", digest, *by)
    assert [one["object"] for one in done["collected"]["objects"]] == [weights]
    assert objects(site) == before - {weights}
    assert as_json(sealift, "models", "list")["versions"] == []
    assert as_json(sealift, "models", "collect", "--dry-run")["objects"] == []
    told = [(one["what"], one["people"]) for one in as_json(sealift, "history", "--of", digest)["events"]]
    assert told == [
        ("registered", [""]),
        ("put on hold", ["eva-rossi"]),
        ("hold lifted", ["finn-olsen"]),
        ("deleted", ["eva-rossi"]),
    ]
    assert scrub(site.config, clock=SystemClock(), progress=lambda *_: None).figures.bad == 0

    site.register(1)
    assert as_json(sealift, "models", "list")["versions"] == []
    medium = sorted((site.root / "m").glob("**/volume-?"))
    receive(site.config, medium, clock=SystemClock(), progress=lambda *_: None)
    site.register(1)
    assert [one["model_digest"] for one in as_json(sealift, "models", "list")["versions"]] == [digest]
    assert weights in objects(site)
