"""What may load and what may be deleted where production has several lines."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import ConflictError, NotPromotedError
from appliance.promote.record import Kind
from appliance.promote.standing import current_digest, loadable_digests, require_loadable, require_promoted, sharers_of
from media import canonical
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

A, B, C, D, EVIL = (digest(name) for name in ("A", "B", "C", "D", "evil"))
ANA, BEN, *_ = signatories()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = open_site(tmp_path)
    made.promote(A)
    return made


def test_each_line_s_version_stands_by_its_own_last_promotion(site: Site) -> None:
    number = lines.open_line(site, C)
    site.promote(B)

    first, other = require_promoted(site.config.at, B), require_promoted(site.config.at, C)
    assert (first.number, first.kind, other.number, other.kind) == (3, "made", number, "made")
    assert other.people == (ANA.name, BEN.name)
    assert other.weights_digest == digest("weights" + C)
    assert (current_digest(site.config.at), loadable_digests(site.config.at)) == (B, (B, C))
    with pytest.raises(NotPromotedError) as refused:
        require_promoted(site.config.at, A)
    assert refused.value.why == f"{B[:12]} and {C[:12]} are in production"


def test_a_canary_of_a_further_line_may_load_and_is_not_in_production(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)

    assert require_loadable(site.config.at, D).kind == "canary-started"
    assert require_loadable(site.config.at, A).kind == "made"
    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, D)


def test_what_one_line_stopped_does_not_load_and_the_others_do(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.stop_line(site, 1)

    with pytest.raises(NotPromotedError):
        require_loadable(site.config.at, A)
    assert require_loadable(site.config.at, C).number == number
    assert (current_digest(site.config.at), loadable_digests(site.config.at)) == (None, (C,))
    lines.record(site, Kind.STOPPED, {"previous": None, **lines.alone()})
    for version in (A, C):
        with pytest.raises(NotPromotedError):
            require_loadable(site.config.at, version)


def test_a_line_that_nobody_signed_for_loads_nothing(site: Site) -> None:
    """Scenario: someone who may write into the promoter's folder opens a line, or fills one, with old signatures."""
    number = lines.open_line(site, C)
    honest = site.folder.production().promotions[-1]
    statement = canonical.loads(honest.statement.encode())
    evil = {**statement, "model_digest": EVIL, "nonce": "f" * 32}
    for place, replaces, previous in ((3, None, None), (number, C, C)):
        production = site.folder.production()
        forged = replace(
            honest,
            number=3,
            before=production.before,
            sequence=production.promotions[-1].sequence + 1,
            line=place,
            previous=previous,
            model_digest=EVIL,
            statement=canonical.dumps({**evil, "replaces": replaces}).decode(),
        )
        site.folder.save_promotion(forged)
        assert EVIL in loadable_digests(site.config.at)
        with pytest.raises(NotPromotedError):
            require_loadable(site.config.at, EVIL)
        assert require_loadable(site.config.at, A).number == 1
        (site.folder.path / "promotions/000003.json").unlink()


@pytest.mark.parametrize("moved", [{"line": 3, "previous": None}, {"line": None, "previous": A}])
def test_what_was_signed_is_moved_to_no_other_line(site: Site, moved: dict[str, object]) -> None:
    """Scenario: someone who may write into the promoter's folder changes the number of a line in a file."""
    number = lines.open_line(site, C)
    lines.bring(site, D, number)
    path = site.folder.path / "promotions/000003.json"
    fields = canonical.loads(path.read_bytes())
    fields = {**fields, **moved, "format": 3 if moved["line"] else 1}
    path.write_bytes(canonical.dumps({name: one for name, one in fields.items() if (name, one) != ("line", None)}))

    for version in (A, C, D):
        with pytest.raises(NotPromotedError, match="does not follow"):
            require_loadable(site.config.at, version)


def test_what_any_line_needs_is_not_deleted(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.bring(site, D, number)
    for version, why in ((D, "it is in production"), (C, "it is the version to go back to (previous)")):
        with pytest.raises(ConflictError) as refused:
            site.client.decide_model("delete", version, person=ANA.id, reason="x")
        assert refused.value.why == why

    lines.start_canary(site, B, number)
    with pytest.raises(ConflictError) as refused:
        site.client.decide_model("delete", B, person=ANA.id, reason="x")
    assert "it runs as a canary (candidate)" in refused.value.why
    lines.cut_over(site, number)
    with pytest.raises(ConflictError) as refused:
        site.client.decide_model("delete", D, person=ANA.id, reason="x")
    assert "it is kept beside production for the watch" in refused.value.why
    site.client.decide_model("delete", C, person=ANA.id, reason="x")


def test_the_last_stop_says_which_versions_it_withdrew(site: Site) -> None:
    number = lines.open_line(site, C)
    assert site.folder.production().withdrawn == ()
    lines.stop_line(site, number)
    assert site.folder.production().withdrawn == (C,)
    lines.bring(site, D, number)
    lines.stop_line(site, 1)
    assert site.folder.production().withdrawn == (A,)
    lines.stop_line(site, number)
    assert site.folder.production().withdrawn == (D,)
    site.promote(B)
    lines.bring(site, C, number)
    lines.record(site, Kind.STOPPED, {"previous": B, **lines.alone()})
    assert site.folder.production().withdrawn == (B, C)


def test_cores_are_shared_by_lines_and_line_1_s_part_by_its_engines(site: Site) -> None:
    assert [sharers_of(site.config.at, A[:12], engines) for engines in (1, 3)] == [1, 3]
    number = lines.open_line(site, C)
    assert [sharers_of(site.config.at, version[:12], 3) for version in (A, C)] == [6, 2]
    lines.stop_line(site, number)
    assert sharers_of(site.config.at, A[:12], 3) == 3
