"""The promoter as others see it: one method for each message. Messages and doors: `appliance.promote.desk`."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.errors import UnknownPersonError
from appliance.promote.clockchange import ClockRequest
from appliance.promote.desk import ACTIONS_DOOR
from appliance.promote.hostchange import HostRequest
from appliance.promote.promoter import Request
from appliance.promote.record import Promotion
from appliance.promote.validated import Validated
from appliance.standby.carried import Carried
from appliance.wire import Line
from media import canonical

Call = Callable[..., Mapping[str, Any]]


class PromoterClient:
    """Asks the promoter through one door.

    Every method may raise `RemoteError` with the promoter's own error, and `WireError` when it does not answer.

    Args:
        call: Sends one message and returns its answer; `PromoterClient.at` makes one from a socket.
        close: Ends the connection.
    """

    def __init__(self, call: Call, close: Callable[[], None] = lambda: None) -> None:
        self._call = call
        self.close = close

    @classmethod
    def at(cls, path: Path) -> "PromoterClient":
        """Return a client of the promoter behind a socket."""
        line = Line(path, timeout_seconds=120.0)
        return cls(line.call, line.close)

    @classmethod
    def open(cls, config: Config, door: str = ACTIONS_DOOR) -> "PromoterClient":
        """Return a client of this site's promoter."""
        return cls.at(config.at.socket(door))

    def codes(self, count: int) -> tuple[str, ...]:
        """Issue the first one-time codes."""
        return tuple(str(code) for code in self._call("codes", count=count)["codes"])

    def invite(self, vouchers: Sequence[tuple[str, str]]) -> str:
        """Issue one more code by the passwords of two people, given as (person, password)."""
        pairs = [{"person": person, "password": password} for person, password in vouchers]
        return str(self._call("invite", vouchers=pairs)["code"])

    def enrol(self, *, code: str, name: str, certificate: bytes, password: str, person: str = "") -> dict[str, Any]:
        """Enrol a person; returns what `people` shows of them."""
        encoded = base64.b64encode(certificate).decode()
        answer = self._call("enrol", code=code, name=name, certificate=encoded, password=password, person=person)
        return canonical.mapping(answer["person"], "person")

    def revoke(self, *, person: str, by: str, password: str, reason: str) -> None:
        """Take a person's rights away."""
        self._call("revoke", person=person, by=by, password=password, reason=reason)

    def login(self, person: str, password: str) -> dict[str, Any]:
        """Check a password; returns person, name and roles."""
        return dict(self._call("login", person=person, password=password))

    def people(self) -> tuple[dict[str, Any], ...]:
        """Return everyone ever enrolled."""
        return tuple(dict(one) for one in self._call("people")["people"])

    def fingerprint_of(self, person: str) -> str:
        """Return the fingerprint of the key that a person signs with.

        Raises:
            UnknownPersonError: Nobody of that id is enrolled, or not any more.
        """
        for one in self.people():
            if one["person"] == person and not one["revoked"]:
                return str(one["fingerprint"])
        raise UnknownPersonError(
            what=f"nobody of the id {person[:40]} is enrolled",
            why="or the person was revoked",
            fix="see `sealift people list`",
        )

    def request(self, validated: Validated, *, meaning: str, requested_by: str) -> Request:
        """Ask for approvals of a validated version."""
        answer = self._call(
            "request",
            model_digest=validated.model_digest,
            evidence_digest=validated.evidence_digest,
            policy_digest=validated.policy_digest,
            meaning=meaning,
            requested_by=requested_by,
        )
        return Request.from_json(answer["request"])

    def pending(self) -> tuple[Request, ...]:
        """Return the requests that can still be approved and promoted."""
        return tuple(Request.from_json(one) for one in self._call("pending")["requests"])

    def approve(self, statement_sha256: str, signature: bytes) -> Request:
        """Hand in one approval."""
        encoded = base64.b64encode(signature).decode()
        return Request.from_json(self._call("approve", statement_sha256=statement_sha256, signature=encoded)["request"])

    def promote(self, statement_sha256: str) -> Promotion:
        """Bring an approved version into production."""
        return Promotion.from_json(self._call("promote", statement_sha256=statement_sha256)["promotion"])

    def rollback(self, *, person: str, reason: str, model_digest: str = "", password: str | None = None) -> Promotion:
        """Go back; through the admin door with the person's password."""
        answer = self._call(
            "rollback", person=person, reason=reason, model_digest=model_digest or None, password=password
        )
        return Promotion.from_json(answer["promotion"])

    def stop(self, *, person: str, reason: str, password: str | None = None) -> Promotion:
        """Take production out of service; through the admin door with the person's password."""
        return Promotion.from_json(self._call("stop", person=person, reason=reason, password=password)["promotion"])

    def request_host(self, *, plan_digest: str, serial: int, meaning: str, requested_by: str) -> HostRequest:
        """Ask for approvals of a host change."""
        answer = self._call(
            "host-request", plan_digest=plan_digest, serial=serial, meaning=meaning, requested_by=requested_by
        )
        return HostRequest.from_json(answer["request"])

    def pending_hosts(self) -> tuple[HostRequest, ...]:
        """Return the host changes that wait for approvals or for their install."""
        return tuple(HostRequest.from_json(one) for one in self._call("host-pending")["requests"])

    def approve_host(self, statement_sha256: str, signature: bytes) -> HostRequest:
        """Hand in one approval of a host change."""
        encoded = base64.b64encode(signature).decode()
        answer = self._call("host-approve", statement_sha256=statement_sha256, signature=encoded)
        return HostRequest.from_json(answer["request"])

    def request_clock(self, *, correction_seconds: int, meaning: str, requested_by: str) -> ClockRequest:
        """Ask for approvals of a correction of the clock."""
        answer = self._call(
            "clock-request", correction_seconds=correction_seconds, meaning=meaning, requested_by=requested_by
        )
        return ClockRequest.from_json(answer["request"])

    def pending_clocks(self) -> tuple[ClockRequest, ...]:
        """Return the corrections of the clock that hold now."""
        return tuple(ClockRequest.from_json(one) for one in self._call("clock-pending")["requests"])

    def approve_clock(self, statement_sha256: str, signature: bytes) -> ClockRequest:
        """Hand in one approval of a correction of the clock."""
        encoded = base64.b64encode(signature).decode()
        answer = self._call("clock-approve", statement_sha256=statement_sha256, signature=encoded)
        return ClockRequest.from_json(answer["request"])

    def carry(self, peer: str, record: Carried, evidence: Sequence[Carried]) -> bool:
        """Take over one record of a paired box; return whether anything changed here."""
        proven = [one.to_json() for one in evidence]
        return bool(self._call("carry", peer=peer, record=record.to_json(), evidence=proven)["taken"])

    def current(self) -> dict[str, Any]:
        """Return where production stands; see `appliance.promote.desk`."""
        return dict(self._call("current"))
