"""A booted box with a wrong clock, while it runs and across a boot: fifty years ahead, a dead battery, ten years on.

Required is what docs/operator/clock.md promises: what is thought of the clock, the floor, what decisions rest on, who
is told, that nothing ends early or lasts longer, one-time codes, that answers go on, and that two people put it right.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from examples.demo.people import password_of
from media.clock import to_text
from tests.box.clockpeople import ClockPeople
from tests.box.machine import BoxError
from tests.box.movedclock import MovedClock
from tests.box.prepared import Served
from tests.box.run import Run, wait_for_engine

_FIFTY_YEARS = 50 * 365.25 * 86400
_TEN_YEARS = _FIFTY_YEARS / 5
_EPOCH = datetime(1970, 1, 1, 0, 10, tzinfo=UTC)
_SECONDS = 180.0
# The floor is written to the disk every minute, and nobody knows how long a machine was off.
_KEPT = timedelta(seconds=75)
_NEAR = timedelta(seconds=240)
_DAYS = 30
_UNCERTAIN = 48
_SERVICES = ("clock", "ledger", "promoter", "jobs", "gateway", "admin", "review")
_SITE = f'\n[policy]\nclasses = ["openpgp", "password-totp"]\n[review]\none_in = 1\ndays = {_DAYS}\n'


class Clocks:
    """The chapters, on a box whose clock can be moved; `prepare` comes before its boot."""

    def __init__(self, run: Run, served: Served) -> None:
        self._run = run
        self._served = served
        self._clock = MovedClock(machine=run.machine)
        self._people = ClockPeople(run, self._clock)
        self._key = ""
        self._asked: dict[int, str] = {}

    def prepare(self) -> None:
        """Make the clock movable, let one-time codes count at this site, and keep a sample of every answer."""
        self._run.machine.counts_anew = True
        self._clock.prepare()
        site = self._run.machine.root / "etc/sealift/sealift.toml"
        site.write_text(site.read_text() + _SITE)

    def good(self) -> None:
        """Two people say that the clock is right; from then on the floor rises with it. Then a small step."""
        run, people = self._run, self._people
        with run.stage.chapter("The clock is right, two people say; a small step back is let pass"):
            self._clock.require_loaded()
            people.enrol_with_codes()
            self._key = self._new_key()
            people.correct("now")
            # The watch takes it over at its next look.
            self._until(lambda: self._verdict() == "good", "what two people said is not taken over")
            before = self._show()
            run.require("two people answer for the clock", before["verdict"] == "good", before)
            self._clock.by(-30)
            self._until(lambda: bool(self._jumps(-30)), "a step of 30 seconds is not recorded")
            after = self._show()
            run.require("a small step back is recorded and let pass", after["verdict"] == "good", after)
            run.require("it does not lower the floor", after["floor"] >= before["floor"], (before, after))
            run.require("a one-time code counts while the clock is certain", people.by_code() == 0)
            self._clock.by(+30)
            self._asks("answers go on after a small step")

    def ahead(self) -> None:
        """Fifty years ahead while it runs, through a restart of everything, a reboot, and back by two people."""
        run = self._run
        with run.stage.chapter("The clock jumps fifty years ahead while the box serves"):
            floor, kept = self._show()["floor"], self._lasting()
            cookie = str(self._page()["cookie"])
            self._clock.by(_FIFTY_YEARS)
            self._told("jumped", floor=floor, cookie=cookie)
            self._asks("answers go on fifty years ahead")
            self._nothing_ends(kept, "by a jump")
            run.require("no one-time code counts by a clock that jumped", self._people.by_code() == _UNCERTAIN)
            self._asks("a key with an end goes on fifty years ahead", key=self._key)
            self._new_key()
        with run.stage.chapter(
            "Every service is started again fifty years ahead, then the box; two people put it right"
        ):
            self._restarted("jumped", floor=floor)
            self._asks("answers go on after a restart of every service")
            run.facts["reboot_fifty_years_ahead_seconds"] = round(run.machine.reboot(), 1)
            self._plugged_in()
            self._told("jumped", floor=floor)
            self._asks("answers go on after a boot fifty years ahead")
            self._put_right()
            self._nothing_ends(kept, "by a boot fifty years ahead")

    def behind(self) -> None:
        """A dead battery: the power fails, and it boots in 1970; back by two people."""
        run = self._run
        with run.stage.chapter("The power fails, the battery is dead: it boots in 1970"):
            floor, seconds = self._comes_up(
                lambda: self._clock.to(_EPOCH),
                "behind",
                goes_on="answers go on after a boot in 1970",
                by="by a dead battery",
            )
            run.facts["boot_in_1970_seconds"] = round(seconds, 1)
            run.require("no one-time code counts by a dead battery's clock", self._people.by_code() == _UNCERTAIN)
            self._asks("a key with an end goes on in 1970", key=self._key)
            self._new_key()
        with run.stage.chapter("Every service is started again in 1970; two people put it right"):
            self._restarted("behind", floor=floor)
            self._put_right()
            run.require("and one-time codes count again", self._people.by_code() == 0)

    def years_on(self) -> None:
        """It comes up ten years later than it went down; nobody believes it before two people looked."""
        with self._run.stage.chapter("The power fails again; it boots ten years ahead"):
            self._comes_up(
                lambda: self._clock.by(_TEN_YEARS),
                "jumped",
                goes_on="answers go on after a boot ten years ahead",
                by="by a boot ten years ahead",
            )
            self._put_right()

    def ledger(self) -> None:
        """What the ledger says of it, and that what was answered by each clock is proven."""
        run, machine = self._run, self._run.machine
        with run.stage.chapter("What the ledger says of it, and the proof of what was answered by each clock"):
            verified = machine.run("sealift", "audit", "verify", may_fail=True)
            run.require("the ledger verifies with records of all these clocks", verified.returncode == 0, verified)
            for kind, least in (("clock.jumped", 4), ("clock.behind", 1), ("clock.set", 4), ("clock.answered", 4)):
                told = self._people.root("audit", "list", "--kind", kind, "--limit", "100")["leaves"]
                run.require("what was seen and decided is recorded", len(told) >= least, (kind, told))
            run.require("answers were given by four clocks", len(self._asked) >= 4, self._asked)
            for request in self._asked.values():
                proof = self._people.root("prove", request)
                run.require("an answer by any clock is proven", proof["ok"] is True, proof)

    def _comes_up(self, moved: Callable[[], None], verdict: str, *, goes_on: str, by: str) -> tuple[str, float]:
        """Cut the power and boot with a clock that was moved meanwhile; return the floor and the seconds it took."""
        machine = self._run.machine
        floor, kept = str(self._show()["floor"]), self._lasting()
        machine.cut_power()
        moved()
        seconds = machine.boot()
        self._plugged_in()
        self._told(verdict, floor=floor)
        self._asks(goes_on)
        self._nothing_ends(kept, by)
        return floor, seconds

    def _told(self, verdict: str, *, floor: str, cookie: str = "") -> None:
        """Wait until the watch says so, and hold against it what else is told of the clock."""
        run = self._run
        self._until(lambda: self._verdict() == verdict, f"the clock is not {verdict}")
        found = self._show()
        believed, now = datetime.fromisoformat(found["believed"]), datetime.now(tz=UTC)
        least = to_text(datetime.fromisoformat(floor) - _KEPT)
        run.require("the floor holds", least <= found["floor"] <= to_text(now), (floor, found))
        run.require("decisions rest on the last certain time", abs(believed - now) <= _NEAR, found)
        status = json.loads(self._people.command("sealift", "status", "--json", may_fail=True).stdout)["clock"]
        run.require("the status says it", (status["good"], status["verdict"]) == (False, verdict), status)
        page = self._page(cookie)
        run.require("a session of the page goes on", page["logged_in"], page)
        run.require("the page says it", _clock_in(page), page)
        print(f"   {verdict}: shows {found['shown']}, decisions rest on {found['believed']}, floor {found['floor']}")

    def _restarted(self, verdict: str, *, floor: str) -> None:
        names = [f"sealift-{name}.service" for name in _SERVICES]
        self._run.machine.run("systemctl", "restart", *names, "nginx.service")
        self._told(verdict, floor=floor)

    def _nothing_ends(self, kept: dict[str, Any], by: str) -> None:
        """Run what timers start: what was kept stays, and no certificate is made by a wrong clock."""
        run, machine = self._run, self._run.machine
        machine.run("systemctl", "start", "sealift-retention.service")
        found = self._lasting()
        lost = {name: set(kept[name]) - set(found[name]) for name in kept}
        run.require(f"no sample, key or certificate goes {by}", not any(lost.values()), lost)
        limit = to_text(datetime.now(tz=UTC) + timedelta(days=_DAYS) + _NEAR)
        late = [one for one in (*found["samples"].values(), *found["callers"].values()) if one > limit]
        run.require("what is kept for days by a wrong clock ends when it was meant to", not late, late)
        if self._verdict() != "good":
            done = machine.run("systemctl", "start", "sealift-tls@due.service", may_fail=True)
            told = machine.run("journalctl", "-u", "sealift-tls@due", "-n", "20", "-o", "cat", shown=False).stdout
            refused = done.returncode != 0 and "when a certificate begins" in told
            run.require("no certificate is made by a wrong clock", refused, told)

    def _put_right(self) -> None:
        """Let two people say what time it is."""
        run = self._run
        self._people.correct(to_text(datetime.now(tz=UTC)))
        run.require("two people put the clock right", abs(self._clock.offset()) < 30, self._clock.offset())
        self._until(lambda: self._verdict() == "good", "the clock is not good again")
        found, now = self._show(), datetime.now(tz=UTC)
        run.require("then it is good again", found["confirmed_by"] == "Iris Mora, Omar Haddad", found)
        run.require("and the floor is no later than the truth", found["floor"] <= to_text(now + _KEPT), found)
        run.require("and nobody is told any more", not _clock_in(self._page()), found)
        self._asks("and answers go on")

    def _lasting(self) -> dict[str, Any]:
        """Return what a wrong clock must leave alone: certificates, keys of the years and of callers, samples."""
        place = self._run.machine.root / "etc/sealift/tls"
        samples = self._people.root("samples", "list")["samples"]
        callers = self._people.root("keys", "list")["keys"]
        return {
            "certificates": {path.name + path.read_bytes().hex()[-64:]: "" for path in sorted(place.glob("*.crt"))},
            "years": {one["key"]: "" for one in self._people.root("retention", "status")["keys"] if not one["due"]},
            "callers": {one["key_id"]: one["expires_at"] or "" for one in callers},
            "samples": {one["request_id"]: one["expires"] for one in samples},
        }

    def _new_key(self) -> str:
        words = ("--department", "cardiology", "--owner", "box", "--days", str(_DAYS))
        return str(self._people.root("keys", "create", *words)["key"])

    def _asks(self, name: str, *, key: str = "") -> None:
        answer = self._run.workstation("ask", key=key or self._served.key)
        self._run.require(name, bool(answer["text"]), answer)
        shown = datetime.now(tz=UTC) + timedelta(seconds=self._clock.offset())
        self._asked[shown.year] = answer["request_id"]

    def _page(self, cookie: str = "") -> dict[str, Any]:
        return self._run.workstation("banners", person="iris", password=password_of("iris"), cookie=cookie)

    def _plugged_in(self) -> None:
        self._run.facility.plug_in(self._run.machine.leader)
        wait_for_engine(self._run)

    def _show(self) -> dict[str, Any]:
        return self._people.root("clock", "show")

    def _verdict(self) -> str:
        # As the watch published it, for waiting: a command would take a second each time.
        place = Path(f"/proc/{self._run.machine.leader}/root/run/sealift/clock/clock.json")
        return str(json.loads(place.read_text())["verdict"]) if place.exists() else ""

    def _jumps(self, seconds: int) -> list[Any]:
        leaves = self._people.root("audit", "list", "--kind", "clock.jumped")["leaves"]
        return [leaf for leaf in leaves if abs(leaf["body"]["seconds"] - seconds) <= 3]

    def _until(self, holds_now: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + _SECONDS
        while not holds_now():
            if time.monotonic() > until:
                raise BoxError(otherwise)
            time.sleep(1)


def _clock_in(page: dict[str, Any]) -> bool:
    return any("clock" in one.lower() for one in page["banners"])
