"""The promoter's counter: which door may ask what, and how a message becomes a call.

Three doors, each a socket with its own group. `promoter-actions` is for root's commands; `promoter-admin` is for the
web page, `promoter-operator` for operators' commands: these cannot act in anyone's name, so there going back and
stopping take the person's password, and codes are not issued. A request takes it at every door where who requests does
not approve (`appliance.promote.asking`). An approval needs no door's word, since it is a
signature, nor does an enrolment, since it takes a code.

    codes{count,admins?} -> {codes}                           actions, while nobody is enrolled
    invite{vouchers:[{person,password}],role?} -> {code}      actions
    reset{person,vouchers,printed_code?} -> {code}            actions
    roles{person,roles,vouchers} -> {person}                  actions
    register -> {challenge,rp_id,user,algorithms}             for `registration` of an enrolment
    enrol{code,name,password,person?,certificate?,token_key?,registration?,totp?} -> {person,totp_address,printed_code}
    revoke{person,by,password,reason} -> {}                   actions
    password-statement{person} -> {statement}                 actions; for who has no password on this box
    password{person,presented,password} -> {}                 actions; `presented`: a signature over it
    login{person,password} -> {person,name,roles}
    people -> {people:[{person,name,fingerprint,roles,classes,credentials,revoked,counts_from}],admins,classes,...}
    request{model_digest,evidence_digest,policy_digest,meaning,requested_by,password?,beside?,replaces?} -> {request}
    line-choice{model_digest} -> {asked,lines:[{name,newest,shown}],not_beside}    whether a request must say a line
    pending -> {requests:[{statement,statement_sha256,basis,approvals}]}
    approve{statement_sha256,...} -> {request}                see `appliance.promote.presented`; so are the other two
    promote{statement_sha256} -> {promotion}
    withdraw                                                  see `appliance.promote.withdrawing`
    rollback{person,reason,model_digest?,line?,password?,seen?} -> {promotion}   `line`: name of the model it serves;
                                                              `seen`: the `number` of `current` that was decided on
    stop{person,reason,line?,password?} -> {promotion}                       every line where none is named
    host-request{plan_digest,serial,meaning,requested_by} -> {request}
    host-pending -> {requests:[{statement,statement_sha256,approvals}]}
    host-approve{statement_sha256,...} -> {request}
    clock-request{correction_seconds,meaning,requested_by} -> {request}
    clock-pending -> {requests:[{statement,statement_sha256,approvals}]}
    clock-approve{statement_sha256,...} -> {request}
    current -> {model_digest,number,is_stopped,returnable,last,withdrawn,in_doubt,lines}
                                                              `lines`: {line,name,model_digest,newest,canary,returnable}
    carry{peer,record,evidence} -> {taken}                    actions; see `appliance.promote.carrying`
    carry-ahead{peer,record} -> {held}                        actions
    policy-request policy-pending policy-approve              see `appliance.promote.policy_desk`
    answers-judged                                            see `appliance.promote.judgement_desk`
    canary-* caller-* review reviews                          see `appliance.promote.rollout_desk`
    emergency-*                                               see `appliance.promote.breakglass`
    automation-*                                              see `appliance.promote.automation_desk`
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from argon2 import PasswordHasher

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ConflictError, LedgerRefusedError, WireError
from appliance.promote import (
    automation_desk,
    breakglass,
    deletion_desk,
    judgement_desk,
    policy_desk,
    rollout_desk,
    withdrawing,
)
from appliance.promote.accepting import Acceptance
from appliance.promote.alone import Alone
from appliance.promote.asking import BY_PASSWORD
from appliance.promote.automation import AutomationKeys
from appliance.promote.books import Books
from appliance.promote.breakglass import Emergencies
from appliance.promote.carrying import MOST_EVIDENCE
from appliance.promote.clockchange import ClockChanges
from appliance.promote.deletions import Deletions
from appliance.promote.destination import Said
from appliance.promote.doubted import in_doubt
from appliance.promote.enrolment import Secrets
from appliance.promote.folder import PromoterFolder
from appliance.promote.hostchange import HostChanges
from appliance.promote.linenames import name_of
from appliance.promote.passwords import CodeBook, Passwords
from appliance.promote.people_desk import PeopleDesk
from appliance.promote.policybook import in_force
from appliance.promote.policychange import PolicyChanges
from appliance.promote.presented import Presented
from appliance.promote.promoter import Promoter
from appliance.promote.reviews import Reviews
from appliance.promote.rollout import Rollout
from appliance.promote.secondfactor import SecondFactors
from appliance.standby.carried import Carried
from appliance.timekeeping.onetime import step_now
from appliance.watchdog.loops import is_free
from appliance.wire import Peer
from media import canonical, limits
from media.clock import Clock

ADMIN_DOOR: Final = "promoter-admin"
ACTIONS_DOOR: Final = "promoter-actions"
OPERATOR_DOOR: Final = "promoter-operator"
JUDGE_DOOR: Final = "promoter-judge"
DOORS: Final = (ADMIN_DOOR, ACTIONS_DOOR, OPERATOR_DOOR, JUDGE_DOOR)
BY_OPERATOR: Final = "operator"
_ONLY_ACTIONS: Final = frozenset(
    {"codes", "invite", "reset", "roles", "revoke", "password-statement", "password", "carry", "carry-ahead"}
)

Fields = Mapping[str, Any]


def build_desk(
    config: Config,
    ledger: Ledger,
    *,
    clock: Clock,
    machine: Clock | None = None,
    hasher: PasswordHasher | None = None,
) -> "Desk":
    """Return what answers messages, on the folder that the site file names.

    Args:
        config: The site file.
        ledger: The promoter's door to the ledger.
        clock: By which approvals expire.
        machine: The machine's own clock, which people may correct and codes are judged by while it is certain; `clock`
            where nothing else is given.
        hasher: Of passwords.
    """
    folder = PromoterFolder(config.at.promoter)
    books = Books(folder, ledger)
    hasher = hasher or PasswordHasher()
    secrets = Secrets(
        codes=CodeBook(folder, clock, hasher),
        passwords=Passwords(folder, clock, hasher),
        factors=SecondFactors(
            folder, clock, hasher, site=config.site, step=lambda: step_now(config.at, machine or clock)
        ),
    )
    acceptance = Acceptance(folder, config=config, clock=clock, factors=secrets.factors)
    people = PeopleDesk(books, secrets, config=config, clock=clock, acceptance=acceptance)
    promoter = Promoter(books, config=config, policy=lambda: in_force(ledger), clock=clock, acceptance=acceptance)
    hosts = HostChanges(books, config=config, clock=clock, acceptance=acceptance)
    clocks = ClockChanges(books, config=config, clock=machine or clock, acceptance=acceptance)
    rollout = Rollout(books, promoter, clock=clock, machine=machine, goes_back=config.policy.watch == "go-back")
    policies = PolicyChanges(books, config=config, clock=clock, acceptance=acceptance)
    return Desk(
        books=books,
        people=(people, AutomationKeys(books, clock=clock, hasher=hasher)),
        promoter=promoter,
        changes=(hosts, clocks, policies),
        rollout=rollout,
        reviews=Reviews(books),
        deletions=Deletions(books, promoter.pending),
        clock=clock,
    )


class Desk:
    """Answers one message at a time, whatever the door."""

    def __init__(
        self,
        *,
        books: Books,
        people: tuple[PeopleDesk, AutomationKeys],
        promoter: Promoter,
        changes: tuple[HostChanges, ClockChanges, PolicyChanges],
        rollout: Rollout,
        reviews: Reviews,
        deletions: Deletions,
        clock: Clock,
    ) -> None:
        self._folder, self._ledger = books.folder, books.ledger
        self._alone = Alone(books)
        self._people, self._automation = people
        self._promoter = promoter
        self._hosts, self._clocks, policies = changes
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[[Peer, Fields], dict[str, Any]]] = {
            **self._people.answers,
            "request": self._request,
            "line-choice": self._line_choice,
            "pending": self._pending,
            "approve": self._approve,
            "promote": self._promote,
            "rollback": self._rollback,
            "stop": self._stop,
            "host-request": self._host_request,
            "host-pending": self._host_pending,
            "host-approve": self._host_approve,
            "clock-request": self._clock_request,
            "clock-pending": self._clock_pending,
            "clock-approve": self._clock_approve,
            "current": self._current,
            "carry": self._carry,
            "carry-ahead": self._carry_ahead,
            **rollout_desk.answers(rollout, reviews, self._class_of),
            **breakglass.answers(Emergencies(books, reviews, clock), self._class_of),
            **deletion_desk.answers(deletions, self._class_of),
            **policy_desk.answers(policies, self._people.class_of_asker),
            **judgement_desk.answers(books, self._class_of),
            **withdrawing.answers(books, promoter.pending, self._class_of),
            **automation_desk.answers(self._automation, promoter, rollout, self._people.require_login),
        }

    def turns(self, seconds: float) -> bool:
        """Whether a message would have its turn within `seconds`: what is being answered comes to its end."""
        return is_free(self._lock, seconds)

    def __call__(self, peer: Peer, untrusted: Fields) -> Mapping[str, Any]:
        """Answer one message; a `Handler` of `appliance.wire`.

        Raises:
            WireError: Nobody knows this message.
            LedgerRefusedError: Not through this door.
        """
        do = str(untrusted.get("do"))
        answer = self._answers.get(do)
        if answer is None or peer.door not in DOORS:
            raise WireError(what="the promoter does not know that message", why=do[:40], fix="use the same release")
        if do in _ONLY_ACTIONS and peer.door != ACTIONS_DOOR:
            raise LedgerRefusedError(
                what=f"{do} is not for this door",
                why="who may approve is decided as root, at the machine",
                fix="run the same `sealift people` as root, with sudo",
            )
        if peer.door == JUDGE_DOOR and do != "canary-judge":
            raise LedgerRefusedError(
                what=f"{do} is not for this door", why="the timer only asks for a look", fix="use `sealift canary`"
            )
        if do in automation_desk.AT_THE_MACHINE and peer.door not in {ACTIONS_DOOR, OPERATOR_DOOR}:
            raise LedgerRefusedError(
                what=f"{do} is not for this door", why="AUTO-1: at the machine only", fix="use `sealift automation`"
            )
        if do in automation_desk.ON_THE_PAGE and peer.door != ADMIN_DOOR:
            raise LedgerRefusedError(
                what=f"{do} is not for this door", why="AUTO-5: keys come by the page", fix="use the web service"
            )
        with self._lock:
            automation_desk.require_people(self._automation, do, untrusted)
            self._require_seen(untrusted)
            return answer(peer, untrusted)

    def _require_seen(self, untrusted: Fields) -> None:
        """Return where production stands as it did when something was decided, if that is said.

        Raises:
            ConflictError: Somebody, or the judge, was first: going back once more would be from another version.
        """
        if untrusted.get("seen") is None:
            return
        seen, number = canonical.integer(untrusted["seen"], "seen"), self._folder.production().number
        if seen != number:
            raise ConflictError(
                what="production changed since this was decided",
                why=f"{seen} promotions were recorded then, {number} are now",
                fix="look again at what serves, and decide anew",
            )

    def _request(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        request = self._promoter.request(
            model_digest=_digest(untrusted, "model_digest"),
            evidence_digest=_digest(untrusted, "evidence_digest"),
            policy_digest=_digest(untrusted, "policy_digest"),
            meaning=_text(untrusted, "meaning"),
            requested_by=_text(untrusted, "requested_by"),
            asker_class=self._people.class_of_asker(untrusted),
            said=Said.of_message(untrusted),
        )
        return {"request": request.to_json(), "statement": request.statement.to_bytes().decode()}

    def _line_choice(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        return self._promoter.choice(_digest(untrusted, "model_digest")).to_json()

    def _pending(self, _: Peer, __: Fields) -> dict[str, Any]:
        return {"requests": [request.to_json() for request in self._promoter.pending()]}

    def _approve(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        presented = Presented.from_message(untrusted)
        request = self._promoter.approve(_digest(untrusted, "statement_sha256"), presented)
        return {"request": request.to_json(), "approvals": [one.to_json() for one in request.approvals]}

    def _promote(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        return {"promotion": self._promoter.promote(_digest(untrusted, "statement_sha256")).to_json()}

    def _rollback(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        promotion = self._alone.rollback(
            person=_text(untrusted, "person"),
            person_class=self._class_of(peer, untrusted),
            reason=_text(untrusted, "reason"),
            model_digest=_digest(untrusted, "model_digest") if untrusted.get("model_digest") else "",
            name=_text(untrusted, "line") if untrusted.get("line") else "",
        )
        return {"promotion": promotion.to_json()}

    def _stop(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        promotion = self._alone.stop(
            person=_text(untrusted, "person"),
            person_class=self._class_of(peer, untrusted),
            reason=_text(untrusted, "reason"),
            name=_text(untrusted, "line") if untrusted.get("line") else "",
        )
        return {"promotion": promotion.to_json()}

    def _host_request(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        request = self._hosts.request(
            plan_digest=_digest(untrusted, "plan_digest"),
            serial=canonical.integer(untrusted.get("serial"), "serial", minimum=1),
            meaning=_text(untrusted, "meaning"),
            requested_by=_text(untrusted, "requested_by"),
        )
        return {"request": request.to_json()}

    def _host_pending(self, _: Peer, __: Fields) -> dict[str, Any]:
        return {"requests": [request.to_json() for request in self._hosts.pending()]}

    def _host_approve(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        presented = Presented.from_message(untrusted)
        return {"request": self._hosts.approve(_digest(untrusted, "statement_sha256"), presented).to_json()}

    def _clock_request(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        request = self._clocks.request(
            correction_seconds=canonical.integer(
                untrusted.get("correction_seconds"), "correction_seconds", minimum=-limits.INTEGER_MAX
            ),
            meaning=_text(untrusted, "meaning"),
            requested_by=_text(untrusted, "requested_by"),
        )
        return {"request": request.to_json()}

    def _clock_pending(self, _: Peer, __: Fields) -> dict[str, Any]:
        return {"requests": [request.to_json() for request in self._clocks.pending()]}

    def _clock_approve(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        presented = Presented.from_message(untrusted)
        return {"request": self._clocks.approve(_digest(untrusted, "statement_sha256"), presented).to_json()}

    def _current(self, _: Peer, __: Fields) -> dict[str, Any]:
        production = self._folder.production()
        return {
            "model_digest": production.current,
            "number": production.number,
            "is_stopped": production.first.is_stopped,
            "returnable": list(production.returnable),
            "last": None if production.last is None else production.last.to_json(),
            "withdrawn": list(production.withdrawn),
            "in_doubt": sorted(in_doubt(self._ledger)) if production.lines else [],
            "lines": [
                {
                    "line": line.number,
                    "name": name_of(self._ledger, line.newest),
                    "model_digest": line.current,
                    "newest": line.newest,
                    "canary": None if line.canary is None else line.canary.version,
                    "returnable": list(production.returnable_in(line)),
                }
                for line in production.lines.values()
                if line.newest is not None
            ],
        }

    def _carry(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        record = Carried.from_json(untrusted.get("record"))
        evidence = canonical.array(untrusted.get("evidence"), "evidence", most=MOST_EVIDENCE)
        proven = [Carried.from_json(one) for one in evidence]
        return {"taken": self._promoter.carrying.take(_text(untrusted, "peer"), record, proven)}

    def _carry_ahead(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        record = Carried.from_json(untrusted.get("record"))
        return {"held": self._promoter.carrying.hold_back(_text(untrusted, "peer"), record)}

    def _class_of(self, peer: Peer, untrusted: Fields) -> str:
        if peer.door == ACTIONS_DOOR and untrusted.get("password") is None:
            return BY_OPERATOR
        self._people.require_login(untrusted)
        return BY_PASSWORD


def _text(untrusted: Any, field: str, *, may_be_empty: bool = False) -> str:
    value = canonical.mapping(untrusted, "message").get(field, "" if may_be_empty else None)
    return canonical.text(value, field, may_be_empty=may_be_empty)


def _digest(untrusted: Fields, field: str) -> str:
    return canonical.sha256_hex(untrusted.get(field), field)
