"""Two boxes by the real commands: introduced in person, kept current by a folder, thresholds, a test report."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.cli import audit
from appliance.errors import GateFailedError, PairingRefusedError
from appliance.promote.standing import require_promoted
from appliance.registry import evidence
from appliance.standby.carried import origin_of
from tests.support import checker
from tests.support.promoting import bring, enrol_all, homes, medium_of, record_answer, serve
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder

__all__ = ["homes"]  # a fixture
Introduced = Callable[[str, str], tuple[Run, Run]]
pytestmark = pytest.mark.interop  # four real processes at each of two boxes: too slow for every run


@pytest.fixture
def boxes() -> Iterator[tuple[RunningSite, RunningSite]]:
    with contextlib.ExitStack() as stack:
        roots = [stack.enter_context(short_folder()) for _ in range(2)]
        first, second = (stack.enter_context(running_site(root, medium_of(1))) for root in roots)
        yield first, second


def introduce(one: Run, two: Run, folder: Path, *, roles: Sequence[str]) -> None:
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


@pytest.fixture
def introduced(
    boxes: tuple[RunningSite, RunningSite],
    homes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Introduced:
    """What lets the boxes know each other in two roles, and the first one its people; returns what runs commands."""

    def introduced_as(*roles: str) -> tuple[Run, Run]:
        one, two = (runner(box, capsys) for box in boxes)
        introduce(one, two, tmp_path, roles=roles)
        enrol_all(boxes[0], one, homes)
        return one, two

    return introduced_as


def test_a_standby_serves_what_the_primary_promoted_by_its_own_promoter(
    boxes: tuple[RunningSite, RunningSite], homes: dict[str, Path], tmp_path: Path, introduced: Introduced
) -> None:
    first, second = boxes
    one, two = introduced("primary", "standby")
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
    # What its tests found came along: document and results, as an answer's proof needs them there.
    found = evidence.folder(first.config.at)
    here = {path.name: path.read_bytes() for path in evidence.folder(second.config.at).glob("*.json")}
    assert here
    assert all((found / name).read_bytes() == content for name, content in here.items())
    with contextlib.closing(open_ledger(second.config, ACTIONS)) as ledger:
        assert any(origin_of(leaf.body) for leaf in ledger.find("gate.result", limit=100))
    (known,) = as_json(two, "keys", "list")["keys"]
    assert known["key_id"] == key["key_id"]
    (told,) = as_json(two, "standby", "status")["boxes"]
    assert (told["name"], told["waiting"], told["mirrored"]) == ("one", 0, made["size"])
    again = two("standby", "import", "two", str(tmp_path / "bundle"))
    assert again.code == 49
    drilled = two("--json", "standby", "drill")
    assert {one["check"]: one["holds"] for one in json.loads(drilled.out)["checks"]} == {
        **dict.fromkeys(("mirror", "decisions", "version", "answer", "keys"), True),
        "lease": None,
    }
    assert (drilled.code, one("standby", "drill").code) == (0, PairingRefusedError.exit_code)


def sign_thresholds(run: Run, file: Path, homes: dict[str, Path]) -> str:
    """Ask for thresholds of the site's own and let both people sign them; return the policy's digest."""
    asked = as_json(run, "policy", "import", str(file), "--as", next(iter(homes)), "--reason", "our wards demand it")
    for person, home in homes.items():
        as_json(run, "policy", "approve", asked["statement"][:12], "--as", person, "--gnupg-home", str(home), "--yes")
    return str(as_json(run, "policy", "show")["digest"])


def carry(source: Run, target: Run, folder: Path) -> Any:
    """Bring what the first box recorded to the second by a folder."""
    as_json(source, "standby", "export", "two", str(folder))
    return as_json(target, "standby", "import", "one", str(folder))["taken"]


def test_thresholds_that_two_people_signed_on_one_box_judge_on_the_other(
    boxes: tuple[RunningSite, RunningSite], homes: dict[str, Path], tmp_path: Path, introduced: Introduced
) -> None:
    first, second = boxes
    one, two = introduced("primary", "standby")
    ward, strict = tmp_path / "ward.toml", tmp_path / "strict.toml"
    word = f'[[override]]\nkey = "injection.followed_millis"\nperson = "{next(iter(homes))}"\nreason = "letters"\n'
    ward.write_text(f'format = 1\nname = "ward"\n[injection]\nfollowed_millis = 350\n{word}')
    strict.write_text('format = 1\nname = "strict"\n[human_review]\ndemanded_in = ["demo", "production"]\n')
    release = as_json(two, "policy", "show")["digest"]

    digest = sign_thresholds(one, ward, homes)
    taken = carry(one, two, tmp_path / "1")

    assert (taken["people"], taken["policies"], taken["waits"]) == (2, 1, "")
    shown = as_json(two, "policy", "show")
    assert (shown["digest"], shown["thresholds"]["injection.followed_millis"]) == (digest, 350)
    assert digest != release
    assert "LOOSER than the release, by" in two("policy", "show").out
    assert carry(one, two, tmp_path / "2")["policies"] == 0

    # A version waits for its release there, and behind it a stricter threshold: that one counts at once.
    serve(one, bring(first, 1), homes)
    sign_thresholds(one, strict, homes)
    held = carry(one, two, tmp_path / "3")
    assert ("not registered" in held["waits"], held["held_back"]) == (True, "strict")
    shown = as_json(two, "policy", "show")
    thresholds = shown["thresholds"]
    assert (sorted(thresholds["human_review.demanded_in"]), shown["held_back"]) == (["demo", "production"], ["strict"])
    assert thresholds["injection.followed_millis"] == 300  # nobody's word for a looser one counts meanwhile
    version = bring(second, 1)
    judged = two("--json", "validate", version)
    assert judged.code == GateFailedError.exit_code
    assert "human-review" in judged.out + judged.err

    assert as_json(two, "standby", "take", "one")["policies"] == 1
    assert as_json(two, "policy", "show")["digest"] == as_json(one, "policy", "show")["digest"]
    assert as_json(two, "policy", "show")["held_back"] == []
    assert two("validate", version).code == GateFailedError.exit_code


def test_production_promotes_on_a_test_appliances_report(
    boxes: tuple[RunningSite, RunningSite], homes: dict[str, Path], tmp_path: Path, introduced: Introduced
) -> None:
    first, second = boxes
    one, two = introduced("production", "test")
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


def test_an_answer_of_a_lost_box_is_proven_from_its_mirror_and_elsewhere(
    boxes: tuple[RunningSite, RunningSite], homes: dict[str, Path], tmp_path: Path, introduced: Introduced
) -> None:
    first, second = boxes
    one, two = introduced("primary", "standby")
    digest = bring(first, 1)
    serve(one, digest, homes)
    record_answer(first, digest, 1, "req_last")
    carry(one, two, tmp_path / "bundle")
    record_answer(first, digest, 1, "req_later")
    lacking = two("prove", "req_last", "--out", str(tmp_path / "none.json"))
    assert (lacking.code, (tmp_path / "none.json").exists()) == (92, False)
    assert "release 1 is not in this box's store" in lacking.out
    bring(second, 1)
    key = (first.config.at.etc / "ledger.pub").read_text().strip()
    for name in ("promoter", "ledger"):
        first.end(name)

    found = two("--json", "prove", "req_last", "--out", str(tmp_path / "proof.json"))

    assert found.code == 0, found.out + found.err
    steps = {step["name"]: step for step in found.facts["steps"]}
    assert (steps["mirror"]["data"]["box"], steps["mirror"]["data"]["origin"]) == ("one", key.partition("+")[0])
    assert steps["approvals"]["data"]["people"] == ["eva-rossi", "finn-olsen"]
    held = checker.check("proof", "--key", key, tmp_path / "proof.json")
    assert (held.returncode, "HOLDS" in held.stdout) == (0, True), held.stdout + held.stderr
    own = (second.config.at.etc / "ledger.pub").read_text().strip()
    assert checker.check("proof", "--key", own, tmp_path / "proof.json").returncode == 21
    with contextlib.closing(open_ledger(second.config, ACTIONS)) as ledger:
        read = ledger.find("evidence.read")[0]
    assert (read.body["ledger"], read.body["how"]) == (key.partition("+")[0], "prove")
    later = two("prove", "req_later")
    assert later.code == 92
    assert "the mirror of one" in later.out
    named = two("prove", "req_last", "--of", "one")
    assert (named.code, "✓ mirror" in named.out) == (0, True)
    assert two("prove", "req_last", "--of", "three").code == 2
    as_json(two, "standby", "part", "one", "--by", "Eva Rossi", "--by", "Finn Olsen", "--reason", "it burnt")
    assert two("prove", "req_last").code == 0
    for name in ("promoter", "ledger"):
        second.end(name)
    offline = two("prove", "req_last", "--of", key.partition("+")[0])
    assert (offline.code, "✓ mirror" in offline.out) == (0, True), offline.out


def test_the_records_of_a_lost_box_are_read_and_handed_over_from_its_mirror(
    boxes: tuple[RunningSite, RunningSite],
    homes: dict[str, Path],
    tmp_path: Path,
    introduced: Introduced,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = boxes
    one, two = introduced("primary", "standby")
    digest = bring(first, 1)
    bring(second, 1)
    serve(one, digest, homes)
    record_answer(first, digest, 1, "req_last")
    carry(one, two, tmp_path / "bundle")
    key, own = ((box.config.at.etc / "ledger.pub").read_text().strip() for box in boxes)
    for name in ("promoter", "ledger"):
        first.end(name)
    run = runner(second, capsys, more=(audit,))

    listed = as_json(run, "audit", "list", "--of", "one", "--request", "req_last")
    assert [leaf["kind"] for leaf in listed["leaves"]] == ["request.outcome", "request.intent"]
    assert (listed["box"], listed["signed"]) == ("one", listed["held"])
    assert "the mirror of one" in run("audit", "list", "--of", key.partition("+")[0], "--limit", "1").out
    shown = run("audit", "show", str(listed["leaves"][0]["sequence"]), "--of", "one")
    assert (shown.code, "signed by" in shown.out, "the mirror of one" in shown.out) == (0, True, True)
    verified = run("audit", "verify", "--of", "one")
    assert (verified.code, "are in it" in verified.out, "not covered" in verified.out) == (0, True, False), verified.out
    printed = tmp_path / "printed.txt"
    printed.write_text(run("audit", "checkpoint", "--of", "one").out)
    assert "would hold" in run("audit", "export", str(tmp_path / "out"), "--of", "one", "--dry-run").out
    made = as_json(run, "audit", "export", str(tmp_path / "out"), "--of", "one", "--printed", str(printed))

    words = ("ledger", "--unrecorded", "--key", key, "--key", own, "--printed", printed, tmp_path / "out")
    held = checker.check(*words)
    assert held.returncode == 0, held.stdout + held.stderr
    told = ("HOLDS", "mirror        the records of", "taken         the first", "from outside  2 checkpoints agree")
    assert all(word in held.stdout for word in told), held.stdout
    with contextlib.closing(open_ledger(second.config, ACTIONS)) as ledger:
        (exported,) = ledger.find("evidence.exported")
        read = ledger.find("evidence.read")
    assert (exported.sequence, exported.body["ledger"]) == (made["record"], made["origin"])
    assert {leaf.body["ledger"] for leaf in read} == {made["origin"]}
    assert "From the mirror of" in (tmp_path / "out" / "report.html").read_text()
    assert run("audit", "list", "--of", "three").code == 2
