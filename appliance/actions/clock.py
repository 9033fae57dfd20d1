"""The clock as people see it: how it stands, confirming it at the install, correcting it by two people."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from appliance.actions import numbers_taken
from appliance.actions.alerts import Alert
from appliance.actions.clockwatch import CONFIRMED, SYNCHRONISED
from appliance.actions.findings import Finding
from appliance.actions.hostplan import has_people
from appliance.actions.ways import Way
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ApprovalRefusedError, ClockUncertainError, ConflictError
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.classes import OPENPGP, PKCS11
from appliance.promote.client import PromoterClient
from appliance.promote.clockchange import ClockRequest, require_possible
from appliance.promote.folder import PromoterFolder
from appliance.promote.people import APPROVER, SitePerson
from appliance.timekeeping import record
from appliance.timekeeping.believed import BelievedClock
from appliance.timekeeping.judging import is_plausible
from appliance.timekeeping.record import Verdict
from appliance.verify import trust
from appliance.verify.freshness import BUILT
from media.clock import Clock, to_text
from media.errors import SealiftError, UsageError

_RTC: Final = Path("/sys/class/rtc/rtc0/since_epoch")
_RTC_APART: Final = 120
_SHORTEST: Final = 6
_NAME: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the clock stands. `verdict` is empty where nobody watches it; `rtc_seconds` is the hardware clock less it."""

    shown: datetime
    verdict: Verdict | None
    believed: datetime
    floor: datetime
    floor_from: str
    jump_seconds: int
    confirmed_by: str
    confirmed_at: str
    rtc_seconds: int | None
    servers: tuple[str, ...]
    is_synchronised: bool

    @property
    def is_good(self) -> bool | None:
        """Whether nothing is to be done; None where it is only unconfirmed or unwatched."""
        if self.shown < self.floor or (self.verdict is not None and not self.verdict.is_certain):
            return False
        return True if self.verdict is Verdict.GOOD else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "shown": to_text(self.shown),
            "verdict": str(self.verdict or "unwatched"),
            "believed": to_text(self.believed),
            "floor": to_text(self.floor),
            "floor_from": self.floor_from,
            "jump_seconds": self.jump_seconds,
            "confirmed_by": self.confirmed_by,
            "confirmed_at": self.confirmed_at,
            "hardware_clock_seconds": self.rtc_seconds,
            "time_servers": list(self.servers),
            "synchronised": self.is_synchronised,
            "good": self.is_good,
        }


def standing(config: Config, *, clock: Clock, rtc: Path = _RTC) -> Standing:
    """Return how the clock stands now; never raises for a part that cannot be looked at."""
    found = record.latest(config.at)
    watched = record.published(config.at) is not None
    shown = clock.now()
    floors = {"this program was made then": BUILT}
    with suppress(SealiftError, OSError):
        floors["the last release was signed then"] = trust.load(
            config.at.trust, config.at.pinned_trust, may_begin=True
        ).floor
    if found is not None:
        floors["the clock was right then"] = found.floor
    source = max(floors, key=lambda name: floors[name])
    return Standing(
        shown=shown,
        verdict=found.verdict if found is not None and watched else None,
        believed=BelievedClock(config.at, clock).now(),
        floor=floors[source],
        floor_from=source,
        jump_seconds=0 if found is None else found.jump_seconds,
        confirmed_by="" if found is None else found.confirmed_by,
        confirmed_at="" if found is None else found.confirmed_at,
        rtc_seconds=_apart(rtc, shown),
        servers=tuple(config.time.servers),
        is_synchronised=SYNCHRONISED.exists(),
    )


def finding(config: Config, *, clock: Clock, rtc: Path = _RTC) -> Finding:
    """Return what the doctor says of the clock."""
    found = standing(config, clock=clock, rtc=rtc)
    parts = [f"{to_text(found.shown)}, nothing before {to_text(found.floor)} is believed ({found.floor_from})"]
    if found.verdict is not None:
        parts.append({Verdict.GOOD: f"confirmed by {found.confirmed_by}"}.get(found.verdict, str(found.verdict)))
    if not found.servers:
        parts.append("no time server is named")
    if found.rtc_seconds is None:
        parts.append("no hardware clock")
    elif abs(found.rtc_seconds) > _RTC_APART:
        parts.append(f"the hardware clock is {found.rtc_seconds} seconds off")
    is_good: bool | None = found.is_good is not False
    if is_good and (
        found.verdict is Verdict.UNCONFIRMED or (found.rtc_seconds is not None and abs(found.rtc_seconds) > _RTC_APART)
    ):
        is_good = None
    return Finding(
        name="clock",
        is_good=is_good,
        text="; ".join(parts),
        why="the order of records, stale dates, certificates and one-time codes depend on it",
        fix="see `sealift clock show`; two people put it right with `sealift clock set`",
    )


def correctors(config: Config) -> Finding | None:
    """Return whether as many people as it takes could put a wrong clock right; None while nobody is enrolled.

    One-time codes need the clock itself, and a security key the page: neither approves a correction.
    """
    people: tuple[SitePerson, ...] = ()
    with suppress(SealiftError, OSError):  # who may not look there is told nothing
        people = tuple(one for one in PromoterFolder(config.at.promoter).people().active if APPROVER in one.roles)
    if not people:
        return None
    counting = {OPENPGP, PKCS11}.intersection(config.policy.classes)
    able = [one.name for one in people if any(held.approves_by in counting for held in one.present)]
    demanded = max(config.policy.approvals, LEAST_PEOPLE)
    named = f"{len(able)} who could put it right, {demanded} are needed: {', '.join(able) or 'nobody'}"
    classes = "" if counting else "name openpgp or pkcs11 in policy.classes; "
    return Finding(
        name="clock people",
        is_good=True if len(able) >= demanded else None,
        text=named if len(able) >= demanded else f"{named}; one-time codes and security keys cannot",
        why="when its battery dies the clock is put right by signatures of two people's keys",
        fix=f"before its battery dies, {classes}reset people one after another, who then enrol an OpenPGP key or one"
        " on a token, too, which counts a day later: `sealift people reset`, docs/operator/clock.md",
    )


def alert(config: Config, *, clock: Clock) -> Alert | None:
    """Return what the page's banner says while the clock is not believed; None while it is, or nobody watches."""
    found = standing(config, clock=clock)
    if found.verdict is None or found.verdict.is_certain:
        return None
    return Alert(
        name="ClockNotBelieved",
        severity="critical",
        summary=f"The clock is {found.verdict}: it shows {to_text(found.shown)},"
        f" decisions rest on {to_text(found.believed)}",
        help="sealift clock set",
        instance="",
        until=(found.shown + timedelta(minutes=15)).replace(microsecond=0),
    )


def confirm(config: Config, ledger: Ledger, *, untrusted_name: str, clock: Clock, dry_run: bool = False) -> datetime:
    """Record that a person at the install looked at another clock and found this one right; return what it shows.

    On a dry run all is judged, and nothing recorded.

    Raises:
        UsageError: The name is none.
        ClockUncertainError: The clock shows a time that cannot be.
        ConflictError: People are enrolled, who answer for the clock with their signatures.
        LedgerUnavailableError: It could not be recorded.
    """
    name = untrusted_name.strip()
    if not name or not name.isprintable() or len(name) > _NAME:
        raise UsageError(what="a name is needed", why=f"1 to {_NAME} printable characters", fix="give --by NAME")
    if has_people(config.at, ledger):
        raise ConflictError(
            what="a name alone no longer answers for the clock",
            why="people are enrolled here",
            fix="`sealift clock set now --as PERSON --reason TEXT`, which two people approve",
        )
    shown = clock.now().replace(microsecond=0)
    floor = standing(config, clock=clock).floor
    if not is_plausible(shown, floor):
        raise ClockUncertainError(
            what=f"it cannot be {to_text(shown)}",
            why=f"{to_text(floor)} has passed, and not many years ago",
            fix="set the machine's clock (timedatectl set-time), then confirm it",
        )
    if not dry_run:
        ledger.append(CONFIRMED, {"by": name, "shown": to_text(shown)})
    return shown


def correction_to(untrusted_right: str, *, clock: Clock) -> int:
    """Return by how many seconds the clock is wrong when a person says what time it is; ``now`` for not at all.

    Raises:
        UsageError: It is not a time in UTC.
        ClockUncertainError: It cannot be that time.
    """
    shown = clock.now().replace(microsecond=0)
    if untrusted_right == "now":
        return int((require_possible(shown) - shown).total_seconds())
    try:
        right = datetime.strptime(untrusted_right, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise UsageError(
            what=f"{ascii(untrusted_right)[:40]} is no time",
            why="expected UTC like 2026-11-20T08:00:00Z, or now",
            fix="take it from a clock outside this machine",
        ) from error
    return int((require_possible(right) - shown).total_seconds())


def afterwards(config: Config, correction_seconds: int) -> str:
    """Return what a person does after a correction; empty where nothing is left to do."""
    if not config.monitoring.enabled or correction_seconds >= -numbers_taken.MARGIN_SECONDS:
        return ""
    return "numbers are ahead of the clock now, and no alert is to be relied on: `sealift doctor --mend` as root"


def approve(
    config: Config,
    promoter: PromoterClient,
    untrusted_digest: str,
    *,
    person: str,
    way: Way,
    agrees: Callable[[str], bool],
    clock: Clock,
) -> ClockRequest:
    """Show the correction that waits, and sign its statement when the person agrees.

    Raises:
        ClockUncertainError: No such correction waits.
        ApprovalRefusedError: The person did not agree.
        UnknownPersonError: As with `Way.require`; said before anything is shown.
        RemoteError: The promoter refused the signature.
    """
    way.require(promoter, person)
    request = waiting(promoter, untrusted_digest)
    statement = request.statement
    shown = clock.now().replace(microsecond=0)
    text = (
        f"Meaning      {statement.meaning}\n"
        f"Requested    by {statement.requested_by}\n"
        f"This clock   {to_text(shown)}\n"
        f"Correction   {statement.correction_seconds:+} seconds\n"
        f"It would be  {to_text(shown + timedelta(seconds=statement.correction_seconds))}"
        ": compare it with a clock of your own (UTC)\n"
        f"Approved     {', '.join(one.shown for one in request.approvals) or 'by nobody yet'}\n"
    )
    if not agrees(text):
        raise ApprovalRefusedError(what="nothing was signed", why="you did not agree", fix="run the command again")
    # GnuPG refuses a key from its clock's future: with a dead battery every key is one.
    at = max(shown + timedelta(seconds=statement.correction_seconds), BelievedClock(config.at, clock).now())
    return promoter.approve_clock(statement.sha256, way.present(promoter, person, statement.to_bytes(), at=at))


def waiting(promoter: PromoterClient, untrusted_digest: str) -> ClockRequest:
    """Return the one correction that waits under the beginning of a digest.

    Raises:
        ClockUncertainError: None does.
    """
    found = [one for one in promoter.pending_clocks() if one.statement.sha256.startswith(untrusted_digest)]
    if len(found) != 1 or len(untrusted_digest) < _SHORTEST:
        raise ClockUncertainError(
            what=f"no correction {ascii(untrusted_digest)[:40]} waits",
            why=f"give {_SHORTEST} or more digits; a correction holds for four hours, and not after a restart",
            fix="see `sealift clock list`",
        )
    return found[0]


def _apart(rtc: Path, shown: datetime) -> int | None:
    try:
        return int(rtc.read_text("ascii")) - int(shown.timestamp())
    except (OSError, ValueError):
        return None
