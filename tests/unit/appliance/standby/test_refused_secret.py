"""A secret of API keys that is refused keeps a standby from nothing else, whichever way the bundle came."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from appliance.actions import keys as api_keys
from appliance.actions.standby import keeping, sending
from appliance.cli import standby
from appliance.errors import ConflictError
from appliance.state.database import open_state
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.commands import Run, typed
from tests.support.promotion import Site

__all__ = ["first", "second"]  # fixtures


@pytest.fixture
def sealift(second: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The commands at the second box, which made a key of its own, so that it takes no other secret for it."""
    state = open_state(second.config.at)
    api_keys.create(
        second.ledger, state, boxes.keys_of(second), department="radiology", owner="Ana", phi_mode="tokenise"
    )
    state.dispose()
    monkeypatch.setattr(standby, "ledger_of", lambda _: nullcontext(second.ledger))
    monkeypatch.setattr(standby, "promoter_of", lambda _: nullcontext(second.client))
    site = tmp_path / "sealift.toml"
    site.write_text(
        f'site = "{second.config.site}"\nenvironment = "demo"\n[places]\nroot = "{second.config.at.root}"\n'
    )
    return typed(site, [standby], capsys)


def test_what_came_by_medium_is_taken_over_and_the_command_says_what_is_wrong(
    first: Site, second: Site, tmp_path: Path, sealift: Run
) -> None:
    keeping.write(tmp_path / "bundle", boxes.bundle(first, "two"))

    done = sealift("standby", "import", "one", tmp_path / "bundle")

    assert (done.code, "cannot be taken" in done.err) == (ConflictError.exit_code, True)
    assert "holds" in done.out
    assert "took over 2 changes of people" in done.out
    assert second.ledger.find(kind="person.enrolled")


def test_so_is_what_came_over_the_network(
    first: Site, second: Site, tmp_path: Path, sealift: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = sending.inbox_of(second.config)
    inbox.mkdir(parents=True)
    keeping.write(inbox / "one.ready", boxes.bundle(first, "two"))
    monkeypatch.setattr(sending, "send", lambda *_, **__: sending.Sent(start=1, size=1))

    done = sealift("standby", "sync", "one")

    assert (done.code, "cannot be taken" in done.err) == (ConflictError.exit_code, True)
    assert f"holds {(inbox / 'one.have').read_text().strip()} records of one" in done.out
    assert "took over 2 changes of people" in done.out
