"""The promoter's counter: which door may ask what, and how a message becomes a call.

Three doors, each a socket with its own group. `promoter-actions` is for root's commands; `promoter-admin` is for the
web page, `promoter-operator` for operators' commands: these cannot act in anyone's name, so there going back and
stopping take the person's password, and codes are not issued. An approval needs no door's word, since it is a
signature, nor does an enrolment, since it takes a code.

    codes{count} -> {codes}                                   actions, while nobody is enrolled
    invite{vouchers:[{person,password}]} -> {code}            actions
    enrol{code,name,certificate,password,person?} -> {person} certificate is base64 of the binary certificate
    revoke{person,by,password,reason} -> {}                   actions
    login{person,password} -> {person,name,roles}
    people -> {people:[{person,name,fingerprint,roles,class,revoked}]}
    request{model_digest,evidence_digest,policy_digest,meaning,requested_by} -> {request}
    pending -> {requests:[{statement,statement_sha256,basis,approvals}]}
    approve{statement_sha256,signature} -> {request}          signature is base64 of a binary detached signature
    promote{statement_sha256} -> {promotion}
    rollback{person,reason,model_digest?,password?} -> {promotion}
    stop{person,reason,password?} -> {promotion}
    host-request{plan_digest,serial,meaning,requested_by} -> {request}
    host-pending -> {requests:[{statement,statement_sha256,approvals}]}
    host-approve{statement_sha256,signature} -> {request}
    clock-request{correction_seconds,meaning,requested_by} -> {request}
    clock-pending -> {requests:[{statement,statement_sha256,approvals}]}
    clock-approve{statement_sha256,signature} -> {request}
    current -> {model_digest,number,is_stopped,returnable,last}
    carry{peer,record,evidence} -> {taken}                    actions; see `appliance.promote.carrying`
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from argon2 import PasswordHasher

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import LedgerRefusedError, WireError
from appliance.promote.books import Books
from appliance.promote.clockchange import ClockChanges
from appliance.promote.enrolment import Enrolment, Voucher
from appliance.promote.folder import PromoterFolder
from appliance.promote.hostchange import HostChanges
from appliance.promote.people import SitePerson, from_base64
from appliance.promote.policy import packaged
from appliance.promote.promoter import Promoter
from appliance.standby.carried import Carried
from appliance.watchdog.loops import is_free
from appliance.wire import Peer
from media import canonical, limits
from media.clock import Clock

ADMIN_DOOR: Final = "promoter-admin"
ACTIONS_DOOR: Final = "promoter-actions"
OPERATOR_DOOR: Final = "promoter-operator"
DOORS: Final = (ADMIN_DOOR, ACTIONS_DOOR, OPERATOR_DOOR)
BY_PASSWORD: Final = "password"  # noqa: S105 - a class of authentication
BY_OPERATOR: Final = "operator"
_ONLY_ACTIONS: Final = frozenset({"codes", "invite", "revoke", "carry"})

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
        machine: The machine's own clock, which people may correct; `clock` where nothing else is given.
        hasher: Of passwords.
    """
    folder = PromoterFolder(config.at.promoter)
    books = Books(folder, ledger)
    enrolment = Enrolment(books, clock, hasher or PasswordHasher())
    promoter = Promoter(books, config=config, policy=packaged(), clock=clock)
    hosts = HostChanges(books, config=config, clock=clock)
    clocks = ClockChanges(books, config=config, clock=machine or clock)
    return Desk(folder=folder, enrolment=enrolment, promoter=promoter, hosts=hosts, clocks=clocks)


class Desk:
    """Answers one message at a time, whatever the door."""

    def __init__(
        self,
        *,
        folder: PromoterFolder,
        enrolment: Enrolment,
        promoter: Promoter,
        hosts: HostChanges,
        clocks: ClockChanges,
    ) -> None:
        self._folder = folder
        self._enrolment = enrolment
        self._promoter = promoter
        self._hosts = hosts
        self._clocks = clocks
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[[Peer, Fields], dict[str, Any]]] = {
            "codes": self._codes,
            "invite": self._invite,
            "enrol": self._enrol,
            "revoke": self._revoke,
            "login": self._login,
            "people": self._people,
            "request": self._request,
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
                what=f"{do} is not for this door", why="codes are issued at the machine", fix="use `sealift people`"
            )
        with self._lock:
            return answer(peer, untrusted)

    def _codes(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        count = canonical.integer(untrusted.get("count", 2), "count")
        return {"codes": list(self._enrolment.issue_codes(count))}

    def _invite(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        vouchers = [
            Voucher(person=_text(one, "person"), password=_password(canonical.mapping(one, "voucher")))
            for one in canonical.array(untrusted.get("vouchers"), "vouchers", most=8)
        ]
        return {"code": self._enrolment.invite(vouchers)}

    def _enrol(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        person = self._enrolment.enrol(
            code=_text(untrusted, "code"),
            name=_text(untrusted, "name"),
            certificate=from_base64(untrusted.get("certificate"), "certificate"),
            password=_password(untrusted),
            person=_text(untrusted, "person", may_be_empty=True),
        )
        return {"person": _shown(person)}

    def _revoke(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        self._enrolment.revoke(
            person=_text(untrusted, "person"),
            by=_text(untrusted, "by"),
            password=_password(untrusted),
            reason=_text(untrusted, "reason"),
        )
        return {}

    def _login(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        person = self._enrolment.login(_text(untrusted, "person"), _password(untrusted))
        return {"person": person.id, "name": person.name, "roles": list(person.roles)}

    def _people(self, _: Peer, __: Fields) -> dict[str, Any]:
        return {"people": [_shown(person) for person in self._folder.people().people]}

    def _request(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        request = self._promoter.request(
            model_digest=_digest(untrusted, "model_digest"),
            evidence_digest=_digest(untrusted, "evidence_digest"),
            policy_digest=_digest(untrusted, "policy_digest"),
            meaning=_text(untrusted, "meaning"),
            requested_by=_text(untrusted, "requested_by"),
        )
        return {"request": request.to_json(), "statement": request.statement.to_bytes().decode()}

    def _pending(self, _: Peer, __: Fields) -> dict[str, Any]:
        return {"requests": [request.to_json() for request in self._promoter.pending()]}

    def _approve(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        signature = from_base64(untrusted.get("signature"), "signature")
        request = self._promoter.approve(_digest(untrusted, "statement_sha256"), signature)
        return {"request": request.to_json(), "approvals": [one.to_json() for one in request.approvals]}

    def _promote(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        return {"promotion": self._promoter.promote(_digest(untrusted, "statement_sha256")).to_json()}

    def _rollback(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        promotion = self._promoter.rollback(
            person=_text(untrusted, "person"),
            person_class=self._class_of(peer, untrusted),
            reason=_text(untrusted, "reason"),
            model_digest=_digest(untrusted, "model_digest") if untrusted.get("model_digest") else "",
        )
        return {"promotion": promotion.to_json()}

    def _stop(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        promotion = self._promoter.stop(
            person=_text(untrusted, "person"),
            person_class=self._class_of(peer, untrusted),
            reason=_text(untrusted, "reason"),
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
        signature = from_base64(untrusted.get("signature"), "signature")
        return {"request": self._hosts.approve(_digest(untrusted, "statement_sha256"), signature).to_json()}

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
        signature = from_base64(untrusted.get("signature"), "signature")
        return {"request": self._clocks.approve(_digest(untrusted, "statement_sha256"), signature).to_json()}

    def _current(self, _: Peer, __: Fields) -> dict[str, Any]:
        production = self._folder.production()
        return {
            "model_digest": production.current,
            "number": production.number,
            "is_stopped": production.is_stopped,
            "returnable": list(production.returnable),
            "last": None if production.last is None else production.last.to_json(),
        }

    def _carry(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        record = Carried.from_json(untrusted.get("record"))
        evidence = canonical.array(untrusted.get("evidence"), "evidence", most=32)
        proven = [Carried.from_json(one) for one in evidence]
        return {"taken": self._promoter.carrying.take(_text(untrusted, "peer"), record, proven)}

    def _class_of(self, peer: Peer, untrusted: Fields) -> str:
        if peer.door == ACTIONS_DOOR and untrusted.get("password") is None:
            return BY_OPERATOR
        self._enrolment.login(_text(untrusted, "person"), _password(untrusted))
        return BY_PASSWORD


def _shown(person: SitePerson) -> dict[str, Any]:
    return {
        "person": person.id,
        "name": person.name,
        "fingerprint": person.fingerprint,
        "roles": list(person.roles),
        "class": person.approves_by,
        "revoked": person.revoked is not None,
    }


def _text(untrusted: Any, field: str, *, may_be_empty: bool = False) -> str:
    value = canonical.mapping(untrusted, "message").get(field, "" if may_be_empty else None)
    return canonical.text(value, field, may_be_empty=may_be_empty)


def _digest(untrusted: Fields, field: str) -> str:
    return canonical.sha256_hex(untrusted.get(field), field)


def _password(untrusted: Fields) -> str:
    value = untrusted.get("password")
    return value if isinstance(value, str) else ""
