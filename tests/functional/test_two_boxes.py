"""Two boxes by the real commands: introduced in person, kept current by a folder, and a test report accepted."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.promote.standing import require_promoted
from tests.support.promoting import bring, enrol_all, homes, medium_of, serve
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder

__all__ = ["homes"]  # a fixture
pytestmark = pytest.mark.interop  # four real processes at each of two boxes: too slow for every run


@pytest.fixture
def boxes() -> Iterator[tuple[RunningSite, RunningSite]]:
    with contextlib.ExitStack() as stack:
        roots = [stack.enter_context(short_folder()) for _ in range(2)]
        first, second = (stack.enter_context(running_site(root, medium_of(1))) for root in roots)
        yield first, second


def introduce(one: Run, two: Run, folder: Path, *, roles: tuple[str, str]) -> None:
    """Bring cards and halves from box to box, as two people do."""
    runs, cards, names = (one, two), (folder / "one.card", folder / "two.card"), ("one", "two")
    codes = [
        as_json(run, "standby", "card", "--name", name, "--to", str(card))["code"]
        for run, name, card in zip(runs, names, cards, strict=True)
    ]
    for place, run in enumerate(runs):
        typed = ("--code", codes[1 - place]) * 2
        people = ("--by", "Eva Rossi", "--by", "Finn Olsen", "--role", roles[place])
        as_json(
            run, "standby", "pair", str(cards[1 - place]), "--to", str(folder / f"{names[place]}.half"), *people, *typed
        )
    for run, own, other in ((one, "one", "two"), (two, "two", "one")):
        halves = (str(folder / f"{own}.half"), str(folder / f"{other}.half"))
        assert as_json(run, "standby", "join", *halves, "--dry-run")["sequence"] == -1
        assert as_json(run, "standby", "join", *halves)["peer"] == other


def test_a_standby_serves_what_the_primary_promoted_by_its_own_promoter(
    boxes: tuple[RunningSite, RunningSite],
    homes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = boxes
    one, two = (runner(box, capsys) for box in boxes)
    introduce(one, two, tmp_path, roles=("primary", "standby"))
    enrol_all(first, one, homes)
    digest = bring(first, 1)
    serve(one, digest, homes)
    key = as_json(one, "keys", "create", "--department", "radiology", "--owner", "Eva", "--phi", "tokenise")
    made = as_json(one, "standby", "export", "two", str(tmp_path / "bundle"))

    before = as_json(two, "standby", "import", "one", str(tmp_path / "bundle"))
    assert before["taken"]["people"] == 2
    assert "not registered" in before["taken"]["waits"]
    assert before["size"] == made["size"]
    assert bring(second, 1) == digest
    after = as_json(two, "standby", "take", "one")

    assert (after["promotions"], after["keys"], after["waits"]) == (1, 1, "")
    assert require_promoted(second.config.at, digest).people == ("Eva Rossi", "Finn Olsen")
    assert {unit.name for unit in second.supervisor.units()} == {f"sealift-engine-production@{digest[:12]}.service"}
    (known,) = as_json(two, "keys", "list")["keys"]
    assert known["key_id"] == key["key_id"]
    (told,) = as_json(two, "standby", "status")["boxes"]
    assert (told["name"], told["waiting"], told["mirrored"]) == ("one", 0, made["size"])
    again = two("standby", "import", "two", str(tmp_path / "bundle"))
    assert again.code == 49


def test_production_promotes_on_a_test_appliances_report(
    boxes: tuple[RunningSite, RunningSite],
    homes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = boxes
    one, two = (runner(box, capsys) for box in boxes)
    introduce(one, two, tmp_path, roles=("production", "test"))
    enrol_all(first, one, homes)
    digest = bring(first, 1)
    bring(second, 1)
    report = tmp_path / "report.json"

    assert two("report", "export", "one", digest, "--to", str(report)).code == 41
    assert as_json(two, "validate", digest)["passed"] is True
    as_json(two, "report", "export", "one", digest, "--to", str(report))
    assert one("promote", digest, "--as", "eva-rossi").code == 41
    assert as_json(one, "report", "accept", "two", str(report), "--dry-run")["sequence"] == -1
    as_json(one, "report", "accept", "two", str(report))

    assert as_json(one, "promote", digest, "--as", "eva-rossi")["step"] == "requested"
    for person, home in homes.items():
        as_json(one, "approve", digest, "--as", person, "--gnupg-home", str(home), "--yes")
    assert as_json(one, "promote", digest)["step"] == "serving"
    assert one("report", "accept", "two", str(report)).code == 47
