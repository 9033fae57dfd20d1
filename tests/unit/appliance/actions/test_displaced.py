"""Whoever signs is told what goes away for it and what stays."""

import pytest
from sqlalchemy import Engine

from appliance.actions.displaced import displaced, sentence
from appliance.audit.memory import MemoryLedger
from appliance.promote.destination import Said
from appliance.registry import catalog
from appliance.state import projection
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies

DIGEST_C, DIGEST_D = "c" * 64, "d" * 64
NAMES = {DIGEST_A: "chat", DIGEST_B: "chat", DIGEST_C: "classes", DIGEST_D: "embedder"}


def in_production(state: Engine, *served: tuple[str, int], stopped: int = 0) -> None:
    ledger = MemoryLedger()
    for digest, name in NAMES.items():
        ledger.append("model.registered", {**bodies(digest)["model.registered"], "name": name})
    for digest, number in served:
        line = {} if number == 1 else {"line": number}
        ledger.append("promotion.made", {**bodies(digest)["promotion.made"], "previous": None, **line})
    if stopped:
        ledger.append("promotion.stopped", {**bodies(served[0][0])["promotion.stopped"], "line": stopped})
    projection.catch_up(state, ledger)


def said_of(state: Engine, said: Said, digest: str) -> tuple[str, str]:
    with state.connect() as session:
        gone = displaced(session, said)
        words = sentence(session, said, catalog.version(session, digest))
    return "" if gone is None else gone.model_digest, words


LOST = "classes goes away, and callers that ask for it by that name get `model_not_found`"


@pytest.mark.parametrize(
    ("said", "digest", "gone", "words"),
    [
        (Said(), DIGEST_B, DIGEST_A, "takes the place of chat 1; classes 1 stays"),
        (
            Said(beside=True),
            DIGEST_D,
            "",
            "comes beside what is in production: chat 1 and classes 1 stay, nothing goes away",
        ),
        (
            Said(replaces=DIGEST_C),
            DIGEST_D,
            DIGEST_C,
            f"takes the place of classes 1: {LOST}; chat 1 stays",
        ),
    ],
)
def test_of_two_models_it_is_said_which_goes_and_which_stays(
    state: Engine, said: Said, digest: str, gone: str, words: str
) -> None:
    in_production(state, (DIGEST_A, 1), (DIGEST_C, 2))

    assert said_of(state, said, digest) == (gone, words)


def test_with_one_model_it_is_said_only_that_another_name_goes_away(state: Engine) -> None:
    in_production(state, (DIGEST_A, 1))

    assert said_of(state, Said(), DIGEST_B) == (DIGEST_A, "")
    assert said_of(state, Said(), DIGEST_C)[1].startswith("takes the place of chat 1: chat goes away")


def test_who_opens_the_first_further_line_is_told_that_there_is_no_way_back(state: Engine) -> None:
    in_production(state, (DIGEST_A, 1))

    words = "comes beside what is in production: chat 1 stays, nothing goes away"
    no_way_back = "from then on no release is installed here that knows one model only"
    assert said_of(state, Said(beside=True), DIGEST_C) == ("", f"{words}; {no_way_back}")


def test_of_a_line_that_was_stopped_nothing_goes_away(state: Engine) -> None:
    in_production(state, (DIGEST_A, 1), (DIGEST_C, 2), stopped=2)

    words = "takes the place of classes 1, which was stopped: chat 1 stays, nothing goes away"
    assert said_of(state, Said(replaces=DIGEST_C), DIGEST_D) == ("", words)
    # The version that was stopped comes back.
    back = "comes beside what is in production: chat 1 stays, nothing goes away"
    assert said_of(state, Said(replaces=DIGEST_C), DIGEST_C) == ("", back)


def test_it_is_told_too_where_everything_was_stopped(state: Engine) -> None:
    in_production(state, (DIGEST_A, 1), stopped=1)

    assert said_of(state, Said(beside=True), DIGEST_C)[1].startswith(
        "comes beside what was stopped; from then on no release"
    )
    assert said_of(state, Said(), DIGEST_B)[1] == ""


def test_before_the_first_version_nothing_goes_and_nothing_stays(state: Engine) -> None:
    in_production(state)

    assert said_of(state, Said(), DIGEST_A) == ("", "")
