"""People judge sampled answers on the page: blinded for each of them apart, kept as they go, handed in by password."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from appliance.actions import judgements
from appliance.audit.rights import ACTIONS, ADMIN, BENCH, PROMOTER, require_may_append
from appliance.errors import LedgerRefusedError
from appliance.promote.desk import ADMIN_DOOR
from appliance.promote.sheet import JUDGED, Judgement
from appliance.wire import RemoteError
from media.errors import MalformedError
from tests.support.adminpage import logged_in, token
from tests.support.doors import Door
from tests.support.judging import Judging, open_judging
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()


@pytest.fixture(scope="module")
def judging() -> Iterator[Judging]:
    with open_judging() as opened:
        yield opened


@pytest.fixture
def path(judging: Judging) -> Iterator[str]:
    yield f"/versions/{judging.digest}/answers"
    for person in (ANA.id, BEN.id):
        judging.sitting(person).forget()


def browser(judging: Judging, person: str = ANA.id) -> FlaskClient:
    return logged_in(judging.page(), next(one for one in (ANA, BEN) if one.id == person))


def post(made: FlaskClient, path: str, **form: Any) -> Any:
    return made.post(path, data={"csrf": token(made, "/"), **form})


def judge_all(judging: Judging, made: FlaskClient, path: str, person: str = ANA.id) -> None:
    for place in range(1, judging.sitting(person).size + 1):
        entry = judging.sitting(person).entry(place)
        points = {"point-1": "1"} if entry.criteria else {}
        assert post(made, f"{path}/{place}", choice=entry.choices[0], **points).status_code == 302


def test_what_is_shown_tells_neither_which_side_is_which_nor_whose_it_is(judging: Judging, path: str) -> None:
    made = browser(judging)
    for place in range(1, 5):
        text = made.get(f"{path}/{place}").text
        assert judging.other not in text
        assert judging.floor.site.config.site in text
        assert "own" not in re.findall(r'(?:value|name|id)="([^"]*)"', text)


def test_each_judge_has_an_order_and_sides_of_their_own_and_the_same_ones_again(judging: Judging, path: str) -> None:
    del path
    seen = {}
    for number in range(40):
        sitting = judging.sitting(f"judge-{number}")
        entries = [sitting.entry(place) for place in range(1, sitting.size + 1)]
        assert sorted(one.number for one in entries) == [1, 2, 3, 4]
        seen[tuple((one.number, one.sides) for one in entries)] = number
        assert entries == [judging.sitting(f"judge-{number}").entry(place) for place in range(1, sitting.size + 1)]
    assert len({tuple(number for number, _ in one) for one in seen}) > 1


def test_that_answers_were_shown_is_recorded_before_and_never_their_text(judging: Judging, path: str) -> None:
    made = browser(judging)
    before = judging.floor.site.ledger.head().size

    made.get(f"{path}/2")

    leaf = judging.floor.site.ledger.leaf(before + 0)
    assert leaf.kind == "admin.answers-shown"
    assert set(leaf.body) == {"person", "model_digest", "sheet", "entry"}
    assert leaf.body["person"] == ANA.id


def test_what_is_chosen_is_kept_over_a_restart_of_the_page_and_apart_for_each_judge(
    judging: Judging, path: str
) -> None:
    made = browser(judging)
    choice = judging.sitting(ANA.id).entry(3).choices[-1]
    assert post(made, f"{path}/3", choice=choice).headers["Location"].endswith("/4")

    again = browser(judging)  # another process: nothing of the first is left but the files

    assert "1 of 4 judged" in again.get(path).text
    assert f'value="{choice}" required checked' in again.get(f"{path}/3").text
    assert "0 of 4 judged" in browser(judging, BEN.id).get(path).text
    post(again, f"{path}/3", choice=judging.sitting(ANA.id).entry(3).choices[0])
    assert judging.sitting(ANA.id).entry(3).choice != choice


def test_a_judgement_counts_as_a_whole_with_the_persons_password_and_lands_with_the_commands(
    judging: Judging, path: str
) -> None:
    made, ledger = browser(judging), judging.floor.site.ledger
    assert post(made, f"{path}/hand-in", password=PASSWORD).status_code == 400
    judge_all(judging, made, path)
    assert post(made, f"{path}/hand-in", password="guessed").status_code == 400
    assert ledger.find(kind=JUDGED) == []

    assert post(made, f"{path}/hand-in", password=PASSWORD).status_code == 302

    [leaf] = ledger.find(kind=JUDGED)
    body = leaf.body
    assert (body["person"], body["model_digest"], body["person_class"]) == (ANA.id, judging.digest, "password")
    assert body["better"] + body["worse"] + body["same"] == 3
    assert (body["good"], body["points"], body["of_points"]) == (1, 1, 2)
    assert "0 of 4 judged" in made.get(path).text  # what was kept is gone
    report = judging.floor.validate(_descriptor(judging))
    assert report.figures_of("human-review")["reviewers"] == [ANA.id]


def _descriptor(judging: Judging) -> Any:
    class Named:
        model_digest = judging.digest

    return Named


@pytest.mark.parametrize(
    ("place", "form", "status"),
    [
        ("1", {"choice": "third"}, 400),
        ("1", {}, 400),
        ("0", {"choice": "first"}, 404),
        ("99", {"choice": "first"}, 404),
        ("x", {"choice": "first"}, 404),
    ],
)
def test_what_the_form_does_not_offer_is_refused(
    judging: Judging, path: str, place: str, form: dict[str, str], status: int
) -> None:
    assert post(browser(judging), f"{path}/{place}", **form).status_code == status
    assert judging.sitting(ANA.id).judged() == ()


def test_strangers_forms_of_others_and_unknown_versions_get_nothing(judging: Judging, path: str) -> None:
    stranger = judging.page().test_client()
    assert stranger.get(path).status_code == 302
    assert browser(judging).post(f"{path}/1", data={"choice": "first"}).status_code == 403
    assert browser(judging).get("/versions/" + "0" * 64 + "/answers").status_code == 404


def test_a_damaged_choice_is_judged_again_and_control_characters_are_spelled(judging: Judging, path: str) -> None:
    del path
    sitting = judging.sitting(ANA.id)
    sitting.keep(1, sitting.entry(1).choices[0], [0] * len(sitting.entry(1).criteria))
    next(sitting.drafts.glob("*.json")).write_bytes(b"{")

    assert sitting.judged() == ()
    assert judgements.visible("a\x1b[2J\u202eb\n") == "a<U+001B>[2J<U+202E>b\n"
    with pytest.raises(MalformedError):
        sitting.told()


def test_a_judgement_of_an_older_sheet_is_refused_by_the_promoter(judging: Judging) -> None:
    door = Door(judging.floor.site.desk, ADMIN_DOOR)
    counts = dict.fromkeys(Judgement.__dataclass_fields__, 0)
    said = {"model_digest": judging.digest, "form_sha256": "0" * 64, "person": ANA.id, "password": PASSWORD}

    with pytest.raises(RemoteError, match="newest validation"):
        door.call("answers-judged", sheet="0" * 64, counts=counts, **said)
    for wrong in ({**counts, "good": -1}, {**counts, "good": 10**9}, {"good": 1}):
        with pytest.raises(RemoteError):
            door.call("answers-judged", sheet=judging.sitting(ANA.id).sheet.sha256, counts=wrong, **said)


def test_only_the_promoter_and_roots_commands_may_say_that_somebody_judged() -> None:
    for door in (PROMOTER, ACTIONS):
        require_may_append(door, JUDGED)
    for door in (ADMIN, BENCH):
        with pytest.raises(LedgerRefusedError):
            require_may_append(door, JUDGED)
