"""A clock that is wrong, from the first look to the correction that two people approve."""

import errno
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.actions import clock as action
from appliance.actions import clocksetter, doctor
from appliance.actions.believing import floor
from appliance.errors import (
    ApprovalRefusedError,
    ClockUncertainError,
    ConflictError,
    LedgerUnavailableError,
    UnknownPersonError,
)
from appliance.promote.clockchange import TYPE, VALID_SECONDS, ClockRequest, ClockStatement, require_clock_approved
from appliance.promote.credentials import Credential
from appliance.timekeeping import record
from appliance.timekeeping.record import Verdict
from appliance.verify.freshness import BUILT
from appliance.verify.trust import TrustRecord
from media import canonical, gpgagent, signers
from media.clock import to_text
from media.errors import SealiftError, UsageError
from tests.support.clocks import EPOCH, TODAY, Machine, machine
from tests.support.signatories import Signatory, signatories

FIFTY_YEARS = timedelta(days=50 * 365)


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    return machine(tmp_path, enrolled=3)


def ask(box: Machine, right: datetime | str) -> ClockRequest:
    text = right if isinstance(right, str) else to_text(right)
    seconds = action.correction_to(text, clock=box.clock)
    return box.site.client.request_clock(
        correction_seconds=seconds, meaning="the battery was empty", requested_by=signatories()[0].id
    )


def approve(box: Machine, request: ClockRequest, *people: Signatory) -> ClockRequest:
    for person in people:
        request = box.site.client.approve_clock(request.statement.sha256, person.sign(request.statement.to_bytes()))
    return request


def setter(box: Machine) -> Callable[[datetime], None]:
    def set_it(moment: datetime) -> None:
        box.clock.at = moment

    return set_it


def apply(box: Machine, request: ClockRequest) -> None:
    clocksetter.carry_out(box.config, box.site.ledger, request.statement.sha256, clock=box.clock, setter=setter(box))


def test_it_is_said_beforehand_when_nobody_could_put_the_clock_right(box: Machine) -> None:
    """Scenario: three people with keys; two go on with one-time codes alone; then only codes count at the site."""
    many = action.correctors(box.config)
    people = box.site.folder.people()
    for person in signatories()[1:3]:
        own = Ed25519PrivateKey.generate().public_key()
        sealed = own.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        people = people.with_credentials(person.id, [Credential.of("password-totp", sealed)], people.sequence + 1)
    box.site.folder.save_people(people)

    few = action.correctors(box.config)
    codes = box.config.policy.model_copy(update={"classes": ["password-totp"]})
    none = action.correctors(box.config.model_copy(update={"policy": codes}))

    assert many is not None
    assert (many.is_good, many.text.partition(": ")[0]) == (True, "3 who could put it right, 2 are needed")
    assert few is not None
    assert few in doctor._clock(box.config, box.clock)
    assert few.is_good is None
    assert few.text.startswith("1 who could put it right, 2 are needed: Ana Petrova; ")
    assert "`sealift people reset`" in few.fix
    assert none is not None
    assert "2 are needed: nobody" in none.text
    assert "policy.classes" in none.fix


def test_while_nobody_is_enrolled_nothing_is_said_of_who_corrects_the_clock(tmp_path: Path) -> None:
    assert action.correctors(machine(tmp_path).config) is None


@pytest.mark.parametrize("wrong", [EPOCH, TODAY + FIFTY_YEARS], ids=["1970", "in fifty years"])
def test_two_people_put_a_wrong_clock_right_and_decisions_follow(box: Machine, wrong: datetime) -> None:
    ana, ben, *_ = signatories()
    box.run(60)
    box.boot(at=wrong)
    assert not box.run().verdict.is_certain
    right = TODAY + timedelta(hours=2)

    request = approve(box, ask(box, right), ana, ben)
    box.run(600)
    apply(box, request)
    found = box.run()

    assert found.verdict is Verdict.GOOD
    assert abs((box.clock.now() - right).total_seconds() - 605) < 2
    assert found.confirmed_by == f"{ana.name}, {ben.name}"
    assert right <= found.floor <= box.clock.now()
    kinds = [leaf.kind for leaf in box.site.ledger.find(kind="clock.", newest_first=False)]
    assert kinds[-2:] == ["clock.set", "clock.answered"]


def test_a_clock_that_ran_fifty_years_ahead_burns_neither_floor(box: Machine) -> None:
    box.jump(FIFTY_YEARS)
    box.run(3600)
    box.site.ledger.append("release.refused", {"why": "recorded in another century"})

    assert box.record.floor < TODAY + timedelta(days=1)
    assert floor(box.site.ledger, TrustRecord(root_chain=("{}",)), box.record) == box.record.floor


def test_the_set_clock_is_believed_whoever_looks_first(box: Machine) -> None:
    box.boot(at=EPOCH)
    request = approve(box, ask(box, TODAY + timedelta(days=1)), *signatories()[:2])
    seen: list[Verdict] = []

    def set_and_look(moment: datetime) -> None:
        seen.append(box.watch.look().verdict)  # recorded, not yet set
        box.clock.at = moment
        seen.append(box.watch.look().verdict)

    clocksetter.carry_out(box.config, box.site.ledger, request.statement.sha256, clock=box.clock, setter=set_and_look)

    assert seen == [Verdict.BEHIND, Verdict.GOOD]


def test_the_set_clock_is_believed_though_somebody_lists_corrections_before_the_watch_looks(box: Machine) -> None:
    box.boot(at=EPOCH)
    request = approve(box, ask(box, TODAY + timedelta(days=1)), *signatories()[:2])
    apply(box, request)

    assert box.site.client.pending_clocks() == (), "it was used"
    found = box.run()

    assert found.verdict is Verdict.GOOD
    assert found.confirmed_by == ", ".join(one.name for one in signatories()[:2])
    file = box.config.at.promoter / "clock-changes" / f"{request.statement.sha256}.json"
    assert file.exists()
    box.run(VALID_SECONDS)
    box.site.client.pending_clocks()
    assert not file.exists()


def test_nobody_and_one_person_set_nothing(box: Machine) -> None:
    ana = signatories()[0]
    request = ask(box, TODAY + timedelta(days=1))
    before = box.clock.now()

    for done in (request, approve(box, request, ana)):
        with pytest.raises(ClockUncertainError, match="two people"):
            apply(box, done)
    with pytest.raises(ApprovalRefusedError):
        approve(box, request, ana)
    assert box.clock.now() == before
    assert not box.site.ledger.find(kind="clock.set")


@pytest.mark.parametrize(("right", "why"), [("now", "was used"), (TODAY + timedelta(minutes=10), "no longer holds")])
def test_a_correction_counts_once(box: Machine, right: datetime | str, why: str) -> None:
    request = approve(box, ask(box, right), *signatories()[:2])
    apply(box, request)
    box.run()

    with pytest.raises(ClockUncertainError, match=why):
        apply(box, request)


def test_a_name_alone_answers_for_nothing_once_people_are_enrolled(box: Machine) -> None:
    box.jump(timedelta(days=1))
    box.site.ledger.append("clock.confirmed", {"by": "Mallory", "shown": "x"})

    assert box.run().verdict is Verdict.JUMPED


def test_what_was_approved_before_a_restart_explains_no_step_after_it(box: Machine) -> None:
    request = approve(box, ask(box, TODAY + timedelta(days=10)), *signatories()[:2])
    clocksetter.carry_out(box.config, box.site.ledger, request.statement.sha256, clock=box.clock, setter=lambda _: None)
    box.boot(at=TODAY + timedelta(minutes=5))

    box.run()
    assert box.jump(timedelta(days=10)).verdict is Verdict.JUMPED


@pytest.mark.parametrize("change", ["boot", "age", "jump"])
def test_a_correction_is_void_when_its_clock_is_not_the_one_that_was_looked_at(box: Machine, change: str) -> None:
    request = approve(box, ask(box, TODAY + timedelta(days=1)), *signatories()[:2])
    if change == "boot":
        box.boot(at=TODAY + timedelta(seconds=60))
    elif change == "age":
        box.run(VALID_SECONDS + 60)
    else:
        box.jump(timedelta(hours=1))

    with pytest.raises(ClockUncertainError, match="no longer holds"):
        apply(box, request)
    assert box.site.client.pending_clocks() == ()


def test_what_cannot_be_is_not_asked_for(box: Machine) -> None:
    with pytest.raises(ClockUncertainError, match="cannot be"):
        ask(box, BUILT - timedelta(seconds=1))
    with pytest.raises(UsageError):
        ask(box, "tomorrow")
    with pytest.raises(UnknownPersonError):
        box.site.client.request_clock(correction_seconds=1, meaning="x", requested_by="mallory")


def test_without_the_ledger_nothing_is_set(box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    request = approve(box, ask(box, TODAY + timedelta(days=1)), *signatories()[:2])
    before = box.clock.now()

    def refuse(*_: object, **__: object) -> None:
        raise LedgerUnavailableError(what="no ledger")

    monkeypatch.setattr(box.site.ledger, "append", refuse)
    with pytest.raises(LedgerUnavailableError):
        apply(box, request)

    assert box.clock.now() == before


def test_a_record_that_says_it_was_approved_is_not_taken_at_its_word(box: Machine) -> None:
    request = ask(box, TODAY + FIFTY_YEARS)
    session = request.statement.session
    box.site.ledger.append("clock.set", {"statement_sha256": request.statement.sha256, "session": session})
    box.site.ledger.append("clock.confirmed", {"by": "Mallory", "shown": "x"})
    found = box.jump(FIFTY_YEARS)

    assert found.verdict is Verdict.JUMPED
    assert "Mallory" not in found.confirmed_by


def test_a_signature_for_the_host_is_none_for_the_clock(box: Machine) -> None:
    request = ask(box, TODAY)
    fields = canonical.mapping(canonical.loads(request.statement.to_bytes()), "statement")
    other = canonical.dumps({**fields, "type": "sealift/host-change"})

    assert fields["type"] == TYPE
    with pytest.raises(ApprovalRefusedError):
        ClockStatement.from_bytes(other)
    with pytest.raises(ApprovalRefusedError):
        box.site.client.approve_clock(request.statement.sha256, signatories()[0].sign(other))


def test_a_clock_is_confirmed_by_name_until_people_are_enrolled(tmp_path: Path) -> None:
    box = machine(tmp_path, confirmed=False)
    assert box.run().verdict is Verdict.UNCONFIRMED
    with pytest.raises(UsageError):
        action.confirm(box.config, box.site.ledger, untrusted_name=" ", clock=box.clock)
    action.confirm(box.config, box.site.ledger, untrusted_name="Iris", clock=box.clock, dry_run=True)
    assert box.run().verdict is Verdict.UNCONFIRMED

    action.confirm(box.config, box.site.ledger, untrusted_name="Iris", clock=box.clock)

    assert (box.run().verdict, box.record.confirmed_by) == (Verdict.GOOD, "Iris")
    box.site.enrol(*signatories()[:2])
    for _ in range(2):
        with pytest.raises(ConflictError):
            action.confirm(box.config, box.site.ledger, untrusted_name="Iris", clock=box.clock)
        (box.config.at.promoter / "people.json").unlink(missing_ok=True)  # the ledger knows of them


@pytest.mark.parametrize("at", [EPOCH, TODAY + FIFTY_YEARS])
def test_an_impossible_clock_cannot_be_confirmed(tmp_path: Path, at: datetime) -> None:
    box = machine(tmp_path, at=at, confirmed=False)

    with pytest.raises(ClockUncertainError, match="cannot be"):
        action.confirm(box.config, box.site.ledger, untrusted_name="Iris", clock=box.clock)


def test_after_a_jump_that_was_right_two_people_say_so(box: Machine) -> None:
    box.boot(at=TODAY + timedelta(days=200))
    assert box.run().verdict is Verdict.JUMPED

    apply(box, approve(box, ask(box, "now"), *signatories()[:2]))

    assert box.run().verdict is Verdict.GOOD
    assert box.record.floor >= TODAY + timedelta(days=200)


def test_what_the_ledger_did_not_take_is_told_later(box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LedgerUnavailableError(what="no ledger")

    with monkeypatch.context() as patch:
        patch.setattr(box.site.ledger, "append", refuse)
        box.jump(timedelta(days=1))
        assert len(box.record.untold) == 1
    box.run()

    assert [leaf.body["seconds"] for leaf in box.site.ledger.find(kind="clock.jumped")] == [86400]
    assert box.run().untold == ()


def test_a_watch_that_starts_again_in_the_same_boot_goes_on_and_a_lost_record_begins_at_the_floor(box: Machine) -> None:
    box.jump(timedelta(days=1))
    session = box.record.session
    assert box.watch.start().session == session
    assert box.record.verdict is Verdict.JUMPED

    (box.config.at.clock / record.FILE).write_bytes(b"torn")
    found = box.boot(at=EPOCH)
    assert (found.verdict, found.floor) == (Verdict.BEHIND, BUILT)


def test_the_doctor_names_what_is_wrong_and_who_helps(box: Machine, tmp_path: Path) -> None:
    rtc = tmp_path / "rtc"
    rtc.write_text(str(int(box.clock.now().timestamp())))
    box.run()
    assert action.finding(box.config, clock=box.clock, rtc=rtc).is_good is True
    assert action.alert(box.config, clock=box.clock) is None
    rtc.write_text("100")
    assert action.finding(box.config, clock=box.clock, rtc=rtc).is_good is None

    box.boot(at=EPOCH)
    found = action.finding(box.config, clock=box.clock, rtc=rtc)

    assert found.is_good is False
    assert "behind" in found.text
    banner = action.alert(box.config, clock=box.clock)
    assert banner is not None
    assert "behind" in banner.line
    shown = action.standing(box.config, clock=box.clock).to_json()
    assert shown["verdict"] == "behind"
    assert shown["floor_from"] == "the clock was right then"
    json.dumps(shown)


def test_a_person_signs_at_a_machine_whose_clock_is_before_their_key(tmp_path: Path) -> None:
    home = tmp_path / "g"
    fingerprint = signers.generate_key(home, "Ana", "ana@site.example")
    try:
        data = b"a statement"
        assert signers.detached_sign(home, fingerprint, data, at=TODAY)
        with pytest.raises(SealiftError):
            signers.detached_sign(home, fingerprint, data, at=datetime(2001, 1, 1, tzinfo=TODAY.tzinfo))
    finally:
        gpgagent.stop_agents(home)


def test_nothing_is_approved_where_nobody_asked(box: Machine) -> None:
    with pytest.raises(ClockUncertainError, match="two people"):
        require_clock_approved(box.config, "ab" * 32)


@pytest.mark.parametrize(
    ("is_watched", "seconds", "is_said"),
    [(True, -3600, True), (True, -300, False), (True, 3600, False), (False, -3600, False)],
)
def test_after_a_correction_back_it_is_said_how_alerts_are_to_be_relied_on_again(
    box: Machine, *, is_watched: bool, seconds: int, is_said: bool
) -> None:
    watched = box.config.monitoring.model_copy(update={"enabled": is_watched})

    found = action.afterwards(box.config.model_copy(update={"monitoring": watched}), seconds)

    assert ("sealift doctor --mend" in found) == bool(found) == is_said


def test_a_full_disk_does_not_end_the_watch_and_is_said_once(
    box: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(record, "keep", is_full)
        started = box.boot(at=box.clock.at)
        jumped = box.jump(FIFTY_YEARS)
        box.run()

    assert (started.verdict.is_certain, jumped.verdict, box.record.verdict) == (True, Verdict.JUMPED, Verdict.JUMPED)
    assert (
        capsys.readouterr().err
        == "<4>the clock is watched, and not noted for the next start: No space left on device\n"
    )
    found = box.run()
    assert record.kept(box.config.at) == found
