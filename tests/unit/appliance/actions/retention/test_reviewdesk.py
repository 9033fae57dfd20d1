"""The counter of the review store: who may what, what is recorded first, and where it ends."""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.retention.expiring import EXPIRING, Asked, expire
from appliance.actions.retention.keyslots import KeySlots
from appliance.actions.retention.reviewdesk import ADMIN_DOOR, GATEWAY_DOOR, OPERATOR_DOOR, ReviewDesk
from appliance.audit.rights import require_is_one_of
from appliance.errors import LedgerRefusedError, LedgerUnavailableError, NoSpaceError
from appliance.sections import ReviewSection
from appliance.wire import Peer, RemoteError
from media.clock import to_text
from media.errors import MalformedError
from tests.support.doors import Door
from tests.support.retention import DAY, Kept, kept

LOOK = {"person": "ada", "reason": "quality review"}


class Site:
    """A desk over a store in a folder, and its three doors."""

    def __init__(self, folder: Path, *, one_in: int = 1, most: int = 3) -> None:
        self.kept: Kept = kept(folder)
        policy = ReviewSection(one_in=one_in, most=most, days=30)
        self.desk = ReviewDesk(
            self.kept.store,
            self.kept.ledger,
            policy=policy,
            clock=self.kept.clock,
            choose=lambda samples: samples[0],
        )
        self.gateway = Door(self.desk, GATEWAY_DOOR)
        self.page = Door(self.desk, ADMIN_DOOR)
        self.operator = Door(self.desk, OPERATOR_DOOR)

    def keep(self, request_id: str, text: str = "chest pain", subject: str = "pat") -> dict[str, Any]:
        return self.gateway.call("keep", request_id=request_id, subject=subject, content=content(text))


def content(text: str) -> str:
    value = {"format": 1, "texts": [{"role": "answer", "text": text}]}
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Half of the disk is free, whatever this machine's has; says how many hundredths are instead."""
    usage = type(shutil.disk_usage("/"))

    def has_free(hundredths: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 10_000 - 100 * hundredths, 100 * hundredths))

    has_free(50)
    return has_free


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("erased", ["Ruiz, Ana", "Ruiz, Ana   ", " Ruiz, Ana"])
def test_a_person_whose_name_an_application_pads_is_erased_with_and_without_the_blanks(site: Site, erased: str) -> None:
    site.keep("req_1", subject="Ruiz, Ana   ")

    assert site.kept.retention.erase(erased, subject_hash="f" * 64, person="ada", reason="asked") == 1
    assert site.kept.store.samples() == ()


def test_a_person_draws_a_sample_and_says_what_it_is_worth_and_both_are_recorded(site: Site) -> None:
    site.keep("req_1")

    drawn = site.page.call("draw", **LOOK)
    site.page.call("rate", request_id="req_1", rating="good", person="ada")

    assert drawn["content"]["texts"] == [{"role": "answer", "text": "chest pain"}]
    read, rated = site.kept.ledger.leaves(1, 10)
    assert (read.kind, read.body["person"], read.body["request_id"]) == ("review.read", "ada", "req_1")
    assert str(read.body["through"]).startswith("review-admin, user ")
    assert (rated.kind, rated.body["rating"]) == ("review.rated", "good")
    assert site.operator.call("list")["samples"][0]["rating"] == "good"
    with pytest.raises(RemoteError, match="no sample waits"):
        site.operator.call("draw", **LOOK)


@pytest.mark.parametrize("do", ["draw", "show", "list", "standing", "rate"])
def test_the_gateway_reads_nothing_not_even_what_it_handed_in(site: Site, do: str) -> None:
    site.keep("req_1")

    with pytest.raises(RemoteError, match="no right") as refused:
        site.gateway.call(do, request_id="req_1", rating="good", **LOOK)

    assert refused.value.remote_exit_code == LedgerRefusedError.exit_code
    assert site.kept.kinds() == []


@pytest.mark.parametrize("door", [ADMIN_DOOR, OPERATOR_DOOR, "another"])
def test_nobody_else_hands_samples_in(site: Site, door: str) -> None:
    with pytest.raises(RemoteError, match="no right"):
        Door(site.desk, door).call("keep", request_id="req_1", subject="pat", content=content("x"))


def test_a_look_that_cannot_be_recorded_shows_nothing(site: Site) -> None:
    site.keep("req_1")
    site.kept.ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        site.desk(Peer(door=ADMIN_DOOR, pid=1, uid=1, gid=1), {"do": "show", "request_id": "req_1", **LOOK})


def test_only_who_looked_rates_and_only_in_our_words(site: Site) -> None:
    site.keep("req_1")
    site.page.call("show", request_id="req_1", **LOOK)

    with pytest.raises(RemoteError, match="has not looked"):
        site.page.call("rate", request_id="req_1", rating="good", person="ben")
    with pytest.raises(RemoteError, match="no rating"):
        site.page.call("rate", request_id="req_1", rating="the patient has chest pain", person="ada")
    assert "review.rated" not in site.kept.kinds()


def test_the_store_ends_where_the_site_file_says_and_goes_on_when_some_expired(site: Site) -> None:
    for number in range(3):
        site.keep(f"req_{number}")
    with pytest.raises(RemoteError, match="no further sample"):
        site.keep("req_4")

    site.kept.clock.advance(30 * DAY)
    assert site.kept.retention.expire() == 3
    site.keep("req_4")

    assert site.page.call("standing") == {"count": 1, "most": 3, "days": 30, "rated": 0}


def test_a_disk_that_is_nearly_full_is_left_to_the_ledger(site: Site, disk: Callable[[int], None]) -> None:
    disk(9)
    with pytest.raises(RemoteError, match="no further sample") as refused:
        site.keep("req_1")
    assert refused.value.remote_code == NoSpaceError.code

    disk(10)
    site.keep("req_1")


def test_the_nightly_run_has_what_is_due_destroyed_by_whoever_owns_it_and_records_both(tmp_path: Path) -> None:
    site = Site(tmp_path, most=99)
    for number in range(53):  # more than one piece
        site.keep(f"req_{number}")
    site.kept.retention.hold("req_7", person="ada", reason="case 26-114")
    asked = Asked(site.operator.call)

    assert expire(asked, site.kept.ledger, clock=site.kept.clock) == 0
    site.kept.clock.advance(31 * DAY)
    assert expire(asked, site.kept.ledger, clock=site.kept.clock) == 52

    assert [sample.request_id for sample in site.kept.store.samples()] == ["req_7"]
    *_, began, ended = site.kept.ledger.leaves(1, 100)
    assert (began.kind, ended.kind) == ("retention.expiring", "retention.expired")
    assert began.body["samples"] == ended.body["samples"] == 52


def test_nothing_is_destroyed_that_no_record_says_is_about_to_go_or_before_its_time(site: Site) -> None:
    site.keep("req_1")
    now, later = (to_text(site.kept.clock.now() + timedelta(days=days)) for days in (31, 32))
    site.kept.clock.advance(31 * DAY)

    with pytest.raises(RemoteError, match="no sample is destroyed"):
        site.operator.call("destroy", until=now)
    site.kept.ledger.append(EXPIRING, {"class": "review", "until": later, "samples": 1})
    with pytest.raises(RemoteError, match="nothing is due yet"):
        site.operator.call("destroy", until=later)

    assert len(site.kept.store.samples()) == 1


@pytest.mark.parametrize("do", ["due", "destroy"])
def test_only_root_has_samples_destroyed(site: Site, do: str) -> None:
    until = {"until": to_text(site.kept.clock.now())}

    for peer in (
        *(Peer(door=door, pid=1, uid=0, gid=0) for door in (ADMIN_DOOR, GATEWAY_DOOR)),
        Peer(door=OPERATOR_DOOR, pid=1, uid=54321, gid=1),
    ):
        with pytest.raises(LedgerRefusedError, match="no right"):
            site.desk(peer, {"do": do, **until})
    assert site.desk(Peer(door=OPERATOR_DOOR, pid=1, uid=0, gid=0), {"do": "due", **until}) == {"samples": 0}


def test_a_site_that_keeps_nothing_takes_nothing_whatever_the_gateway_says(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="no sample is kept here"):
        Site(tmp_path, one_in=0).keep("req_1")


def test_a_sample_whose_time_is_over_is_not_shown_before_it_is_destroyed_but_a_hold_keeps_it(site: Site) -> None:
    site.keep("req_1")
    site.keep("req_2")
    site.kept.retention.hold("req_2", person="ada", reason="case 26-114")
    site.kept.clock.advance(31 * DAY)

    with pytest.raises(RemoteError, match="no sample of"):
        site.page.call("show", request_id="req_1", **LOOK)
    assert site.page.call("show", request_id="req_2", **LOOK)["request_id"] == "req_2"
    assert site.kept.retention.expire() == 1


def test_the_last_sample_of_a_person_takes_the_persons_key_with_it(site: Site) -> None:
    slots = KeySlots(site.kept.folder / "review" / "review.keys")
    site.keep("req_1")
    site.keep("req_2")
    before = len(slots.names())

    for sample in site.kept.store.samples():
        site.kept.store.remove(sample)

    assert (before, len(slots.names())) == (4, 1)  # year, person, two samples; the year's key alone stays


def test_a_key_that_a_power_cut_left_without_a_sample_is_destroyed_at_the_next_start(site: Site) -> None:
    site.keep("req_1")
    slots = KeySlots(site.kept.folder / "review" / "review.keys")
    slots.put(b"x" * 32, b"a key whose row was never written")

    assert site.kept.store.tidy() == 1
    assert site.page.call("show", request_id="req_1", **LOOK)["request_id"] == "req_1"


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "", "subject": "pat", "content": content("x")},
        {"request_id": "r" * 65, "subject": "pat", "content": content("x")},
        {"request_id": "req_1", "subject": 7, "content": content("x")},
        {"request_id": "req_1", "subject": "pat", "content": "no base64"},
        {"request_id": "req_1", "subject": "pat", "content": base64.b64encode(b"[]").decode()},
        {"request_id": "req_1", "subject": "pat", "content": base64.b64encode(b'{"format": 2}').decode()},
        {"request_id": "req_1", "subject": "pat", "content": content("x" * 100_000)},
    ],
)
def test_what_does_not_read_is_refused_with_an_error_of_ours(site: Site, fields: dict[str, Any]) -> None:
    with pytest.raises(RemoteError) as refused:
        site.gateway.call("keep", **fields)

    assert refused.value.remote_code in {"wire", MalformedError.code}
    assert site.kept.store.samples() == ()


def test_a_user_who_is_not_the_doors_own_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 990)
    stranger = Peer(door=ADMIN_DOOR, pid=1, uid=65533, gid=65533)

    with pytest.raises(LedgerRefusedError):
        require_is_one_of(stranger, account="sealift-admin")
    with pytest.raises(LedgerRefusedError):
        require_is_one_of(Peer(door=ADMIN_DOOR, pid=1, uid=0, gid=0), account="sealift-admin")
    require_is_one_of(Peer(door=OPERATOR_DOOR, pid=1, uid=0, gid=0), account="", operators=True)
