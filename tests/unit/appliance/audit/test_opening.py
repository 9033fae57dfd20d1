import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from appliance.audit import exclusive, pin, rights
from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.note import VerifierKey, verify_checkpoint
from appliance.audit.opening import open_log
from appliance.audit.spool import Spool
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.errors import KeyMissingError, LedgerDamagedError, LedgerUnavailableError
from appliance.keys.files import FileKeys
from media.clock import SystemClock
from tests.support.ledger import LedgerSite, bodies, intent, ledger_site


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def any_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerSite]:
    """A site whose ledger is a file, and one whose ledger is on a PostgreSQL server."""
    database = request.getfixturevalue("on_server").server if request.param == "postgresql" else None
    with ledger_site(tmp_path, database=database) as made:
        yield made


def open_and_close(site: LedgerSite) -> None:
    with site.running():
        pass


def tamper(site: LedgerSite, statement: str, *values: object) -> None:
    """Write to the file as root could: without our triggers."""
    connection = sqlite3.connect(site.places.ledger / FILE_NAME, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement, values)
    connection.close()


def test_a_new_ledger_opens_starts_and_signs(any_site: LedgerSite) -> None:
    with any_site.running() as log:
        kinds = [leaf.kind for leaf in log.leaves(0, 10)]
        started = log.leaf(1)
        kept = log.backend.checkpoint()

    assert kinds == ["ledger.opened", "ledger.started", "ledger.key"]
    assert not {"alone", "reads"} & started.body.keys()  # what only one of several nodes has to say
    assert kept is not None
    assert kept[0] == 3


def test_the_key_is_pinned_outside_the_ledger_once(any_site: LedgerSite) -> None:
    with any_site.running() as log:
        first = log.vkey
    assert pin.read_pin(any_site.places) == first

    other = VerifierKey(name="sealift/other/00000000", public=bytes(32))

    assert not pin.pin(any_site.places, other)
    assert pin.read_pin(any_site.places) == first


def test_spooled_facts_come_before_everything_new_and_only_once(any_site: LedgerSite) -> None:
    spool = Spool(any_site.places.spool)
    spool.append("release.received", bodies()["release.received"])
    spool.append("custody.accepted", {"person": "ada"})

    for _ in range(2):
        open_and_close(any_site)

    with any_site.running() as log:
        leaves = log.leaves(0, 20)
    assert [leaf.kind for leaf in leaves[1:4]] == ["release.received", "custody.accepted", "ledger.started"]
    assert leaves[1].via == Via(door="spool", uid=os.getuid())
    assert "spooled_at" in leaves[1].body
    assert leaves[3].body["spooled"] == 2
    assert len([leaf for leaf in leaves if leaf.kind == "release.received"]) == 1


def test_a_crash_between_recording_and_removing_a_spooled_fact_doubles_nothing(any_site: LedgerSite) -> None:
    spool = Spool(any_site.places.spool)
    name = spool.append("trust.rotated", {"version": 2})
    content = (any_site.places.spool / name).read_bytes()
    open_and_close(any_site)
    (any_site.places.spool / name).write_bytes(content)

    with any_site.running() as log:
        assert len(log.find(kind="trust.rotated")) == 1
    assert spool.pending() == []


def test_a_spooled_fact_of_another_door_is_put_aside_and_told(any_site: LedgerSite) -> None:
    name = Spool(any_site.places.spool).append("promotion.stopped", bodies()["promotion.stopped"])

    with any_site.running() as log:
        started = log.find(kind="ledger.started")[0]
        assert log.find(kind="promotion.") == []

    assert started.body["rejected"] == [name]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("retention.released", {"hold": 4, "person": "ada", "reason": "over"}),
        ("clock.set", {"at": "2026-11-20T08:00:00Z"}),
        ("key.destroyed", {"name": "content-hmac", "digests": ["a" * 64]}),
        ("tls.revoked", {"serial": "4"}),
    ],
)
def test_who_may_write_into_the_spool_decides_nothing_by_it(
    site: LedgerSite, monkeypatch: pytest.MonkeyPatch, kind: str, body: dict[str, object]
) -> None:
    """Scenario: a medium takes over the user that receives, which owns the spool, and the ledger starts again."""
    name = Spool(site.places.spool).append(kind, body)
    monkeypatch.setattr(rights, "_uid", lambda who: os.getuid() if who == rights.RECEIVE_ACCOUNT else -1)
    monkeypatch.setattr("appliance.audit.rights.os", Elsewhere())

    with site.running() as log:
        started = log.find(kind="ledger.started")[0]
        assert log.find(kind=kind) == []

    assert started.body["rejected"] == [name]


class Elsewhere:
    """The ledger's own user is another one than the spool's."""

    def getuid(self) -> int:
        return 4712


def test_requests_that_a_crash_left_open_are_closed_as_unknown_once(any_site: LedgerSite) -> None:
    via = Via(door="ledger-gateway", uid=0)
    with any_site.running() as log:
        for kind, request in (("request.intent", "a"), ("request.intent", "b"), ("request.outcome", "a")):
            log.append([Entry.of(kind, intent(request), via=via)])
    open_and_close(any_site)
    open_and_close(any_site)

    with any_site.running() as log:
        outcomes = log.find(kind="request.outcome", field="outcome", value="unknown")
        started = log.find(kind="ledger.started", newest_first=False)

    assert [(leaf.body["request_id"], leaf.via.door) for leaf in outcomes] == [("b", "ledger")]
    assert log_body(outcomes[0].body) == {"request_id": "b", "intent_sequence": 4, "outcome": "unknown"}
    assert [leaf.body["closed_requests"] for leaf in started] == [0, 1, 0, 0]


def log_body(body: Mapping[str, object]) -> dict[str, object]:
    return dict(body)


def test_a_second_service_is_kept_out(site: LedgerSite) -> None:
    with site.running(), pytest.raises(LedgerUnavailableError), exclusive.take(site.places.ledger):
        pass


def test_without_its_key_no_ledger_is_opened(any_site: LedgerSite) -> None:
    FileKeys(any_site.places.key_files).destroy("ledger-checkpoint")

    with pytest.raises(KeyMissingError):
        open_and_close(any_site)
    assert not any_site.places.ledger.exists()


def test_another_key_does_not_continue_a_ledger(any_site: LedgerSite) -> None:
    open_and_close(any_site)
    key = any_site.places.key_files / "ledger-checkpoint.v1"
    key.chmod(0o600)
    key.write_bytes(bytes(range(32)))

    with pytest.raises(KeyMissingError):
        open_and_close(any_site)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaf SET raw = replace(raw, 'started', 'stopped') WHERE sequence = 1",
        "UPDATE leaf SET raw = CAST(raw AS TEXT) || ' ' WHERE 0",
        "UPDATE leaf SET hash = zeroblob(32) WHERE sequence = 1",
        "UPDATE leaf SET chain = zeroblob(32) WHERE sequence = 1",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 1",
        "DELETE FROM node WHERE level = 1",
        "DELETE FROM leaf WHERE sequence = 1",
        "UPDATE checkpoint SET note = replace(note, 'demo', 'mode')",
    ],
)
def test_a_ledger_that_was_tampered_with_is_not_continued(site: LedgerSite, statement: str) -> None:
    open_and_close(site)
    if "WHERE 0" in statement:
        tamper(site, "UPDATE leaf SET raw = CAST(CAST(raw AS TEXT) || ' ' AS BLOB) WHERE sequence = 1")
    elif "replace(raw" in statement:
        tamper(
            site,
            "UPDATE leaf SET raw = CAST(replace(CAST(raw AS TEXT), 'started', 'stopped') AS BLOB) WHERE sequence = 1",
        )
    else:
        tamper(site, statement)

    with pytest.raises((LedgerDamagedError, Exception), match=r"ledger|note|leaf|tree"):
        open_and_close(site)


def test_a_ledger_shorter_than_what_it_signed_is_not_continued(site: LedgerSite) -> None:
    with site.running() as log:
        log.append([Entry.of("trust.rotated", {"version": n}, via=Via(door="ledger", uid=0)) for n in range(5)])
        log.checkpoint()
    tamper(site, "DELETE FROM leaf WHERE sequence > 3")

    with pytest.raises(LedgerDamagedError, match="contradicts"):
        open_and_close(site)


def test_every_start_signs_a_checkpoint_that_the_pinned_key_verifies(any_site: LedgerSite) -> None:
    for expected in (3, 4, 5):
        with any_site.running() as log:
            text = log.checkpoint()
        key = pin.read_pin(any_site.places)
        assert key is not None
        assert verify_checkpoint(text, [key]).size == expected


def test_a_folder_that_cannot_be_made_is_unavailable(site: LedgerSite) -> None:
    site.places.state.mkdir(parents=True)
    site.places.ledger.write_text("a file where the folder belongs")

    with (
        pytest.raises(LedgerUnavailableError),
        open_log(site.config, keys=FileKeys(site.places.key_files), clock=SystemClock()),
    ):
        pass
