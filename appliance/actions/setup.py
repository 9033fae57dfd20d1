"""Sets up a machine from answers: site file, install, disk of backups, first codes, capacity, and a summary to keep.

Promises: nothing is changed before the plan was shown and agreed to; every step may be repeated, so a run that was cut
off is finished by running it again; codes are returned once and written nowhere; a machine whose people are enrolled
is not set up differently from here, because that is a host change, which two of them approve. Nobody's name stands for
the clock but of who was asked beside what it shows: a file of answers was written elsewhere, on another day.
"""

import hashlib
import json
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from appliance.actions import capacity, doctor_machine, hostplan, units
from appliance.actions import clock as clock_action
from appliance.actions.backups.seconddisk import AHEAD, DiskFacts, SecondDisk
from appliance.actions.capacity import CapacityFacts
from appliance.actions.installfacts import InstallFacts
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.errors import ClockUncertainError, ConflictError, InstallError, UnitError
from appliance.install import sitefile
from appliance.install.answers import Answers
from appliance.install.releases import InstalledReleases
from appliance.install.supervisor import open_supervisor
from appliance.install.tlsfacts import fingerprint_of
from appliance.install.trial import NONE, Trials
from appliance.install.watching import Watching
from appliance.promote.client import PromoterClient
from appliance.store.content import ContentStore
from appliance.store.kept_small import signed_terms
from appliance.verify.fit import Machine, require_fit
from media import durable
from media.clock import Clock, to_text
from media.errors import MalformedError, SealiftError

FORMAT: Final = 1
DONE: Final = "install.setup"
FOLDER: Final = "setup"
SUMMARY: Final = "summary.json"
STEPS: Final = ("site file", "install", "services", "backup disk", "codes", "capacity", "summary")

Progress = Callable[[int, str], None]
Measure = Callable[[str, int], CapacityFacts]


class Installs(Protocol):
    """What setup asks of an installer; see `appliance.actions.install.Installer`."""

    def install(self, serial: int | None = None) -> InstallFacts:
        """Install a stored release."""
        ...

    def preview(self, serial: int | None = None) -> InstallFacts:
        """Say what `install` would change."""
        ...

    def settle(self) -> object:
        """Take back an install that was cut off."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a setup will do: the site file's difference, what the playbook would change, to which disk backups go.

    `clock` is what the machine's shows, `clock_missing` what is to be done about it afterwards; empty for nothing.
    `absent` are addresses of the answers that this machine has not.
    """

    config: Config
    site_file: str
    install: InstallFacts
    watching: Watching
    disk: DiskFacts
    steps: tuple[str, ...]
    clock: str
    clock_missing: str
    absent: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "site_file": self.site_file,
            "install": self.install.to_json(),
            "alerts": self.watching.to_json(),
            "backup_disk": self.disk.to_json(),
            "steps": list(self.steps),
            "clock": {"shown": self.clock, "missing": self.clock_missing},
            "absent": list(self.absent),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFacts:
    """How it ended. `codes` are shown once; nothing that is kept holds them."""

    site: str
    urls: dict[str, str]
    ca_fingerprint: str
    release: str
    serial: int
    capacity: CapacityFacts | None
    enrolled: int
    changed: bool
    watching: Watching
    disk: DiskFacts
    codes: dict[str, str] = field(repr=False)
    capacity_missing: str = ""
    clock_missing: str = ""

    def kept(self) -> dict[str, Any]:
        """Return what is written down: all but the codes."""
        return {
            "format": FORMAT,
            "site": self.site,
            "urls": self.urls,
            "ca_fingerprint": self.ca_fingerprint,
            "release": self.release,
            "serial": self.serial,
            "capacity": None if self.capacity is None else self.capacity.to_json(),
            "capacity_missing": self.capacity_missing,
            "clock_missing": self.clock_missing,
            "enrolled": self.enrolled,
            "alerts": self.watching.to_json(),
            "backup_disk": self.disk.to_json(),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers, codes included."""
        return {**self.kept(), "changed": self.changed, "codes": self.codes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One machine and what was answered for it.

    Args:
        answers: What was answered.
        is_asked: Whether a person answered at this machine, who saw what its clock shows.
        config: The site file's values that follow from it; `Answers.config` and `watching.decided`.
        watching: Whether alerts will be told.
        disk: The disk of backups.
        clock: The clock.
        installer: Puts the release into place.
        measure: Measures a version, given its digest (empty: what is there) and seconds.
        progress: Told each step's number and name as it begins.
        tell: Told in words what happens.
    """

    answers: Answers
    is_asked: bool
    config: Config
    watching: Watching
    disk: SecondDisk
    clock: Clock
    installer: Installs
    measure: Measure
    progress: Progress = lambda *_: None
    tell: Callable[[str], None] = lambda _: None

    def plan(self) -> Plan:
        """Say what `run` would do, and change nothing.

        Raises:
            ConflictError: People are enrolled, and the answers would change the site file.
            LedgerUnavailableError: The answers would change it, and whether people are enrolled cannot be known.
            UnknownReleaseError: The store holds no such release.
            PreflightError: What must be durable would lie on a file system in the network.
            TargetMismatchError: The release is for another profile, or another machine.
        """
        self._require_machine()
        difference = sitefile.difference(self.config, self.config.at.config_file)
        self._require_free(difference)
        disk = self.disk.planned()
        left_out = {"capacity"} if self.answers.capacity.seconds == 0 else set()
        if disk.state not in AHEAD:
            left_out.add("backup disk")
        return Plan(
            config=self.config,
            site_file=difference,
            install=self._preview(),
            watching=self.watching,
            disk=disk,
            steps=tuple(step for step in STEPS if step not in left_out),
            clock=to_text(self.clock.now()),
            clock_missing="" if self.is_asked else self._unconfirmed(),
            absent=doctor_machine.absent_of(self.config),
        )

    def _require_machine(self) -> None:
        """Judge disks as the install will, and the profile as the next receive, which refuses media under another."""
        doctor_machine.require_local(self.config)
        stored = ContentStore(self.config.at.store).release(self._serial)
        with suppress(OSError, KeyError, TypeError, MalformedError):  # doctor says what cannot be read
            terms, _ = signed_terms(stored)
            require_fit(terms, Machine.probe(self.config.profile))

    def _preview(self) -> InstallFacts:
        """Ask what the playbook would change; on a bare machine it may look for accounts that only it makes."""
        try:
            return self.installer.preview(self._serial)
        except InstallError as error:
            if self._is_installed():
                raise
            stored = ContentStore(self.config.at.store).release(self._serial)
            return InstallFacts(
                serial=stored.serial,
                release=stored.release,
                previous=None,
                environments={},
                changed=True,
                host="is set up from nothing; what exactly can only be told when its packages are there",
                difference=f"{error.what}: {error.why}",
            )

    def _is_installed(self) -> bool:
        """Tell whether an install ended well here; a first one that was cut off names its release, on a bare host."""
        pending = Trials(self.config.at).pending()
        is_cut_off = pending is not None and pending.previous == NONE
        return InstalledReleases(self.config.at).current() is not None and not is_cut_off

    def run(self, agreed: DiskFacts) -> SetupFacts:
        """Do it all; see the module.

        Args:
            agreed: What `plan` said of the disk of backups, and people agreed to; its failure ends nothing.

        Raises:
            SealiftError: A step failed; what was done stays and is found done by the next run.
        """
        places = self.config.at
        self.progress(0, STEPS[0])
        self._require_machine()
        self._require_free(sitefile.difference(self.config, places.config_file))
        if (cut_off := Trials(places).pending()) is not None and cut_off.previous != NONE:
            self.installer.settle()  # before the site file is written: one that was tried goes back with it
        changed = sitefile.write(self.config, places.config_file)
        self.progress(1, STEPS[1])
        installed = self.installer.install(self._serial)
        self.progress(2, STEPS[2])
        self._require_services()
        self.progress(3, STEPS[3])
        disk = self.disk.prepared(agreed)
        self.progress(4, STEPS[4])
        enrolled, codes = self._codes()
        self.progress(5, STEPS[5])
        measured, missing = self._capacity()
        self.progress(6, STEPS[6])
        facts = SetupFacts(
            site=self.config.site,
            urls=self._urls(),
            ca_fingerprint=fingerprint_of(places.etc / "tls/trust.crt"),
            release=installed.release,
            serial=installed.serial,
            capacity=measured,
            capacity_missing=missing,
            enrolled=enrolled,
            changed=changed or installed.changed or bool(codes) or disk.sequence is not None,
            watching=self.watching,
            disk=disk,
            codes=codes,
        )
        self._keep(facts)  # first, with what it is known to lack: codes are shown once
        facts = replace(facts, clock_missing=self._record(facts) if facts.changed else self._unconfirmed())
        self._keep(facts)
        self.progress(7, "done")
        return facts

    @property
    def _serial(self) -> int | None:
        return self.answers.install.serial or None

    def _require_free(self, difference: str) -> None:
        # As the install after it will judge, which comes too late for the site file. The promoter may be down.
        if difference and hostplan.waits_for_people(self.config, clock=self.clock):
            raise ConflictError(
                what="this machine is set up already",
                why="people are enrolled, and the answers would change the site file",
                fix="change the site file itself and run `sealift install`: a host change, which two people approve",
            )

    def _require_services(self) -> None:
        """Below a folder there is no systemd: start the units, unless a supervisor answers already."""
        if self.config.places.root == "/":
            return
        try:
            open_supervisor(self.config).units()
        except UnitError:
            self.tell("starting the units")
            source = units.Source(config=self.config, config_file=self.config.at.config_file)
            units.run_in_background(source, ())

    def _codes(self) -> tuple[int, dict[str, str]]:
        """Issue codes while nobody is enrolled; earlier ones that were not used end with it."""
        names = self.answers.people.names
        promoter = PromoterClient.open(self.config)
        try:
            if enrolled := len(promoter.people()):
                return enrolled, {}
            return 0, dict(zip(names, promoter.codes(len(names)), strict=True))
        finally:
            promoter.close()

    def _capacity(self) -> tuple[CapacityFacts | None, str]:
        """Measure this machine once; one that cannot be measured is set up all the same, and says why it was not."""
        if self.answers.capacity.seconds == 0:
            return None, "left out, as answered"
        ledger = open_ledger(self.config, ACTIONS, clock=self.clock)
        try:
            known = capacity.of_this_machine(ledger)
        finally:
            ledger.close()
        if known is not None:
            return known, ""
        try:
            return self.measure("", self.answers.capacity.seconds), ""
        except SealiftError as error:
            self.tell(f"capacity was not measured: {error.what}")
            return None, error.what

    def _urls(self) -> dict[str, str]:
        if self.config.places.root == "/":
            name = self.config.service.hostname
            return {"gateway": f"https://{name}", "admin": f"https://{name}:8443"}
        try:
            return units.addresses(self.config)
        except UnitError:
            return {}

    def _keep(self, facts: SetupFacts) -> None:
        folder = folder_of(self.config)
        text = json.dumps(facts.kept(), indent=2, sort_keys=True) + "\n"
        durable.replace(folder / SUMMARY, text.encode(), mode=0o600)

    def _record(self, facts: SetupFacts) -> str:
        """Record who compared the clock, and the setup; return why the clock is not confirmed, and what helps."""
        ledger = open_ledger(self.config, ACTIONS, spool=True, clock=self.clock)
        try:
            by, missing = self.answers.time.confirmed_by if self.is_asked else "", ""
            try:
                if by:
                    clock_action.confirm(self.config, ledger, untrusted_name=by, clock=self.clock)
                else:
                    missing = self._unconfirmed()
            except (ConflictError, ClockUncertainError) as error:
                by = ""
                if clock_action.standing(self.config, clock=self.clock).is_good is not True:  # people may have done it
                    missing = f"{error.what}: {error.why}; {error.fix}"
            ledger.append(
                DONE,
                {
                    "format": FORMAT,
                    "serial": facts.serial,
                    "release": facts.release,
                    "site_file_sha256": hashlib.sha256(self.config.at.config_file.read_bytes()).hexdigest(),
                    "clock": {"shown": to_text(self.clock.now()), "confirmed_by": by},
                    "codes": len(facts.codes),
                },
            )
        finally:
            ledger.close()
        return missing

    def _unconfirmed(self) -> str:
        """Return what is to be done where nobody confirmed the clock; once people are enrolled, two sign for it."""
        found = clock_action.standing(self.config, clock=self.clock)
        if found.is_good is True:
            return ""
        return (
            f"nobody compared it with another one: it shows {to_text(found.shown)} (UTC); where that is right,"
            f" `sealift clock confirm --by {shlex.quote(self.answers.time.confirmed_by)}`, before the first person"
            " enrols; later two people say so: `sealift clock set now` (docs/operator/clock.md)"
        )


def folder_of(config: Config) -> Path:
    """Return the folder of answers and summary, for this user alone; it is made."""
    folder = config.at.state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
