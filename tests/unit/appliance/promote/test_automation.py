"""Automation keys at the promoter: what one may ask, and that none counts as a person, whatever door it comes by."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.rights import ADMIN, PROMOTER, require_may_append
from appliance.errors import (
    ApprovalRefusedError,
    AutomationKeyError,
    AutomationRefusedError,
    ConflictError,
    LedgerRefusedError,
    NotEnoughApprovalsError,
    NotPromotedError,
    TooOftenError,
    UnknownPersonError,
)
from appliance.promote import actors
from appliance.promote.approvals import Approval, require_approved
from appliance.promote.automation import MADE, PER_MINUTE, REFUSED, REVOKED, USED
from appliance.promote.automation_key import DEEDS, Scope
from appliance.promote.desk import ACTIONS_DOOR, ADMIN_DOOR, DOORS, JUDGE_DOOR, OPERATOR_DOOR
from appliance.promote.promoter import MOST_BY_MACHINES
from appliance.promote.record import BY_AUTOMATION
from appliance.promote.statement import Statement
from media import canonical
from media.errors import MalformedError, SealiftError, UsageError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, CLEO, *_ = signatories()
ALL = [str(one) for one in Scope]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3)


def make(site: Site, *scopes: str, door: str = ACTIONS_DOOR, **fields: Any) -> str:
    """Make a key of Ana's and return its text."""
    known = {"name": "nightly", "person": ANA.id, "password": PASSWORD, "scopes": list(scopes), "days": 30}
    return str(site.at_door(door)._call("automation-make", **{**known, **fields})["text"])


def page(site: Site, do: str, **fields: Any) -> dict[str, Any]:
    return dict(site.at_door(ADMIN_DOOR)._call(do, **fields))


def use(site: Site, key: str, deed: str = "status") -> dict[str, Any]:
    return dict(page(site, "automation-use", key=key, deed=deed)["key"])


def ask(site: Site, key: str, version: str = "A", meaning: str = "serve it") -> dict[str, Any]:
    site.validate(digest(version))
    return page(site, "automation-request", key=key, model_digest=digest(version), meaning=meaning)


def refused(site: Site) -> list[str]:
    return [str(leaf.body["rule"]) for leaf in site.ledger.find(kind=REFUSED, newest_first=False)]


def test_a_key_is_shown_once_and_the_record_holds_a_hash(site: Site) -> None:
    text = make(site, "read", purpose="the nightly job")

    leaf = site.ledger.find(kind=MADE)[0]
    assert text not in leaf.raw.decode()
    assert str(leaf.body["hash"]).startswith("$argon2id$")
    assert (leaf.body["person"], leaf.body["scopes"]) == (ANA.id, ["read"])
    listed = site.client._call("automation-keys")["keys"]
    assert [one["actor"] for one in listed] == [f"automation:nightly@{ANA.id}"]
    assert text not in json.dumps(listed)


def test_without_a_word_a_key_reads_and_its_use_is_recorded(site: Site) -> None:
    key = use(site, make(site))

    assert key["scopes"] == ["read"]
    assert [leaf.body["deed"] for leaf in site.ledger.find(kind=USED)] == ["status"]


@pytest.mark.parametrize("scope", ALL)
def test_a_key_does_what_its_scope_names_and_nothing_else(site: Site, scope: str) -> None:
    text = make(site, scope)
    own = [deed for deed in DEEDS if DEEDS[deed] == scope]

    for deed in DEEDS:
        if deed in own:
            assert use(site, text, deed)["name"] == "nightly"
            continue
        with pytest.raises(AutomationRefusedError) as caught:
            use(site, text, deed)
        assert caught.value.why.startswith("AUTO-2: ")
    assert refused(site) == ["AUTO-2"] * (len(DEEDS) - len(own))
    assert [leaf.body["deed"] for leaf in site.ledger.find(kind=USED, newest_first=False)] == own


def test_what_decides_no_scope_opens(site: Site) -> None:
    text = make(site, *ALL)
    deeds = ["approve", "enrol", "reset", "invite", "roles", "policy", "promote", "cutover", "rollback", "stop"]
    deeds += ["emergency", "samples", "answers", "keys", "automation", "page work.promote", "<b>\u2028"]

    for deed in deeds:
        with pytest.raises((AutomationRefusedError, MalformedError)):
            use(site, text, deed)
    assert set(refused(site)) == {"AUTO-3"}
    assert site.ledger.find(kind=USED) == []


@pytest.mark.parametrize("door", [ADMIN_DOOR, JUDGE_DOOR])
def test_keys_are_made_and_ended_at_the_machine_only(site: Site, door: str) -> None:
    for do in ("automation-make", "automation-revoke"):
        with pytest.raises(LedgerRefusedError):
            site.at_door(door)._call(do, name="nightly", person=ANA.id, password=PASSWORD, reason="x", days=1)
    assert site.ledger.find(kind=MADE) == []


@pytest.mark.parametrize("door", [ACTIONS_DOOR, OPERATOR_DOOR])
def test_a_key_is_made_with_the_person_s_password_at_either_door_of_the_machine(site: Site, door: str) -> None:
    for wrong in ("", "wrong password", None):
        with pytest.raises(UnknownPersonError):
            make(site, door=door, password=wrong)

    assert use(site, make(site, door=door))["person"] == ANA.id


def test_a_key_makes_no_key_and_is_no_password(site: Site) -> None:
    text = make(site, *ALL)

    for password in (text, text[-43:]):
        with pytest.raises(UnknownPersonError):
            make(site, name="second", password=password)
        with pytest.raises(UnknownPersonError):
            page(site, "login", person=ANA.id, password=password)
        with pytest.raises(UnknownPersonError):
            page(site, "login", person="nightly", password=password)


def test_what_is_no_key_is_refused(site: Site) -> None:
    make(site)
    secret = "A" * 43

    for text in ("", "sl-auto-", "x" * 5000, f"sl-auto-aaaaaaaaaa-{secret}", f"sl-aaaaaaaaaa-{secret}", "\udc80" * 9):
        with pytest.raises((AutomationKeyError, MalformedError)):
            use(site, text)


def test_one_letter_of_a_key_changed_is_no_key(site: Site) -> None:
    text = make(site)
    use(site, text)

    with pytest.raises(AutomationKeyError, match="refused"):
        use(site, text[:-1] + ("A" if text[-1] != "A" else "B"))
    assert refused(site) == ["AUTO-1"]


def test_a_key_ends_at_its_date_and_works_until_then(site: Site) -> None:
    text = make(site, days=2)
    site.clock.advance(2 * 86400 - 1)
    use(site, text)
    site.clock.advance(1)

    with pytest.raises(AutomationKeyError) as caught:
        use(site, text)
    assert "ended at" in caught.value.why


def test_any_enrolled_person_ends_a_key_and_once_is_enough(site: Site) -> None:
    text = make(site)
    use(site, text)
    ending = {"name": "nightly", "person": BEN.id, "password": PASSWORD, "reason": "it leaked"}
    for _ in range(2):
        assert "revoked by" in site.client._call("automation-revoke", **ending)["key"]["ended"]

    with pytest.raises(AutomationKeyError):
        use(site, text)
    assert [leaf.body["person"] for leaf in site.ledger.find(kind=REVOKED)] == [BEN.id]


def test_a_key_is_listed_and_ended_however_many_were_made_before(site: Site) -> None:
    for number in range(1024):
        body = {"format": 1, "key_id": f"old{number}", "name": f"old-{number}", "person": ANA.id, "scopes": ["read"]}
        body |= {"purpose": "", "expires_at": "2026-01-01T00:00:00Z", "hash": "x"}
        site.ledger.append(MADE, body)
    key = make(site)

    ending = {"name": "nightly", "person": BEN.id, "password": PASSWORD, "reason": "it leaked"}
    assert "revoked by" in site.client._call("automation-revoke", **ending)["key"]["ended"]
    with pytest.raises(AutomationKeyError):
        use(site, key)


def test_a_key_ends_with_the_person_who_answers_for_it(site: Site) -> None:
    text = make(site)
    site.client.revoke(person=ANA.id, by=BEN.id, password=PASSWORD, reason="left")

    with pytest.raises(AutomationKeyError) as caught:
        use(site, text)
    assert "who answers for it" in caught.value.why


def test_a_key_made_before_its_person_was_reset_works_no_more(site: Site) -> None:
    text = make(site)
    site.client.reset(ANA.id, [(BEN.id, PASSWORD), (CLEO.id, PASSWORD)])

    with pytest.raises(AutomationKeyError) as caught:
        use(site, text)
    assert "reset" in caught.value.why


def test_what_was_made_works_after_a_restart(site: Site) -> None:
    text = make(site)
    site.restart()

    assert use(site, text)["name"] == "nightly"


def test_names_that_are_people_s_taken_or_not_in_their_form_are_refused(site: Site) -> None:
    make(site)

    for name in (ANA.id, "nightly", "Nightly", "automation:x", "a b", "", "x" * 33, "ünal", "a--b"):
        with pytest.raises((ConflictError, MalformedError)):
            make(site, name=name)
    assert len(site.ledger.find(kind=MADE)) == 1


def test_scopes_and_days_out_of_their_bounds_are_refused(site: Site) -> None:
    wrong: list[dict[str, Any]] = [{"days": 0}, {"days": 367}, {"scopes": ["approve"]}, {"scopes": ["read", "*"]}]
    for fields in wrong:
        with pytest.raises(UsageError):
            make(site, **fields)


def test_a_dry_run_makes_and_ends_nothing(site: Site) -> None:
    assert make(site, dry_run=True) == ""
    text = make(site)
    ending = {"name": "nightly", "person": BEN.id, "password": PASSWORD, "reason": "x", "dry_run": True}
    site.client._call("automation-revoke", **ending)

    assert use(site, text)["ended"] == ""


def test_a_key_that_asks_too_often_waits_a_minute(site: Site) -> None:
    text = make(site)
    for _ in range(PER_MINUTE):
        use(site, text)

    with pytest.raises(TooOftenError):
        use(site, text)
    site.clock.advance(61)
    use(site, text)


def test_nobody_enrols_under_a_name_that_reads_like_a_key(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    make(site)
    code = site.client.invite([(ANA.id, PASSWORD), (BEN.id, PASSWORD)])

    for name in ("automation:eve", "Automation: eve", "AUTOMATION:eve@ana", "automation\uff1aeve", "nightly"):
        with pytest.raises((AutomationRefusedError, ConflictError)):
            site.at_door(ADMIN_DOOR).enrol(code=code, name=name, certificate=CLEO.certificate, password=PASSWORD)
    assert [one["person"] for one in site.client.people()] == [ANA.id, BEN.id]


def test_a_request_of_a_key_is_recorded_as_a_machine_s_and_two_people_still_approve(site: Site) -> None:
    text = make(site, "request")
    made = ask(site, text)["request"]

    request = site.client.pending()[0]
    assert request.statement.requested_by == f"automation:nightly@{ANA.id}"
    assert site.ledger.find(kind="promotion.requested")[0].body["requested_by"] == request.statement.requested_by
    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(made["statement_sha256"])
    site.approve(request, BEN)
    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(made["statement_sha256"])
    site.approve(request, CLEO)
    assert site.client.promote(made["statement_sha256"]).requested_by == request.statement.requested_by


def test_where_who_requests_does_not_approve_who_answers_for_the_key_does_not(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=3, request="person")
    ask(site, make(site, "request"))
    request = site.client.pending()[0]

    assert site.ledger.find(kind="promotion.requested")[0].body["class"] == BY_AUTOMATION
    with pytest.raises(ApprovalRefusedError) as caught:
        site.approve(request, ANA)
    assert "answers for the automation key" in caught.value.why
    site.approve(request, BEN, CLEO)
    assert site.client.promote(request.statement.sha256).number == 1


def test_requests_of_machines_leave_room_for_people_s(site: Site) -> None:
    text = make(site, "request")
    for number in range(MOST_BY_MACHINES):
        ask(site, text, meaning=f"run {number}")

    with pytest.raises(ConflictError):
        ask(site, text, meaning="one more")
    assert site.request(digest("A"), meaning="a person's").statement.requested_by == ANA.id


def test_a_key_holds_a_canary_and_only_a_person_lets_it_go_on(site: Site) -> None:
    site.promote(digest("A"))
    request = site.approve(site.request(digest("B")), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
    held = page(site, "automation-hold", key=make(site, "hold"), reason="errors rise")["promotion"]

    assert (held["person"], held["class"]) == (f"automation:nightly@{ANA.id}", BY_AUTOMATION)
    assert site.client.canary()["canary"]["held"] is True
    site.restart()
    site.client.step_canary("resume", person=BEN.id, reason="looked at it")
    assert site.client.canary()["canary"]["held"] is False


def messages(site: Site) -> list[str]:
    return sorted(site.desk._answers)


# What takes no name of anybody: it tells how things stand, or takes signatures and digests alone.
NAMELESS = frozenset(
    {"people", "pending", "host-pending", "clock-pending", "policy-pending", "current", "canary-standing", "reviews"}
    | {"emergency-running", "automation-keys", "register", "canary-judge", "model-needs", "line-choice"}
)


@pytest.mark.parametrize("door", DOORS)
def test_no_message_takes_a_key_where_a_person_belongs_from_whatever_door(site: Site, door: str) -> None:
    text = make(site, *ALL)
    actor = f"automation:nightly@{ANA.id}"
    version = digest("A")
    site.validate(version)
    size, before = len(site.folder.people().people), site.client.current()

    for do in messages(site):
        if do.startswith("automation-") or do in NAMELESS:
            continue
        for name, password in ((actor, text), (actor, None), ("nightly", text), (text, text)):
            fields = dict.fromkeys(("person", "by", "requested_by"), name)
            fields |= {"model_digest": version, "evidence_digest": digest("e"), "policy_digest": digest("p")}
            vouchers = [{"person": name, "password": text}, {"person": BEN.id, "password": PASSWORD}]
            with pytest.raises(SealiftError):
                site.at_door(door)._call(
                    do, **fields, password=password, reason="x", meaning="x", note="x", vouchers=vouchers,
                    statement_sha256=version, signature="aGk=", totp="000000", **{"class": "password-totp"},
                )  # fmt: skip
    assert site.client.current() == before
    assert len(site.folder.people().people) == size
    forward = ("approval.", "promotion.", "stop.", "emergency.")
    assert [leaf.kind for kind in forward for leaf in site.ledger.find(kind=kind)] == []


def test_a_key_s_name_in_a_person_s_place_is_recorded_as_refused(site: Site) -> None:
    with pytest.raises(AutomationRefusedError, match="no person"):
        site.at_door(ADMIN_DOOR)._call("request", requested_by=f"automation:nightly@{ANA.id}")
    assert [leaf.body["deed"] for leaf in site.ledger.find(kind=REFUSED)] == ["request"]


def test_an_approval_that_names_a_key_as_its_person_counts_nowhere(site: Site) -> None:
    """As the launcher judges it: the signature is good, and the name on it is a machine's."""
    ask(site, make(site, "request"))
    request = site.approve(site.client.pending()[0], ANA, BEN)
    raw, people = request.statement.to_bytes(), site.folder.people()
    sequence = site.ledger.head().size
    first, second = request.approvals
    require_approved(raw, (first, second), people, sequence=sequence, threshold=2)

    dressed = Approval.from_json({**second.to_json(), "person": request.statement.requested_by})
    named = Approval.from_json({**second.to_json(), "name": "nightly"})
    for forged in (dressed, named):
        with pytest.raises(ApprovalRefusedError):
            require_approved(raw, (first, forged), people, sequence=sequence, threshold=2)


@pytest.mark.parametrize("kind", ["approval.given", "promotion.made", "person.enrolled", MADE, USED, REVOKED, REFUSED])
def test_the_page_s_door_to_the_ledger_takes_none_of_it(kind: str) -> None:
    with pytest.raises(LedgerRefusedError):
        require_may_append(ADMIN, kind)
    require_may_append(PROMOTER, kind)
    with pytest.raises(LedgerRefusedError):
        require_may_append("ledger-actions", kind)


def test_a_statement_whose_requester_half_reads_like_a_key_is_refused(site: Site) -> None:
    fields = canonical.loads(site.request(digest("A")).statement.to_bytes())

    for name in ("automation:x", "automation:@ana", "Automation:x@ana", "automation:x@ana@ben", "automation: x@ana"):
        with pytest.raises(SealiftError):
            Statement.from_bytes(canonical.dumps({**fields, "requested_by": name}))
    assert actors.answerable("automation:x@ana") == "ana"
    assert actors.shown("ana") == "ana"


def test_a_canary_that_does_not_run_is_not_held(site: Site) -> None:
    with pytest.raises(NotPromotedError):
        page(site, "automation-hold", key=make(site, "hold"), reason="x")
