"""State has each line of production as the promoter's chain has it; aliases are line 1's."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, select

from appliance.promote.record import Kind
from appliance.registry import catalog
from appliance.registry.aliases import aliases
from appliance.state import lines as state_lines
from appliance.state import projection
from appliance.state.database import open_state
from appliance.state.rollouts import OPEN
from appliance.state.tables import Rollout
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

A, B, C, D, E = (digest(name) for name in "ABCDE")


def require_homes(site: Site, state: Engine) -> None:
    """Every version that a line has is at home there."""
    with state.connect() as session:
        found = state_lines.homes(session)
        stands = state_lines.standing(session)
    for number, line in site.folder.production().lines.items():
        tried = [] if line.canary is None else [line.canary.version]
        for version in [*([] if line.current is None else [line.current]), *tried]:
            assert found[version] == number
        assert (stands[number].last, stands[number].is_stopped) == (line.newest, line.current is None)


def require_same(site: Site, state: Engine) -> None:
    """State says of each line what the chain says."""
    projection.catch_up(state, site.ledger)
    production = site.folder.production()
    with state.connect() as session:
        assert state_lines.served(session) == {one.number: one.current for one in production.serving}
        assert state_lines.versions(session) == {one.number: one.versions for one in production.lines.values()}
        assert catalog.in_production(session) == production.current
        found = aliases(session)
        opened = select(Rollout.line, Rollout.state, Rollout.model_digest, Rollout.control)
        rows = {(line or 1): rest for line, *rest in session.execute(opened.where(Rollout.state.in_(OPEN)))}
    first = production.first
    assert found.get("production") == first.current
    assert found.get("previous") == next(iter(production.returnable), None)
    assert found.get("candidate") == (first.canary.version if first.canary else None)
    wanted: dict[int, list[str | None]] = {}
    for one in production.lines.values():
        if one.canary is not None:
            wanted[one.number] = ["held" if one.canary.is_held else "running", one.canary.version, one.canary.control]
        elif one.beside is not None:
            wanted[one.number] = ["beside", one.current, one.beside.version]
    assert rows == wanted


def test_state_follows_every_line_as_the_chain_does(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    state = open_state(site.config.at)
    site.promote(A)
    steps: list[Callable[[], object]] = [
        lambda: lines.open_line(site, C),
        lambda: lines.start_canary(site, D, 2),
        lambda: lines.cut_over(site, 2),
        lambda: site.promote(B),
        lambda: lines.go_back(site, C, 2),
        lambda: lines.bring(site, A, 2),
        lambda: lines.open_line(site, E),
        lambda: lines.stop_line(site, 1),
        lambda: site.promote(D),
        lambda: lines.stop_line(site, 2),
        lambda: lines.record(site, Kind.STOPPED, {"previous": D, **lines.alone()}),
        lambda: lines.bring(site, A, 2),
        lambda: site.client.rollback(person="ana-petrova", reason="x", model_digest=B),
    ]
    for step in steps:
        step()
        require_same(site, state)
        require_homes(site, state)
    projection.rebuild(state, site.ledger)
    require_same(site, state)
    state.dispose()


def test_a_change_of_one_line_ends_no_rollout_of_another(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    state = open_state(site.config.at)
    site.promote(A)
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    lines.cut_over(site, number)
    site.approve(request := site.request(B), *signatories()[:2])
    site.client.start_canary(request.statement.sha256, percent=20, hours=2, watch_hours=2)
    require_same(site, state)
    for step in ("hold", "resume", "hold", "abort"):
        site.client.step_canary(step, person="ana-petrova", reason="x")
        require_same(site, state)
    site.approve(request := site.request(B, meaning="again"), *signatories()[:2])
    site.client.start_canary(request.statement.sha256, percent=20, hours=2, watch_hours=2)
    lines.record(site, Kind.ROLLED_BACK, {"previous": D, "model_digest": C, "line": number, **lines.alone()})
    require_same(site, state)
    site.client.step_canary("abort", person="ana-petrova", reason="x")
    require_same(site, state)
    lines.start_canary(site, B, number)
    require_same(site, state)
    lines.record(site, Kind.STOPPED, {"previous": A, **lines.alone()})
    require_same(site, state)
    state.dispose()
