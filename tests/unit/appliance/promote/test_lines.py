"""Several lines over one chain: what people signed decides which line a version comes into, and no number does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ApprovalRefusedError, NotPromotedError
from appliance.promote.books import Books
from appliance.promote.history import Production, replay
from appliance.promote.record import Kind, Promotion
from appliance.promote.statement import FORMAT, LINE_FORMAT, Statement
from appliance.promote.terms import Terms
from media import canonical
from media.errors import MalformedError
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.unit.appliance.promote.test_record import alone, made, with_a_and_b
from tests.unit.appliance.promote.test_statement import STATEMENT

A, B, C, D = (digest(name) for name in "ABCD")
FURTHER = replace(STATEMENT, format=LINE_FORMAT)


@contextmanager
def refused(why: str) -> Iterator[None]:
    """What is in it does not follow, for this reason."""
    with pytest.raises(NotPromotedError) as found:
        yield
    assert why in found.value.why


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = open_site(tmp_path)
    made.promote(A)
    return made


def test_a_statement_of_format_3_comes_back_and_says_what_it_replaces() -> None:
    for replaces in (None, A):
        statement = replace(FURTHER, replaces=replaces)
        assert Statement.from_bytes(statement.to_bytes()) == statement
        assert json.loads(statement.to_bytes())["replaces"] == replaces
    assert FURTHER.sha256 != replace(FURTHER, replaces=A).sha256
    assert STATEMENT.format == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": 1},
        {"format": 4},
        {"format": True},
        {"format": "3"},
        {"replaces": ""},
        {"replaces": "x"},
        {"replaces": 1},
        {"replaces": [A]},
    ],
)
def test_a_statement_of_format_3_cannot_pass_for_another(changes: dict[str, Any]) -> None:
    fields = {**json.loads(FURTHER.to_bytes()), **changes}

    with pytest.raises((ApprovalRefusedError, MalformedError)):
        Statement.from_bytes(canonical.dumps(fields))


@pytest.mark.parametrize("missing", ["replaces", "request"])
def test_a_statement_of_format_3_says_all_it_must(missing: str) -> None:
    fields = {name: value for name, value in json.loads(FURTHER.to_bytes()).items() if name != missing}

    with pytest.raises((ApprovalRefusedError, MalformedError)):
        Statement.from_bytes(canonical.dumps(fields))


def test_a_statement_of_a_further_line_never_leads_into_line_1(site: Site) -> None:
    production = site.folder.production()

    assert production.signed_for(replace(FURTHER, replaces=A)) is None
    assert production.signed_for(STATEMENT) is production.first


def test_a_record_of_a_further_line_is_of_format_3_and_every_other_keeps_its_own() -> None:
    production = with_a_and_b()
    rollout: dict[str, Any] = {"kind": Kind.CANARY_HELD, "terms": Terms(version=A), "model_digest": B}
    held = replace(alone(production, Kind.STOPPED, None), **rollout)
    for promotion, wanted in (
        (made(production, A), 1),
        (held, 2),
        (made(production, A, line=3), 3),
        (replace(held, line=3), 3),
        (alone(production, Kind.STOPPED, None, line=1), 3),
    ):
        assert json.loads(promotion.to_bytes())["format"] == promotion.format == wanted
        assert Promotion.from_bytes(promotion.to_bytes()) == promotion
        assert ("line" in promotion.to_json()) == (wanted == 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"format": 2},
        {"format": 4},
        {"line": None},
        {"line": 0},
        {"line": 1},
        {"line": -1},
        {"line": True},
        {"line": "3"},
    ],
)
def test_a_record_of_a_further_line_cannot_pass_for_another(changes: dict[str, Any]) -> None:
    fields = {**json.loads(made(with_a_and_b(), C, line=3).to_bytes()), **changes}

    with pytest.raises(MalformedError):
        Promotion.from_bytes(canonical.dumps(fields))


def test_a_record_without_a_line_cannot_pass_for_format_3() -> None:
    for promotion in (made(with_a_and_b(), C), alone(with_a_and_b(), Kind.STOPPED, None)):
        for changes in ({"format": 3}, {"format": 3, "line": None}, {"line": None}, {"line": 1}, {"line": 3}):
            with pytest.raises(MalformedError):
                Promotion.from_bytes(canonical.dumps({**json.loads(promotion.to_bytes()), **changes}))


def test_files_of_a_site_with_one_line_are_byte_for_byte_what_they_were() -> None:
    """What these digests name lies on machines that were released; each file holds the digest of the one before."""
    production = with_a_and_b()
    start: dict[str, Any] = {
        "kind": Kind.CANARY_STARTED,
        "terms": Terms(version=A, percent=20, hours=48, watch_hours=48),
    }
    wanted = {
        "made": made(Production(), A),
        "rolled-back": alone(production, Kind.ROLLED_BACK, A),
        "stopped": alone(production, Kind.STOPPED, None),
        "canary-started": made(production, B, **start),
    }
    frozen = {
        "made": "fe142c9992e5e36c",
        "rolled-back": "2688d01a9501804d",
        "stopped": "02cc0ca7695d98a8",
        "canary-started": "b2497768b8469258",
    }
    found = {name: sha256(one.to_bytes()).hexdigest()[:16] for name, one in wanted.items()}

    assert found == frozen
    assert STATEMENT.sha256[:16] == "f9c3d8247a203990"


def test_a_line_is_opened_by_what_was_signed_and_has_its_promotions_number(site: Site) -> None:
    number = lines.open_line(site, C)
    production = site.folder.production()

    assert (number, production.loadable, production.current) == (2, (A, C), A)
    assert production.lines[2].versions == [C]


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ({"replaces": A}, {}),
        ({"replaces": B}, {}),
        ({"format": 2}, {}),
        ({"format": 1}, {}),
        ({}, {"line": None}),
        ({}, {"line": 3}),
        ({}, {"line": 7}),
        ({}, {"previous": A}),
        ({"model_digest": D}, {}),
        ({"model_digest": A}, {"model_digest": A}),
    ],
)
def test_no_line_is_opened_by_its_number_alone(site: Site, statement: dict[str, Any], changes: dict[str, Any]) -> None:
    """Scenario: someone who may write records has people's signatures for something else."""
    body = lines.signed(site, lines.statement_of(site, C, **statement)) | {"model_digest": C, "line": 2}
    before = site.ledger.head().size

    with pytest.raises(NotPromotedError):
        lines.record(site, Kind.MADE, {"previous": None, **body, **changes})
    assert site.ledger.head().size == before
    assert site.folder.production().loadable == (A,)


def test_the_first_promotion_of_a_site_opens_no_further_line() -> None:
    statement = FURTHER.to_bytes().decode()
    for line in (None, 1, 2):
        with pytest.raises(NotPromotedError):
            replay([made(Production(), STATEMENT.model_digest, statement=statement, line=line)])


def test_no_canary_opens_a_line(site: Site) -> None:
    body = lines.signed(site, lines.statement_of(site, C)) | {"line": 2, "previous": None}
    terms = Terms(version=C, percent=20, hours=48, watch_hours=48).to_json()

    for beside in (None, A, C):
        with pytest.raises((NotPromotedError, MalformedError)):
            lines.record(site, Kind.CANARY_STARTED, body | {"terms": terms, "model_digest": beside})


def test_a_successor_takes_its_predecessors_place_and_one_goes_back_in_its_line_alone(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.bring(site, D, number)
    assert site.folder.production().loadable == (A, D)

    site.promote(B)
    production = site.folder.production()
    assert (production.loadable, production.returnable) == ((B, D), (A,))
    assert production.returnable_in(production.lines[number]) == (C,)
    with pytest.raises(NotPromotedError):
        lines.go_back(site, A, number)
    lines.go_back(site, C, number)
    assert site.folder.production().loadable == (B, C)


@pytest.mark.parametrize("replaces", [None, A, B])
def test_what_was_signed_for_one_line_comes_into_no_other(site: Site, replaces: str | None) -> None:
    number = lines.open_line(site, C)
    body = lines.signed(site, lines.statement_of(site, D, replaces=replaces))

    for place in ({"line": number, "previous": C}, {"previous": A}):
        with pytest.raises(NotPromotedError):
            lines.record(site, Kind.MADE, body | place)


def test_a_statement_for_line_1_is_of_format_2_and_moves_no_further_line(site: Site) -> None:
    number = lines.open_line(site, C)
    body = lines.signed(site, lines.statement_of(site, D, format=2))

    with pytest.raises(NotPromotedError):
        lines.record(site, Kind.MADE, body | {"line": number, "previous": C})
    lines.record(site, Kind.MADE, body | {"previous": A})
    assert site.folder.production().loadable == (D, C)


def test_a_nonce_is_used_once_in_all_lines(site: Site) -> None:
    number = lines.open_line(site, C)
    used = lines.statement_of(site, D, replaces=C)
    lines.record(site, Kind.MADE, lines.signed(site, used) | {"line": number, "previous": C})
    again = replace(used, format=2, replaces=None, model_digest=B)

    with pytest.raises(NotPromotedError):
        lines.record(site, Kind.MADE, lines.signed(site, again) | {"previous": A})


def test_no_version_is_in_two_lines(site: Site) -> None:
    number = lines.open_line(site, C)
    for place in ({"replaces": C}, {"replaces": None}):
        body = lines.signed(site, lines.statement_of(site, B, model_digest=A, **place))
        line = {"line": number if place["replaces"] else 3, "previous": place["replaces"]}
        with refused("another line"):
            lines.record(site, Kind.MADE, body | line)
    signed = lines.signed(site, lines.statement_of(site, C, format=FORMAT))
    with refused("another line"):
        lines.record(site, Kind.MADE, signed | {"previous": A})

    site.promote(B)
    lines.bring(site, A, number)
    production = site.folder.production()
    assert (production.loadable, production.returnable) == ((B, A), ())
    with pytest.raises(NotPromotedError):
        site.client.rollback(person="ana-petrova", reason="x", model_digest=A)


def test_a_stop_without_a_line_stops_all_and_one_with_it_that_one(site: Site) -> None:
    number = lines.open_line(site, C)
    other = lines.open_line(site, D)
    lines.stop_line(site, other)
    assert site.folder.production().loadable == (A, C)
    lines.stop_line(site, 1)
    assert site.folder.production().loadable == (C,)
    with pytest.raises(NotPromotedError):
        lines.stop_line(site, 1)

    lines.record(site, Kind.STOPPED, {"previous": None, **lines.alone()})
    assert site.folder.production().loadable == ()
    with pytest.raises(NotPromotedError):
        lines.record(site, Kind.STOPPED, {"previous": None, **lines.alone()})
    lines.bring(site, C, number)
    assert site.folder.production().loadable == (C,)


def test_the_first_line_is_named_in_a_stop_only_beside_another(site: Site) -> None:
    with pytest.raises(NotPromotedError):
        lines.stop_line(site, 1)
    lines.open_line(site, C)
    lines.stop_line(site, 1)
    site.promote(B)

    assert site.folder.production().loadable == (B, C)


def test_a_stopped_line_keeps_its_version_from_the_others_and_takes_two_people_back(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.stop_line(site, number)
    with pytest.raises(NotPromotedError):
        lines.open_line(site, C)
    with pytest.raises(NotPromotedError):
        lines.go_back(site, C, number)

    lines.bring(site, C, number)
    assert site.folder.production().loadable == (A, C)


def test_one_canary_runs_at_a_time_whichever_line(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    production = site.folder.production()
    assert (production.loadable, production.canary and production.canary.version) == ((A, C, D), D)
    request = site.approve(site.request(B), *signatories()[:2])
    body = lines.signed(site, request.statement) | {"previous": A, "model_digest": A}
    terms = Terms(version=B, percent=20, hours=48, watch_hours=48).to_json()
    with refused("alone"):
        lines.record(site, Kind.CANARY_STARTED, body | {"terms": terms})

    lines.cut_over(site, number)
    production = site.folder.production()
    line = production.lines[number]
    assert production.loadable == (A, D, C)
    assert (line.watch and line.watch.before, production.first.watch, production.first.beside) == (C, None, None)


def test_another_lines_change_ends_no_watch_and_no_canary(site: Site) -> None:
    number = lines.open_line(site, C)
    site.promote(B)
    lines.start_canary(site, D, number)
    watch = site.folder.production().first.watch
    assert watch is not None

    lines.record(site, Kind.ROLLED_BACK, {"previous": B, "model_digest": A, **lines.alone()})
    production = site.folder.production()
    assert (production.first.watch, production.loadable) == (None, (A, C, D))
    assert production.lines[number].canary is not None


def test_an_approval_for_another_line_is_none_for_this_one(site: Site) -> None:
    number = lines.open_line(site, C)
    site.promote(B)
    lines.bring(site, A, number)
    lines.bring(site, D, number)
    site.client.rollback(person="ana-petrova", reason="x", model_digest=A, line="tiny")

    found = site.folder.production().made_for(A)
    assert found is not None
    assert (found.number, found.line) == (1, None)


def test_what_a_crash_left_undone_is_finished_from_the_ledger_in_its_line(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.bring(site, D, number)
    files = sorted((site.folder.path / "promotions").iterdir())
    written = [path.read_bytes() for path in files]
    for path in files[1:]:
        path.unlink()

    _, production = Books(site.folder, site.ledger).catch_up()
    assert production.loadable == (A, D)
    assert [path.read_bytes() for path in sorted((site.folder.path / "promotions").iterdir())] == written
