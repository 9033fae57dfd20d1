"""Several models in production: what people ask for, approve, go back from and stop, each in its own line."""

from pathlib import Path

import pytest

from appliance.errors import ConflictError, NotPromotedError
from appliance.promote.record import Kind
from appliance.promote.statement import FORMAT
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
