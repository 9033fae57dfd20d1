"""Several models in production: what people ask for, approve, go back from and stop, each in its own line."""

from pathlib import Path

import pytest

from appliance.errors import ConflictError, NotEnoughApprovalsError, NotPromotedError
from appliance.promote.policy import packaged
from appliance.promote.record import Kind
from appliance.promote.standing import require_promoted
from appliance.promote.statement import FORMAT, LINE_FORMAT
from appliance.promote.validated import require_validated
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()
A, B, C, D, E = (digest(name) for name in "ABCDE")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A chat model in line 1, a model for classes beside it."""
    made = open_site(tmp_path)
    made.promote(A)
    lines.open_line(made, made.request(C))
    made.validate(C, name="classes")
    return made


def standing(site: Site) -> dict[int, str | None]:
    return {one["line"]: one["model_digest"] for one in site.client.current()["lines"]}


def test_what_happens_in_another_line_voids_no_approvals(site: Site) -> None:
    waiting = site.approve(site.request(B), ANA, BEN)
    lines.bring(site, D, 2)

    assert [one.statement.sha256 for one in site.client.pending()] == [waiting.statement.sha256]
    promotion = site.client.promote(waiting.statement.sha256)

    assert (promotion.line, promotion.previous, promotion.format) == (None, A, 1)
    assert waiting.statement.format == FORMAT
    assert standing(site) == {1: B, 2: D}


def test_a_change_of_its_own_line_or_a_stop_of_all_voids_them(site: Site) -> None:
    waiting = site.approve(site.request(B), ANA, BEN)
    site.client.stop(person=ANA.id, reason="a bad night")

    assert site.client.pending() == ()
    with pytest.raises(ConflictError):
        site.client.promote(waiting.statement.sha256)


def test_one_line_goes_back_by_the_name_of_its_model(site: Site) -> None:
    site.promote(B)
    lines.bring(site, D, 2)
    site.validate(D, name="classes")

    back = site.client.rollback(person=ANA.id, reason="worse", line="classes")

    assert (back.kind, back.line, back.model_digest, back.previous) == (Kind.ROLLED_BACK, 2, C, D)
    assert standing(site) == {1: B, 2: C}
    first = site.client.rollback(person=ANA.id, reason="worse", line="tiny")
    assert (first.line, first.model_digest, first.format) == (None, A, 1)
    assert standing(site) == {1: A, 2: C}


def test_which_line_goes_back_is_not_guessed(site: Site) -> None:
    site.promote(B)

    with pytest.raises(ConflictError) as refused:
        site.client.rollback(person=ANA.id, reason="worse")
    assert refused.value.why == "there is tiny (line 1), classes (line 2)"
    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA.id, reason="worse", line="embedder")
    assert standing(site) == {1: B, 2: C}


def test_a_named_version_says_which_line_goes_back(site: Site) -> None:
    lines.bring(site, D, 2)
    site.promote(B)

    assert site.client.rollback(person=ANA.id, reason="worse", model_digest=C).line == 2
    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA.id, reason="worse", model_digest=E)


def test_going_back_brings_no_name_of_another_line(site: Site) -> None:
    """Scenario: line 1 went from a model for classes to a chat model; classes has a line of its own since."""
    site.promote(B)
    site.validate(A, name="classes")

    with pytest.raises(ConflictError) as refused:
        site.client.rollback(person=ANA.id, reason="worse", line="tiny")
    assert "classes (line 2) holds it" in refused.value.why
    assert standing(site) == {1: B, 2: C}


def test_one_line_stops_and_the_other_goes_on(site: Site) -> None:
    stopped = site.client.stop(person=ANA.id, reason="wrong classes", line="classes")

    assert (stopped.line, stopped.previous, stopped.format) == (2, C, 3)
    assert standing(site) == {1: A, 2: None}
    with pytest.raises(ConflictError):
        site.client.stop(person=ANA.id, reason="again", line="classes")
    assert site.client.stop(person=ANA.id, reason="and this", line="tiny").line == 1
    with pytest.raises(ConflictError):
        site.client.stop(person=ANA.id, reason="again")


def test_a_stop_without_a_line_stops_every_line_also_where_the_first_is_stopped(site: Site) -> None:
    site.client.stop(person=ANA.id, reason="wrong answers", line="tiny")

    stopped = site.client.stop(person=ANA.id, reason="a bad night")

    assert (stopped.line, stopped.previous, stopped.format) == (None, None, 1)
    assert standing(site) == {1: None, 2: None}
    for name in ("classes", "tiny"):
        with pytest.raises(NotPromotedError):  # bringing a line's last version back takes two people
            site.client.rollback(person=ANA.id, reason="better now", line=name)


def test_a_site_with_one_line_writes_what_it_always_wrote(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.promote(A)
    site.promote(B)

    assert site.client.rollback(person=ANA.id, reason="worse", line="tiny").format == 1
    assert site.client.stop(person=ANA.id, reason="and out", line="tiny").format == 1


@pytest.fixture
def chat(tmp_path: Path) -> Site:
    """A site with one model, of the name tiny."""
    made = open_site(tmp_path)
    made.promote(A)
    return made


def test_two_people_open_a_second_line_beside_the_first(chat: Site) -> None:
    asked = chat.request(C, name="classes", beside=True)
    assert (asked.statement.format, asked.statement.replaces, asked.basis) == (LINE_FORMAT, None, 0)
    with pytest.raises(NotEnoughApprovalsError):
        chat.client.promote(chat.approve(asked, ANA).statement.sha256)

    opened = chat.client.promote(chat.approve(asked, BEN).statement.sha256)

    assert (opened.number, opened.line, opened.previous, opened.format) == (2, 2, None, 3)
    assert standing(chat) == {1: A, 2: C}
    assert require_promoted(chat.config.at, C).people == (ANA.name, BEN.name)
    assert chat.client.pending() == ()
    with pytest.raises(ConflictError):  # what people signed is carried out once
        chat.client.promote(asked.statement.sha256)


def test_a_successor_goes_to_the_line_of_its_name_and_the_other_line_s_approvals_stay_good(chat: Site) -> None:
    chat.promote(C, name="classes", beside=True)
    tiny, classes = chat.request(B), chat.request(D, name="classes")
    third = chat.request(E, name="embedder", beside=True)
    for asked in (tiny, classes, third):
        chat.approve(asked, ANA, BEN)
    assert (tiny.statement.format, classes.statement.replaces, third.statement.replaces) == (FORMAT, C, None)

    for asked, number in ((classes, 2), (tiny, None), (third, 5)):
        assert chat.client.promote(asked.statement.sha256).line == number

    assert standing(chat) == {1: B, 2: D, 5: E}


def test_of_two_approved_successors_in_one_line_one_wins(chat: Site) -> None:
    chat.promote(C, name="classes", beside=True)
    asked = [chat.approve(chat.request(one, name="classes"), ANA, BEN) for one in (D, E)]
    chat.client.promote(asked[0].statement.sha256)

    with pytest.raises(ConflictError):
        chat.client.promote(asked[1].statement.sha256)
    assert standing(chat) == {1: A, 2: D}


def test_a_stop_of_all_voids_the_approvals_for_a_line_that_is_not_open_yet(chat: Site) -> None:
    asked = chat.approve(chat.request(C, name="classes", beside=True), ANA, BEN)
    chat.client.stop(person=ANA.id, reason="a bad night")

    with pytest.raises(ConflictError):
        chat.client.promote(asked.statement.sha256)


def test_a_successor_of_another_name_takes_the_place_that_was_said(chat: Site) -> None:
    chat.promote(C, name="classes", beside=True)

    first, second = chat.promote(B, name="chatter", replaces="tiny"), chat.promote(D, name="tags", replaces="classes")

    assert (first.line, first.previous, first.format, second.line, second.previous) == (None, A, 1, 2, C)
    assert [one["name"] for one in chat.client.current()["lines"]] == ["chatter", "tags"]
    # A name that no line has any more is free.
    assert chat.promote(E, beside=True).line == 5


def test_what_becomes_of_what_is_in_production_is_not_guessed(chat: Site) -> None:
    with pytest.raises(ConflictError) as refused:
        chat.request(C, name="classes")
    assert refused.value.why == "no line has that name; there is tiny (line 1)"
    assert refused.value.fix.startswith(f"run `sealift promote {C[:12]}` with --beside, or with --replaces NAME")
    with pytest.raises(NotPromotedError):
        chat.request(C, name="classes", replaces="chat")
    with pytest.raises(ConflictError):
        chat.request(C, name="classes", replaces="tiny", beside=True)
    assert chat.client.pending() == ()


def test_one_name_is_in_one_line(chat: Site) -> None:
    chat.promote(C, name="classes", beside=True)

    for said in ({"beside": True}, {"replaces": "tiny"}):
        with pytest.raises(ConflictError) as refused:
            chat.request(D, name="classes", **said)
        assert refused.value.why == "classes (line 2) holds it, and callers ask by name"
    chat.client.stop(person=ANA.id, reason="wrong classes", line="classes")
    with pytest.raises(ConflictError) as refused:
        chat.request(D, name="classes", beside=True)
    assert refused.value.why.startswith("classes (line 2, stopped)")
    assert chat.promote(D, name="classes").line == 2


def test_a_name_that_another_line_took_meanwhile_is_refused_when_it_is_promoted(chat: Site) -> None:
    late = chat.approve(chat.request(D, name="classes", beside=True), ANA, BEN)
    chat.promote(C, name="classes", beside=True)

    with pytest.raises(ConflictError) as refused:
        chat.client.promote(late.statement.sha256)
    assert "classes (line 2) holds it" in refused.value.why
    assert standing(chat) == {1: A, 2: C}


def test_the_version_that_a_line_served_last_comes_back_by_two_people(chat: Site) -> None:
    chat.promote(C, name="classes", beside=True)
    chat.client.stop(person=ANA.id, reason="wrong classes", line="classes")
    with pytest.raises(NotPromotedError):
        chat.client.rollback(person=ANA.id, reason="it was right", line="classes")

    back = chat.promote(C, name="classes")

    assert (back.line, back.previous, back.format) == (2, None, 3)
    assert standing(chat) == {1: A, 2: C}


def test_the_first_version_and_one_after_a_stop_need_nothing_said(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    with pytest.raises(ConflictError):
        site.request(A, beside=True)
    site.promote(A)
    site.client.stop(person=ANA.id, reason="a bad night")

    assert site.promote(B, name="chat").format == 1
    assert standing(site) == {1: B}


def test_a_canary_of_one_line_does_not_keep_the_other_from_going_forward(chat: Site) -> None:
    chat.promote(C, name="classes", beside=True)
    canary, successor = chat.request(D, name="classes"), chat.request(B)
    for asked in (canary, successor):
        chat.approve(asked, ANA, BEN)
    started = chat.client.start_canary(canary.statement.sha256, percent=20, hours=48, watch_hours=48)
    assert (started.line, started.previous, started.model_digest) == (2, C, C)

    assert chat.client.promote(successor.statement.sha256).line is None
    blocked = chat.approve(chat.request(E, name="classes"), ANA, BEN)
    with pytest.raises(ConflictError):
        chat.client.promote(blocked.statement.sha256)


def test_no_line_is_opened_where_another_node_may_not_read_it(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.promote(A)
    asked = site.approve(site.request(C, name="classes", beside=True), ANA, BEN)
    database = site.config.database.model_copy(update={"node": "two"})
    site.config = site.config.model_copy(update={"database": database})
    site.restart()

    for attempt in (
        lambda: site.client.promote(asked.statement.sha256),
        lambda: site.request(D, name="tags", beside=True),
    ):
        with pytest.raises(ConflictError) as refused:
            attempt()
        assert "two did not say that it reads promotions of format 3" in refused.value.why
    assert site.promote(B).line is None


def test_what_is_asked_for_another_line_is_another_statement(chat: Site) -> None:
    beside = chat.request(C, name="classes", beside=True)
    validated = require_validated(chat.ledger, C, packaged())

    instead = chat.client.request(validated, meaning="serve it", requested_by=ANA.id, replaces="tiny")
    again = chat.client.request(validated, meaning="serve it", requested_by=ANA.id, beside=True)

    assert (beside.statement.format, instead.statement.format) == (LINE_FORMAT, FORMAT)
    assert again.statement.sha256 == beside.statement.sha256
