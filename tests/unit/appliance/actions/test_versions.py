"""What `sealift models list` tells beside the registered versions: those that were received and not installed."""

from pathlib import Path

from sqlalchemy import Engine

from appliance.actions import versions
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.registry import catalog
from appliance.registry.deletion import DELETED
from appliance.state import projection
from appliance.state.database import open_state
from appliance.store.content import ContentStore
from tests.support import lines
from tests.support.installable import store_release
from tests.support.promotion import digest, open_site
from tests.support.versions import version_files


def test_a_version_that_was_received_waits_until_it_is_installed(config: Config, state: Engine) -> None:
    ledger, store = MemoryLedger(), ContentStore(config.at.store)
    first = store_release(config.at, version_files("one", weights=b"one"), serial=1)
    catalog.register(ledger, state, first)
    store_release(config.at, version_files("two", weights=b"two"), serial=2)
    second = store_release(config.at, version_files("two", weights=b"two"), serial=3)

    (waits,) = versions.waiting(store, ledger, state)
    assert (waits.name, waits.serial) == ("two", 3)

    catalog.register(ledger, state, second)
    assert versions.waiting(store, ledger, state) == ()
    assert [one.version.name for one in versions.list_versions(state)] == ["two", "one"]


def test_what_was_deleted_does_not_wait(config: Config, state: Engine) -> None:
    ledger, store = MemoryLedger(), ContentStore(config.at.store)
    stored = store_release(config.at, version_files("one", weights=b"one"), serial=1)
    (digest,) = catalog.register(ledger, state, stored)
    ledger.append(DELETED, {"model_digest": digest, "person": "eva", "reason": "old"})
    projection.catch_up(state, ledger)

    assert versions.waiting(store, ledger, state) == ()


def test_a_store_that_this_user_may_not_read_is_no_error(config: Config, state: Engine) -> None:
    config.at.store.mkdir(parents=True, exist_ok=True)
    (config.at.store / "releases").write_bytes(b"")

    assert versions.waiting(ContentStore(config.at.store), MemoryLedger(), state) == ()


def test_what_a_further_line_serves_and_tries_is_in_production_with_its_line(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.promote(digest("A"))
    lines.open_line(site, digest("C"))
    lines.start_canary(site, digest("D"), 2)
    state = open_state(site.config.at)
    projection.catch_up(state, site.ledger)

    found = {one.version.model_digest: one for one in versions.list_versions(state)}
    state.dispose()

    shown = {name: (one.stage, one.alias, one.line) for name in "ACD" for one in (found[digest(name)],)}
    assert shown == {"A": ("production", "production", None), "C": ("production", "", 2), "D": ("canary", "", 2)}
    assert "line" not in found[digest("A")].to_json()
    assert found[digest("C")].to_json()["line"] == 2
