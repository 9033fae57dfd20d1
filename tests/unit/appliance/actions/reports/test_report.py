"""Reports of a time: every number is a sum over the ledger's records; sheets hold no script and load nothing."""

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from appliance.actions.reports import making
from appliance.actions.reports.period import Period, between, last_quarter, quarter, this_quarter
from appliance.actions.reports.sheet import per_cent, sheet
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.errors import AutomationKeyError, AutomationRefusedError, LedgerUnavailableError
from appliance.promote.desk import ACTIONS_DOOR, ADMIN_DOOR
from media.clock import FixedClock, to_text
from media.digest import sha256_hex
from media.errors import UsageError
from tests.support.ledger import bodies
from tests.support.promotion import PASSWORD, open_site
from tests.support.signatories import signatories
from tests.support.versions import short_folder

BEGIN = datetime(2026, 9, 30, 22, 0, tzinfo=UTC)
Q4 = quarter("2026Q4")
DEPARTMENTS = ("radiology", "surgery", "", "<script>alert(1)</script>", "=1+1")
CODES = ("rate-limited", "phi-blocked", "unauthorized")


class Tags(HTMLParser):
    """Every element and every attribute's name on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names.update(name for name, _ in attrs)


def counted(ledger: MemoryLedger, clock: FixedClock, about: Period = Q4) -> dict[str, Any]:
    key = VerifierKey.from_text(ledger.vkey)
    return making.counted(ledger, about, site="demo", key=key, clock=clock)


def intent(number: int, department: str, phi: dict[str, int]) -> dict[str, Any]:
    return {
        "request_id": f"req_{number}",
        "department": department,
        "key_id": f"k{number % 3}",
        "model_digest": "a" * 64,
        "classification": "restricted" if phi else "internal",
        "phi": phi,
    }


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"),
            st.sampled_from(DEPARTMENTS),
            st.dictionaries(st.sampled_from(["SSN", "NAME"]), st.integers(0, 3)),
        ),
        st.tuples(st.just("end"), st.sampled_from(["ok", "error", "unknown"]), st.integers(0, 500)),
        st.tuples(st.just("refuse"), st.sampled_from(CODES), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.integers(1, 40 * 24), st.none()),
        st.tuples(st.just("record"), st.sampled_from(["promotion.made", "release.received", "key.created"]), st.none()),
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(STEPS)
def test_the_sums_of_a_report_are_the_ledgers(steps: list[tuple[str, Any, Any]]) -> None:
    ledger = MemoryLedger(clock := FixedClock(BEGIN))
    waiting: list[str] = []
    for number, (what, first, second) in enumerate(steps):
        if what == "ask":
            ledger.append("request.intent", intent(number, first, second))
            waiting.append(f"req_{number}")
        elif what == "end" and waiting:
            ended = {"outcome": first, "prompt_tokens": second, "completion_tokens": 2 * second}
            ledger.append("request.outcome", {"request_id": waiting.pop(0), **ended})
        elif what == "refuse":
            ledger.append("request.refused", {"code": first, **({"repeated": second} if second > 1 else {})})
        elif what == "wait":
            clock.advance(3600 * first)
        elif what == "record":
            ledger.append(first, bodies()[first])
    if clock.now() < datetime(2026, 10, 1, tzinfo=UTC):
        clock.advance(3 * 3600)
    ledger.append("trust.rotated", {"version": 1})

    facts = counted(ledger, clock)

    listed = [leaf for leaf in ledger.leaves(0, 10_000) if Q4.since <= leaf.time < Q4.until]
    begun = [leaf for leaf in listed if leaf.kind == "request.intent"]
    over = [leaf for leaf in listed if leaf.kind == "request.outcome"]
    assert facts["kinds"] == dict(Counter(leaf.kind for leaf in listed))
    assert facts["answers"] == dict(Counter(leaf.body["department"] for leaf in begun))
    for name in ("days", "classes", "versions", "arms"):
        assert sum(facts[name].values()) == len(begun)
    assert facts["outcomes"] == dict(Counter(leaf.body["outcome"] for leaf in over))
    assert facts["ended"] + facts["ended_from_before"] == len(over)
    assert facts["ended"] + facts["open"] == len(begun)
    assert facts["is_whole"]
    own = {leaf.body["request_id"] for leaf in begun}
    assert sum(facts["tokens_in"].values()) == sum(
        leaf.body["prompt_tokens"] for leaf in over if leaf.body["request_id"] in own
    )
    assert 2 * sum(facts["tokens_in"].values()) == sum(facts["tokens_out"].values())
    refused = Counter[str]()
    for leaf in listed:
        if leaf.kind == "request.refused":
            refused[leaf.body["code"]] += leaf.body.get("repeated", 1)
    assert facts["refusals"] == dict(refused)
    assert sum(facts["phi"].values()) == sum(sum(leaf.body["phi"].values()) for leaf in begun)
    assert sum(facts["with_phi"].values()) == sum(any(leaf.body["phi"].values()) for leaf in begun)
    assert [one["sequence"] for one in facts["production"]] == [
        leaf.sequence for leaf in listed if leaf.kind == "promotion.made"
    ]
    assert [one["sequence"] for one in facts["custody"]] == [
        leaf.sequence for leaf in listed if leaf.kind == "release.received"
    ]
    assert facts["ledger"]["holds"]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(BEGIN)


@pytest.fixture
def ledger(clock: FixedClock) -> MemoryLedger:
    """A quarter with a little of everything, among it texts that would be code."""
    made = MemoryLedger(clock)
    made.append("key.created", {**bodies()["key.created"], "key_id": "k0"})
    made.append("key.created", {**bodies()["key.created"], "key_id": "k9", "owner": "<img src=x onerror=y>"})
    made.append("key.created", {**bodies()["key.created"], "key_id": "gone"})
    clock.advance(3 * 3600)
    for number, department in enumerate(DEPARTMENTS):
        made.append("request.intent", intent(number, department, {"SSN": number}))
        made.append("request.outcome", {"request_id": f"req_{number}", "outcome": "ok", "completion_tokens": 5})
    made.append("key.revoked", {"key_id": "gone", "reason": "left"})
    made.append("request.refused", {"code": "rate-limited", "repeated": 41})
    made.append("promotion.made", bodies()["promotion.made"])
    made.append("promotion.rolled-back", {**bodies()["promotion.rolled-back"], "reason": "\u202eworse\x1b[31m"})
    made.append("release.refused", {"error": "digest-mismatch", "release": "2026.11"})
    made.append("backup.drilled", {"level": "stream"})
    clock.advance(3600)
    return made


def test_a_sheet_holds_nothing_that_runs_or_is_loaded(ledger: MemoryLedger, clock: FixedClock) -> None:
    page = making.made(counted(ledger, clock)).files[".html"].decode()

    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    seen = Tags()
    seen.feed(page)
    allowed = {"html", "head", "meta", "title", "style", "body", "section", "h1", "h2", "p", "table", "tr", "th", "td"}
    assert seen.tags - {"svg", "text", "rect", "div", "span"} <= allowed
    assert not {name for name in seen.names if name.startswith("on") or name in {"href", "src", "style"}}
    assert "url(" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") >= 4
    assert "\u202e" not in page
    assert "\x1b" not in page


def test_the_printed_sheet_says_the_same(ledger: MemoryLedger, clock: FixedClock) -> None:
    made = making.made(counted(ledger, clock))
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(made.files[".pdf"])).pages)

    assert made.files == making.made(counted(ledger, clock)).files
    assert "5 answers, 41 refusals; the ledger holds; NOT OVER YET" in text.replace("\n", " ")
    assert "Answers by department" in text
    assert "rate-limited" in text


def test_a_report_is_recorded_with_the_digest_of_every_file(ledger: MemoryLedger, clock: FixedClock) -> None:
    made = making.made(counted(ledger, clock))
    sequence = making.record(ledger, made)

    body = ledger.leaf(sequence).body
    assert body["files"] == {name[1:]: sha256_hex(content) for name, content in made.files.items()}
    assert (body["name"], body["root"]) == ("2026Q4", made.facts["ledger"]["root"])
    ledger.available = False
    with pytest.raises(LedgerUnavailableError):
        making.record(ledger, made)


def test_keys_are_listed_with_age_and_last_use_and_revoked_ones_are_not(
    ledger: MemoryLedger, clock: FixedClock
) -> None:
    clock.advance(400 * 86400)
    keys = {one["key_id"]: one for one in counted(ledger, clock)["keys"]}

    assert sorted(keys) == ["k0", "k9"]
    assert (keys["k0"]["used"][:10], keys["k9"]["used"]) == ("2026-10-01", "")
    assert (keys["k0"]["age_days"], keys["k0"]["is_old"]) == (92, False)  # at the end of the quarter
    later = {one["key_id"]: one for one in counted(ledger, clock, between("2026-10-01", "2027-10-15"))["keys"]}
    assert later["k0"]["is_old"]


def test_a_key_that_ended_by_itself_is_not_listed_as_in_force(ledger: MemoryLedger, clock: FixedClock) -> None:
    for key_id, hours in (("k7", 4), ("k8", 9600)):
        ends = to_text(clock.now() + timedelta(hours=hours))
        ledger.append("key.created", {**bodies()["key.created"], "key_id": key_id, "expires_at": ends})
    listed = {one["key_id"] for one in counted(ledger, clock)["keys"]}
    clock.advance(4 * 3600)
    after = {one["key_id"] for one in counted(ledger, clock)["keys"]}

    assert listed - after == {"k7"}
    assert "k8" in after


def test_figures_that_the_promoter_tells_every_few_minutes_are_no_events_of_production(
    ledger: MemoryLedger, clock: FixedClock
) -> None:
    before = counted(ledger, clock)["production"]
    for kind in ("promotion.watch-judged", "promotion.canary-judged"):
        ledger.append(kind, {"model_digest": "a" * 64})
    ledger.append("promotion.watch-kept", {"model_digest": "a" * 64, "person": "ana", "reason": "known"})

    assert [one["kind"] for one in counted(ledger, clock)["production"][len(before) :]] == ["promotion.watch-kept"]


def test_what_concerns_a_further_line_is_listed_with_its_number(ledger: MemoryLedger, clock: FixedClock) -> None:
    ledger.append("promotion.stopped", {**bodies()["promotion.stopped"], "reason": "night", "line": 7})

    facts = counted(ledger, clock)
    assert [one.get("line") for one in facts["production"]] == [None, None, 7]
    page = making.made(facts).files[".html"].decode()
    assert page.count(", line ") == page.count("promotion.stopped, line 7") == 1


def test_people_are_listed_with_roles_and_when_they_were_last_seen_to_act() -> None:
    with short_folder() as root:
        site = open_site(root)
        ana, ben = (one.id for one in signatories()[:2])
        now = site.clock.now()
        about = this_quarter(now)
        before = {one["person"]: one for one in counted(site.ledger, site.clock, about)["people"]}
        site.ledger.append("admin.login", {"person": ana})
        site.ledger.append("person.invited", {"by": [ana]})
        after = {one["person"]: one for one in counted(site.ledger, site.clock, about)["people"]}
        site.client.revoke(person=ben, by=ana, password=PASSWORD, reason="left")
        gone = {one["person"] for one in counted(site.ledger, site.clock, about)["people"]}

    assert set(before) == {ana, ben}
    assert all(one["not_seen"] and not one["seen"] for one in before.values())
    assert (after[ana]["not_seen"], after[ben]["not_seen"]) == (False, True)
    assert {"approver", "operator"} <= set(after[ana]["roles"])
    assert gone == {ana}


def test_automation_keys_are_listed_with_whose_they_are_scopes_last_use_and_end() -> None:
    ana, ben = (one.id for one in signatories()[:2])
    with short_folder() as root:
        site = open_site(root)
        machine, page = site.at_door(ACTIONS_DOOR), site.at_door(ADMIN_DOOR)

        def make(name: str, person: str, days: int, *scopes: str) -> str:
            fields = {"name": name, "person": person, "password": PASSWORD, "scopes": list(scopes), "days": days}
            return str(machine._call("automation-make", **fields)["text"])

        make("early", ana, 10)
        site.clock.advance(20 * 86400)  # into December, where the time of the report begins
        about = between("2026-12-01", "2026-12-31")
        nightly = make("nightly", ana, 90, "read", "hold")
        make("unused", ben, 90)
        leaked = make("leaked", ana, 90)
        for _ in range(3):
            page._call("automation-use", key=nightly, deed="status")
        for deed in ("approve", "affected"):
            with pytest.raises(AutomationRefusedError):
                page._call("automation-use", key=nightly, deed=deed)
        machine._call("automation-revoke", name="leaked", person=ben, password=PASSWORD, reason="it leaked")
        with pytest.raises(AutomationKeyError):
            page._call("automation-use", key=leaked, deed="status")
        with pytest.raises(AutomationRefusedError):
            machine._call("request", requested_by=f"automation:nightly@{ana}", model_digest="a" * 64)
        site.client.revoke(person=ben, by=ana, password=PASSWORD, reason="left")
        facts = counted(site.ledger, site.clock, about)

    rows = {one["name"]: one for one in facts["automation"]}
    assert list(rows) == ["nightly", "unused", "leaked"]  # the early one ended before
    told = rows["nightly"]
    assert (told["person"], told["scopes"], told["uses"], told["refusals"]) == (ana, ["read", "hold"], 3, 2)
    assert (told["used"][:10], told["expires"][:10], told["ended"]) == ("2026-12-10", "2027-03-10", "")
    assert (rows["leaked"]["why_ended"], rows["leaked"]["refusals"]) == (f"revoked by {ben}", 1)
    assert rows["unused"]["why_ended"] == f"{ben} was revoked"
    assert facts["automation_strangers"] == 1
    [section] = [one for one in sheet(facts).sections if one.title == "Access review: automation keys"]
    assert section.table is not None
    told_rows = [" | ".join(row) for row in section.table.rows]
    assert f"| {ana} | read, hold | 2026-12-10, 3 times in this time; 2 refused | 2027-03-10" in told_rows[0]
    assert "NEVER" in told_rows[1]
    assert f"revoked by {ben}" in told_rows[2]


def test_what_a_key_did_is_no_act_of_who_answers_for_it() -> None:
    with short_folder() as root:
        site = open_site(root)
        ana = signatories()[0].id
        about = this_quarter(site.clock.now())
        used = {"key_id": "k", "name": "nightly", "person": ana, "deed": "status", "about": ""}
        site.ledger.append("automation.used", used)
        site.ledger.append("automation.refused", {**used, "rule": "AUTO-3"})
        found = {one["person"]: one for one in counted(site.ledger, site.clock, about)["people"]}

    assert (found[ana]["seen"], found[ana]["not_seen"]) == ("", True)


def test_a_changed_record_is_seen_in_the_report(ledger: MemoryLedger, clock: FixedClock) -> None:
    backend: Any = ledger.log.backend
    place = next(row.sequence for row in backend.rows(0, 100) if row.kind == "request.refused")
    changed = backend._rows[place].raw.replace(b"41", b"14")
    backend._rows[place] = backend._rows[place]._replace(raw=changed)

    facts = counted(ledger, clock)

    assert not facts["ledger"]["holds"]
    assert "THE LEDGER DOES NOT HOLD" in sheet(facts).result


def test_what_happened_before_and_after_is_not_counted(ledger: MemoryLedger, clock: FixedClock) -> None:
    before = counted(ledger, clock)
    clock.advance(100 * 86400)
    ledger.append("request.intent", intent(78, "radiology", {"SSN": 1}))
    ledger.append("request.refused", {"code": "unauthorized"})

    after = counted(ledger, clock)

    for name in ("answers", "refusals", "kinds", "phi", "production", "people"):
        assert after[name] == before[name]
    assert after["kinds"].get("key.created") is None  # the keys were made before the quarter
    assert {one["key_id"]: one["used"] for one in after["keys"]} == {
        one["key_id"]: one["used"] for one in before["keys"]
    }


def test_quarters_begin_and_end_where_they_should() -> None:
    found = [quarter(f"2026Q{number}") for number in (1, 2, 3, 4)]

    assert [one.since[:10] for one in found] == ["2026-01-01", "2026-04-01", "2026-07-01", "2026-10-01"]
    assert [one.until for one in found[:3]] == [one.since for one in found[1:]]
    assert found[3].until == "2027-01-01T00:00:00Z"
    assert last_quarter(datetime(2027, 1, 1, tzinfo=UTC)).name == "2026Q4"
    assert last_quarter(datetime(2026, 12, 31, 23, tzinfo=UTC)).name == "2026Q3"


@pytest.mark.parametrize("name", ["2026Q5", "2026q1", "26Q1", "2026Q1 ", "", "2026Q\u0661"])
def test_what_is_no_quarter_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        quarter(name)


def test_a_time_that_is_none_or_has_not_begun_is_refused(ledger: MemoryLedger, clock: FixedClock) -> None:
    with pytest.raises(UsageError):
        between("2026-11-02", "2026-11-01")
    with pytest.raises(UsageError):
        counted(ledger, clock, quarter("2027Q1"))


@pytest.mark.parametrize(("part", "whole", "said"), [(0, 0, "-"), (0, 3, "0.0 %"), (1, 3, "33.3 %"), (2, 3, "66.7 %")])
def test_a_rate_is_whole_thousandths(part: int, whole: int, said: str) -> None:
    assert per_cent(part, whole) == said
