"""What people do about a box's clock, with the real commands: correct it by two signatures, enrol, sign by code."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from appliance.timekeeping.onetime import code_at, step_of
from examples.demo.people import password_of
from media.clock import to_text
from tests.box.movedclock import MovedClock
from tests.box.operators import as_person, signing
from tests.box.run import Run

_PASSWORD_FILE = "/root/clock-password"


class ClockPeople:
    """Iris and Omar, who sign with keys, and Tess, who has a one-time code; all their commands see the box's clock."""

    def __init__(self, run: Run, clock: MovedClock) -> None:
        self._run = run
        self._clock = clock
        self._secret = b""

    def command(self, *words: str, may_fail: bool = False) -> Any:
        """Run a command as root."""
        return self._run.machine.run(*self._clock.words(*words), shown=False, may_fail=may_fail)

    def root(self, *words: str) -> dict[str, Any]:
        """Run one of our commands as root and return its JSON result."""
        found: dict[str, Any] = json.loads(self.command("sealift", *words, "--json").stdout)
        return found

    def correct(self, right: str) -> None:
        """Say what time it is, or `now`: one asks, two sign, and the clock is set; nobody can do it alone."""
        digest = self._asked("iris", right, "two watches")
        alone = self._by_name("iris", "clock", "apply", digest, may_fail=True)
        self._run.require("nobody sets the clock alone", alone.returncode != 0, alone.stderr)
        for person in ("iris", "omar"):
            self._by_name(person, "clock", "approve", digest, *signing(person))
        self._by_name("omar", "clock", "apply", digest)

    def by_code(self) -> int:
        """Approve a correction by password and one-time code; return how that ended."""
        digest = self._asked("iris", to_text(datetime.now(tz=UTC)), "to try a code")
        code = code_at(self._secret, step_of(datetime.now(tz=UTC) + timedelta(seconds=self._clock.offset())))
        words = ("--as", "tess", "--yes", "--password", "--password-file", _PASSWORD_FILE, "--one-time-code", code)
        return int(self.command("sealift", "clock", "approve", digest, *words, may_fail=True).returncode)

    def enrol_with_codes(self) -> None:
        """Enrol Tess, whom two people invite, by password and one-time code."""
        machine = self._run.machine
        by: list[str] = []
        for person in ("iris", "omar"):
            (machine.root / f"root/clock-{person}").write_text(password_of(person) + "\n")
            by += ["--by", person, "--password-file", f"/root/clock-{person}"]
        code = self.root("people", "invite", *by)["code"]
        (machine.root / _PASSWORD_FILE.lstrip("/")).write_text("a throwaway password of tess\n")
        told = self.root(
            "people", "enrol", "--code", code, "--id", "tess", "--name", "Tess Moreau", "--one-time-code",
            "--password-file", _PASSWORD_FILE,
        )  # fmt: skip
        self._secret = base64.b32decode(parse_qs(urlsplit(told["totp_address"]).query)["secret"][0])

    def _asked(self, person: str, right: str, reason: str) -> str:
        told = self._by_name(person, "clock", "set", right, "--as", person, "--reason", reason, "--json")
        return str(json.loads(told.stdout)["statement"])[:12]

    def _by_name(self, person: str, *words: str, may_fail: bool = False) -> Any:
        print(f"box# {person}: sealift {' '.join(words)}", flush=True)
        command = as_person(person, *self._clock.words("sealift", *words))
        return self._run.machine.run(*command, shown=False, may_fail=may_fail)
