"""The promoter as others see it: one method for each message. Messages and doors: `appliance.promote.desk`."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.errors import UnknownPersonError
from appliance.promote.automation_key import AutomationKey
from appliance.promote.classes import NAMES, OPENPGP
from appliance.promote.clockchange import ClockRequest
from appliance.promote.desk import ACTIONS_DOOR
from appliance.promote.destination import Said
from appliance.promote.hostchange import HostRequest
from appliance.promote.policychange import PolicyRequest
from appliance.promote.presented import Presented
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

    def codes(self, count: int, *, admins: int = 0) -> tuple[str, ...]:
        """Issue the first one-time codes, those for admins last."""
        return tuple(str(code) for code in self._call("codes", count=count, admins=admins)["codes"])

    def replace_codes(self, person: str, password: str) -> tuple[tuple[str, ...], int]:
        """Issue the first codes that are left anew, for the one who is enrolled; the last so many are admins'."""
        answer = self._call("codes", vouchers=_pairs([(person, password)]))
        return tuple(str(code) for code in answer["codes"]), int(answer["admins"])

    def invite(self, vouchers: Sequence[tuple[str, str]], *, role: str = "") -> str:
        """Issue one more code by the passwords of two people, given as (person, password)."""
        return str(self._call("invite", vouchers=_pairs(vouchers), role=role)["code"])

    def reset(self, person: str, vouchers: Sequence[tuple[str, str]], *, printed_code: str = "") -> str:
        """End a person's keys and password; returns the code for enrolling new ones."""
        answer = self._call("reset", person=person, vouchers=_pairs(vouchers), printed_code=printed_code)
        return str(answer["code"])

    def give_roles(self, person: str, roles: Sequence[str], vouchers: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Give a person other roles; returns what `people` shows of them."""
        answer = self._call("roles", person=person, roles=list(roles), vouchers=_pairs(vouchers))
        return canonical.mapping(answer["person"], "person")

    def register(self) -> dict[str, Any]:
        """Return what a browser needs to make a security key's credential."""
        return dict(self._call("register"))

    def enrol(
        self, *, code: str, name: str, password: str, certificate: bytes = b"", person: str = "", **brought: Any
    ) -> dict[str, Any]:
        """Enrol a person; returns what `people` shows of them, with `totp_address` and `printed_code`, shown once.

        Args:
            code: The one-time code.
            name: As it is printed on evidence.
            password: For the page and for vouching.
            certificate: A binary OpenPGP certificate.
            person: The id; made from the name when empty.
            brought: `token_key` (bytes), `registration` (what a browser answered), `totp` (True).
        """
        keys = {"certificate": certificate, "token_key": brought.pop("token_key", b"")}
        encoded = {name: base64.b64encode(key).decode() for name, key in keys.items() if key}
        answer = self._call("enrol", code=code, name=name, password=password, person=person, **encoded, **brought)
        once = {"totp_address": str(answer["totp_address"]), "printed_code": str(answer["printed_code"])}
        return {**canonical.mapping(answer["person"], "person"), **once}

    def revoke(self, *, person: str, by: str, password: str, reason: str) -> None:
        """Take a person's rights away."""
        self._call("revoke", person=person, by=by, password=password, reason=reason)

    def password_statement(self, person: str) -> bytes:
        """Return what a person who has no password on this box signs for one; see `appliance.promote.firstpassword`."""
        return str(self._call("password-statement", person=person)["statement"]).encode()

    def set_first_password(self, person: str, presented: Presented, password: str) -> None:
        """Set the first password of a person who signed that statement."""
        self._call("password", person=person, presented=presented.to_message(), password=password)

    def login(self, person: str, password: str) -> dict[str, Any]:
        """Check a password; returns person, name and roles."""
        return dict(self._call("login", person=person, password=password))

    def people(self) -> tuple[dict[str, Any], ...]:
        """Return everyone ever enrolled."""
        return tuple(dict(one) for one in self._call("people")["people"])

    def site_people(self) -> dict[str, Any]:
        """Return everyone ever enrolled, who vouches, and which classes count; see `appliance.promote.people_desk`."""
        return dict(self._call("people"))

    def fingerprint_of(self, person: str, approves_by: str = OPENPGP) -> str:
        """Return the fingerprint of the key of one class that a person signs with.

        Raises:
            UnknownPersonError: Nobody of that id is enrolled, or not any more, or has no such key.
        """
        for one in self.people():
            if one["person"] != person or one["revoked"]:
                continue
            for key in one["credentials"]:
                if key["class"] == approves_by:
                    return str(key["fingerprint"])
            raise UnknownPersonError(
                what=f"{one['name']} has no {NAMES[approves_by]} here",
                why="it was not enrolled, or the keys were reset",
                fix="see `sealift people list`; approve in a way that was enrolled",
            )
        raise UnknownPersonError(
            what=f"nobody of the id {person[:40]} is enrolled",
            why="or the person was revoked",
            fix="see `sealift people list`",
        )

    def request(
        self,
        validated: Validated,
        *,
        meaning: str,
        requested_by: str,
        password: str | None = None,
        beside: bool = False,
        replaces: str = "",
    ) -> Request:
        """Ask for approvals of a validated version, for the line of its name, or for the one that is said.

        The password is that of who requests; the promoter asks for it where who requests does not approve.
        """
        answer = self._call(
            "request",
            model_digest=validated.model_digest,
            evidence_digest=validated.evidence_digest,
            policy_digest=validated.policy_digest,
            meaning=meaning,
            requested_by=requested_by,
            password=password,
            **Said(beside=beside, replaces=replaces).fields,
        )
        return Request.from_json(answer["request"])

    def pending(self) -> tuple[Request, ...]:
        """Return the requests that can still be approved and promoted."""
        return tuple(Request.from_json(one) for one in self._call("pending")["requests"])

    def approve(self, statement_sha256: str, presented: Presented | bytes) -> Request:
        """Hand in one approval; bytes are an OpenPGP signature."""
        answer = self._call("approve", statement_sha256=statement_sha256, **_message(presented))
        return Request.from_json(answer["request"])

    def promote(self, statement_sha256: str) -> Promotion:
        """Bring an approved version into production."""
        return Promotion.from_json(self._call("promote", statement_sha256=statement_sha256)["promotion"])

    def withdraw(self, statement_sha256: str, *, person: str, reason: str, password: str | None = None) -> int:
        """Withdraw a request that waits; returns the record's sequence."""
        fields = {"statement_sha256": statement_sha256, "person": person, "reason": reason, "password": password}
        return int(self._call("withdraw", **fields)["sequence"])

    def rollback(
        self, *, person: str, reason: str, model_digest: str = "", line: str = "", password: str | None = None
    ) -> Promotion:
        """Go back, in the line that serves the model of a name; through the admin door with the person's password."""
        fields = {"model_digest": model_digest or None, "line": line or None}
        answer = self._call("rollback", person=person, reason=reason, password=password, **fields)
        return Promotion.from_json(answer["promotion"])

    def stop(self, *, person: str, reason: str, line: str = "", password: str | None = None) -> Promotion:
        """Take production out of service, or one model's line; through the admin door with the person's password."""
        answer = self._call("stop", person=person, reason=reason, line=line or None, password=password)
        return Promotion.from_json(answer["promotion"])

    def request_host(self, *, plan_digest: str, serial: int, meaning: str, requested_by: str) -> HostRequest:
        """Ask for approvals of a host change."""
        answer = self._call(
            "host-request", plan_digest=plan_digest, serial=serial, meaning=meaning, requested_by=requested_by
        )
        return HostRequest.from_json(answer["request"])

    def pending_hosts(self) -> tuple[HostRequest, ...]:
        """Return the host changes that wait for approvals or for their install."""
        return tuple(HostRequest.from_json(one) for one in self._call("host-pending")["requests"])

    def approve_host(self, statement_sha256: str, presented: Presented | bytes) -> HostRequest:
        """Hand in one approval of a host change; bytes are an OpenPGP signature."""
        answer = self._call("host-approve", statement_sha256=statement_sha256, **_message(presented))
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

    def approve_clock(self, statement_sha256: str, presented: Presented | bytes) -> ClockRequest:
        """Hand in one approval of a correction of the clock; bytes are an OpenPGP signature."""
        answer = self._call("clock-approve", statement_sha256=statement_sha256, **_message(presented))
        return ClockRequest.from_json(answer["request"])

    def request_policy(
        self, *, policy: str, meaning: str, requested_by: str, password: str | None = None
    ) -> PolicyRequest:
        """Ask for approvals of thresholds of the site's own, by the whole text of the file; password: see `request`."""
        fields = {"policy": policy, "meaning": meaning, "requested_by": requested_by, "password": password}
        answer = self._call("policy-request", **fields)
        return PolicyRequest.from_json(answer["request"])

    def pending_policies(self) -> tuple[PolicyRequest, ...]:
        """Return the policies that can still be approved."""
        return tuple(PolicyRequest.from_json(one) for one in self._call("policy-pending")["requests"])

    def approve_policy(self, statement_sha256: str, presented: Presented | bytes) -> tuple[PolicyRequest, bool]:
        """Hand in one approval of a policy; bytes are an OpenPGP signature. Returns whether it holds from now on."""
        answer = self._call("policy-approve", statement_sha256=statement_sha256, **_message(presented))
        return PolicyRequest.from_json(answer["request"]), answer.get("holds") is True

    def carry(self, peer: str, record: Carried, evidence: Sequence[Carried]) -> bool:
        """Take over one record of a paired box; return whether anything changed here."""
        proven = [one.to_json() for one in evidence]
        return bool(self._call("carry", peer=peer, record=record.to_json(), evidence=proven)["taken"])

    def hold_back(self, peer: str, record: Carried) -> bool:
        """Let the stricter of both boxes' thresholds hold while this one cannot be taken; return whether it is news."""
        return bool(self._call("carry-ahead", peer=peer, record=record.to_json())["held"])

    def current(self) -> dict[str, Any]:
        """Return where production stands; see `appliance.promote.desk`."""
        return dict(self._call("current"))

    def needs_of(self, model_digest: str) -> tuple[str, ...]:
        """Return why a version may not be deleted now; nothing when it may."""
        return tuple(str(one) for one in self._call("model-needs", model_digest=model_digest)["needs"])

    def decide_model(
        self, step: str, model_digest: str, *, person: str, reason: str, password: str | None = None
    ) -> int:
        """Delete a version, hold it, or lift its hold (`delete`, `hold`, `lift`); returns the record's sequence."""
        fields = {"model_digest": model_digest, "person": person, "reason": reason, "password": password}
        return int(self._call(f"model-{step}", **fields)["sequence"])

    def start_canary(self, statement_sha256: str, *, percent: int, hours: int, watch_hours: int) -> Promotion:
        """Begin a canary of an approved version."""
        answer = self._call(
            "canary-start", statement_sha256=statement_sha256, percent=percent, hours=hours, watch_hours=watch_hours
        )
        return Promotion.from_json(answer["promotion"])

    def step_canary(self, step: str, *, person: str, reason: str, password: str | None = None) -> Promotion:
        """Hold, resume or abort the canary that runs; `step` is one of these words."""
        answer = self._call(f"canary-{step}", person=person, reason=reason, password=password)
        return Promotion.from_json(answer["promotion"])

    def cut_over(self, *, person: str, reason: str, keeps_before: bool, password: str | None = None) -> Promotion:
        """Make the canary's version the one in production."""
        answer = self._call(
            "canary-cutover", person=person, reason=reason, keeps_before=keeps_before, password=password
        )
        return Promotion.from_json(answer["promotion"])

    def judge_canary(self) -> dict[str, Any]:
        """Let the promoter look at what is new; returns the standing, and what it decided."""
        return dict(self._call("canary-judge"))

    def keep_watched(self, *, person: str, reason: str, line: str = "", password: str | None = None) -> int:
        """Keep the version that the watch found worse, in the line that serves the model of a name."""
        fields = {"person": person, "reason": reason, "line": line or None, "password": password}
        return int(self._call("watch-keep", **fields)["sequence"])

    def canary(self) -> dict[str, Any]:
        """Return the rollout's standing; see `appliance.promote.rollout`."""
        return dict(self._call("canary-standing"))

    def stop_caller(self, *, what: str, name: str, person: str, reason: str, password: str | None = None) -> int:
        """Stop a key or a department; returns the record's sequence."""
        fields = {"what": what, "name": name, "person": person, "reason": reason, "password": password}
        return int(self._call("caller-stop", **fields)["sequence"])

    def free_caller(self, *, what: str, name: str, person: str, reason: str, password: str | None = None) -> int:
        """Let a stopped key or department be answered again; returns the record's sequence."""
        fields = {"what": what, "name": name, "person": person, "reason": reason, "password": password}
        return int(self._call("caller-free", **fields)["sequence"])

    def review(self, sequence: int, *, person: str, note: str, password: str | None = None) -> int:
        """Record that a second person looked at a deed; returns the record's sequence."""
        return int(self._call("review", sequence=sequence, person=person, note=note, password=password)["sequence"])

    def begin_emergency(
        self, *, department: str, hours: int, person: str, reason: str, password: str | None
    ) -> dict[str, Any]:
        """Record that emergency access begins; returns its number, department and end."""
        fields = {"department": department, "hours": hours, "person": person, "reason": reason, "password": password}
        return dict(self._call("emergency-begin", **fields)["emergency"])

    def end_emergency(self, number: int, *, person: str, reason: str, password: str | None) -> int:
        """End emergency access before its time; returns the record's sequence."""
        fields = {"number": number, "person": person, "reason": reason, "password": password}
        return int(self._call("emergency-end", **fields)["sequence"])

    def emergencies(self) -> tuple[dict[str, Any], ...]:
        """Return the emergency access that runs now."""
        return tuple(dict(one) for one in self._call("emergency-running")["running"])

    def make_automation_key(self, **named: Any) -> tuple[AutomationKey, str]:
        """Make an automation key; returns it with its text, shown once.

        Args:
            named: `name`, `person`, `password`, `scopes`, `days`, `purpose`, `dry_run`.
        """
        answer = self._call("automation-make", **named)
        return AutomationKey.from_json(answer["key"]), str(answer["text"])

    def revoke_automation_key(
        self, name: str, *, person: str, password: str, reason: str, dry_run: bool = False
    ) -> AutomationKey:
        """End an automation key."""
        fields = {"name": name, "person": person, "password": password, "reason": reason, "dry_run": dry_run}
        return AutomationKey.from_json(self._call("automation-revoke", **fields)["key"])

    def automation_keys(self) -> tuple[AutomationKey, ...]:
        """Return every automation key that was ever made, the oldest first."""
        return tuple(AutomationKey.from_json(one) for one in self._call("automation-keys")["keys"])

    def reviews(self) -> tuple[dict[str, Any], ...]:
        """Return what one person did alone and nobody has looked at."""
        return tuple(dict(one) for one in self._call("reviews")["open"])


def _pairs(vouchers: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"person": person, "password": password} for person, password in vouchers]


def _message(presented: Presented | bytes) -> dict[str, str]:
    return (presented if isinstance(presented, Presented) else Presented(signature=presented)).to_message()
