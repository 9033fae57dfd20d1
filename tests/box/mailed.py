"""Alerts by mail over TLS, as a person asked for at `sealift setup`: to the facility's relay, and not to an impostor.

Both relays listen where the site file says and bear the same name; who signed the one is who the box was told to trust.
"""

from contextlib import AbstractContextManager
from typing import Any

from tests.box import looks, monitored
from tests.box.monitored import Mails
from tests.box.network import FACILITY_ADDRESS, MAIL_PORT
from tests.box.run import HOSTNAME, Run
from tests.support import tls
from tests.support.mailrelay import NAME, certificate

RECEIVER = "it-duty@hospital.internal"
TALK = (
    ("Which mail relay takes alerts", FACILITY_ADDRESS),
    ("At which port does it take them", str(MAIL_PORT)),
    ("Which name does its certificate bear", NAME),
    ("Who receives them", RECEIVER),
)
ANSWERS = f"""[alerts]
mail_relay = "{FACILITY_ADDRESS}"
mail_port = {MAIL_PORT}
mail_server = "{NAME}"
mail_to = ["{RECEIVER}"]
"""
SAID = f"alerts: the page, the console, mail to 1 by {FACILITY_ADDRESS}, over TLS as {NAME}"
_AUTHORITY = "etc/sealift/mail-ca.pem"
_TRY = ("sealift", "alerts", "try")
_TOLD = {"on_page": True, "collected": True, "receivers": 1, "mailed": 1}
_UNIT = 53
_PAUSE = 4.0  # each look takes seconds of a processor
_ALERTMANAGER = "prometheus-alertmanager"


class Relays:
    """The facility's relay and one that only says so, which another authority signed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._trusted, other = tls.authority(), tls.authority("Somebody Else")
        folder = run.out / "relays"
        folder.mkdir()
        self._own = certificate(folder / "own.pem", self._trusted)
        self._impostor = certificate(folder / "impostor.pem", other)

    def vouch(self) -> None:
        """Put who signs for the relay where the box looks for it, as root at its console does."""
        place = self._run.machine.root / _AUTHORITY
        place.write_bytes(self._trusted.pem)
        place.chmod(0o644)

    def listening(self, *, is_own: bool) -> AbstractContextManager[Mails]:
        """Let the facility's listen, or the other one."""
        return monitored.relay(self._run, self._own if is_own else self._impostor)


def refused_by_the_box(run: Run, mails: Mails) -> None:
    """Wait until the box has seen that nobody takes its mail: it must say so, and have sent nothing."""
    with run.stage.chapter("A mail relay with another's certificate gets nothing, and doctor says so"):
        tried = run.machine.run(*_TRY, may_fail=True)
        print(f"   {tried.stderr}")
        is_said = (tried.returncode, "took 0 of 1 mails" in tried.stderr) == (_UNIT, True)
        run.require("a trial alert says who did not get it", is_said, tried.stderr)
        looks.wait(
            lambda: "does not take every mail" in _found(run)["text"],
            lambda: f"doctor does not tell: {_found(run)}",
            pause=_PAUSE,
        )
        found = _found(run)
        print(f"   {found['text']}")
        run.require("doctor says that the relay does not take every mail", found["is_good"] is False, found)
        journal = run.machine.run("journalctl", "-u", _ALERTMANAGER, "-o", "cat", shown=False).stdout
        run.require("and the journal why", "signed by unknown authority" in journal, journal[-2000:])
        run.require("another's relay got no mail", not mails(), mails())


def told(run: Run, mails: Mails) -> None:
    """Wait for the mail of the alert that fires at the facility's own relay; then mend what it is about."""
    with run.stage.chapter("An alert reaches the facility's mail relay, over TLS"):
        tried = run.machine.result(*_TRY)
        run.require("a trial alert is told on page and console and by mail", tried == _TOLD, tried)
        looks.wait(lambda: any(monitored.RULE in mail.text for mail in mails()), lambda: f"no mail came: {_found(run)}")
        mail = next(one for one in mails() if monitored.RULE in one.text)
        run.require("an alert is mailed to whom a person named at setup", f"To: {RECEIVER}" in mail.text, mail)
        run.require("from this box", f"From: sealift@{HOSTNAME}" in mail.text, mail)
        run.require("over TLS alone", all(one.is_secured for one in mails()), mails())
        monitored.mend(run)
        looks.wait(
            lambda: _found(run)["is_good"] is True, lambda: f"doctor does not see it: {_found(run)}", pause=_PAUSE
        )
        run.require("then doctor is content with alerts", _found(run)["is_good"] is True)


def _found(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = looks.findings(run)["alerts"]
    return found
