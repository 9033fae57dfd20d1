"""Puts a stored release into place: keys, environments, host, health, record. On failure what ran before runs on.

On a box (root `/`) the release's playbook changes the host; below a folder (demo, rehearsal) only environments are
built. Everything may be repeated; a second run changes nothing and says so.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.actions import doctor_machine, hostplan
from appliance.actions import installrecord as recording
from appliance.actions.databases import checking
from appliance.actions.host import Host, Planner
from appliance.actions.installfacts import InstallFacts
from appliance.actions.planning import Planning
from appliance.audit.client import open_ledger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.errors import InstallError, PreflightError
from appliance.install import (
    additions,
    carried,
    dropins,
    environments,
    plans,
    playbook,
    reading,
    setid,
    sitefile,
    vouching,
)
from appliance.install.additions import Needs
from appliance.install.carried import Whole
from appliance.install.plans import Plan
from appliance.install.playbook import Play
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.trial import NONE, Returned, Trial, Trials, one_line, tried_beside
from appliance.keys.opening import open_keys
from appliance.state.database import open_state
from appliance.store.content import ContentStore, StoredRelease
from media.clock import Clock, to_text
from media.digest import sha256_hex
from media.errors import SealiftError

_WITHOUT_ROOT: Final = "not changed: there is no Ansible without root"
_BY_NO_STATEMENT: Final = frozenset({hostplan.NO_HOST, hostplan.NO_CHANGE, hostplan.FIRST_TRUST})
BEGUN: Final = "install.begun"
RETURNED: Final = "install.returned"
CUT_OFF: Final = "the install was cut off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installer:
    """What an install works with.

    Args:
        config: The site file's values.
        config_file: Where the site file was read; it is copied into place when there is none.
        clock: The clock.
        progress: Told one line for each step.
        host: The machine, on a box.
    """

    config: Config
    config_file: Path
    clock: Clock
    progress: Callable[[str], None]
    host: Host | None

    def install(self, serial: int | None = None) -> InstallFacts:
        """Install a stored release, the newest when none is named.

        Raises:
            UnknownReleaseError: The store does not hold it.
            InstallError: It does not read what this site has stored, it could not be built, or the host could not be
                changed; what ran before runs on.
            HostChangeError: It would change the host as two people did not approve; nothing was changed.
            PreflightError: There is no Ansible on a box, root's hand at the console is needed, or a file is missing
                that the site file needs; nothing was changed.
        """
        trials = Trials(self.config.at)
        with trials.locked():
            self._begin_anew(trials)
            return self._install(trials, serial)

    def settle(self) -> Returned | None:
        """Take back an install that was cut off (killed, power lost), as one that did not answer; nothing if none was.

        Raises:
            InstallError: The host could not be put back, or another install is running. The trial stays noted.
            LedgerUnavailableError: It could not be recorded. The trial stays noted.
        """
        trials = Trials(self.config.at)
        with trials.locked():
            return self._settle(trials)

    def _begin_anew(self, trials: Trials) -> None:
        """Take back what was cut off before.

        Raises:
            InstallError: The site file went back with it, so it is not the one that this process read.
        """
        place = self.config.at.config_file
        before = place.read_bytes() if place.exists() else b""
        if self._settle(trials) is not None and before and place.read_bytes() != before:
            raise InstallError(
                what="an install that was cut off is taken back, and its site file with it",
                why=f"what was in place lies beside it, as {tried_beside(place).name}",
                fix="put into place the one that is wanted, and install again",
            )

    def _settle(self, trials: Trials) -> Returned | None:
        trial = trials.pending()
        return None if trial is None else self._go_back(trials, trial, why=CUT_OFF)

    def _install(self, trials: Trials, serial: int | None) -> InstallFacts:
        doctor_machine.require_local(self.config)
        stored, places = self._stored(serial), self.config.at
        whole = self._complete(stored)
        self._require_place()
        approval = self._require_approved(whole)
        dropins.require_secrets(self.config)
        if self.host is not None:
            vouching.require(self.config)
        ansible = playbook.ansible_of(self.config)
        keys_made = open_keys(self.config, environ={}).create_missing()
        self._place_site_file()
        open_state(places).dispose()
        checking.require_counters(self.config)
        built = environments.build(stored, places, with_host=self.host is not None, progress=self.progress)
        releases = InstalledReleases(places)
        previous = releases.in_use()
        is_new = previous is None or previous.serial != stored.serial
        trial = Trial(
            serial=stored.serial,
            release=stored.release,
            previous=NONE if previous is None else previous.serial,
            at=to_text(self.clock.now()),
        )
        if approval not in _BY_NO_STATEMENT:
            # Before the host changes: one that is killed in the middle, or ends without a word, is on record.
            self._append(BEGUN, {"serial": stored.serial, "release": stored.release, "host_approval": approval})
        # What services read from now on, whatever somebody writes there meanwhile.
        settings = places.config_file.read_bytes()
        news = self._news(trials, settings)
        is_tried = is_new or bool(news)
        if is_tried:
            trials.begin(trial)
        if is_new:
            releases.switch(stored.serial)
        host_text, host_changed = _WITHOUT_ROOT, False
        try:
            if self.host is not None:
                host_changed = self._change_host(self.host, built.installed, ansible, whole, news=news)
                host_text = "changed" if host_changed else "unchanged"
            changed = built.changed or is_tried or host_changed or bool(keys_made)
            if changed:
                # Before the trial ends: no release stays of which there is no record.
                recording.done(
                    self.config, built.installed, stored, host=host_text, approval=approval, clock=self.clock
                )
        except SealiftError as error:
            if is_tried and self.host is not None:
                self._back_from(trials, trial, error)
            raise
        trials.confirm(settings)
        return InstallFacts(
            serial=stored.serial,
            release=stored.release,
            previous=previous.serial if previous and is_new else None,
            environments=dict(built.installed.environments),
            changed=changed,
            host=host_text,
            keys_made=keys_made,
            kind=whole.kind,
            base=whole.base,
            kept=list(whole.kept),
        )

    def _news(self, trials: Trials, settings: bytes) -> str:
        """Return who has to read the site file anew: a box runs with another one, to which it can go back."""
        good = trials.settings_beside(settings)
        if self.host is None or good is None:
            return ""
        return sitefile.readers(good, settings)

    def _is_news(self) -> bool:
        place = self.config.at.config_file
        return place.exists() and bool(self._news(Trials(self.config.at), place.read_bytes()))

    def _require_place(self) -> None:
        ledger = open_ledger(self.config, ACTIONS, clock=self.clock)
        try:
            checking.require_place(self.config, ledger)
        finally:
            ledger.close()

    def preview(self, serial: int | None = None) -> InstallFacts:
        """Say what `install` would change, and change nothing.

        Raises:
            UnknownReleaseError: The store does not hold it.
            InstallError: The playbook cannot be checked, or it does not read what this site has stored.
            PreflightError: There is no Ansible on a box.
        """
        stored = self._stored(serial)
        if self.host is None:  # whoever has not root may not see what this site has stored
            whole = carried.complete(stored, InstalledReleases(self.config.at))
        else:
            whole = self._complete(stored)
        stored = whole.stored
        current = InstalledReleases(self.config.at).current()
        is_new = current is None or current.serial != stored.serial
        host_text, difference = _WITHOUT_ROOT, ""
        if (plan := self._plan(whole)) is not None:
            host_text = "would change" if plan.changes_host else "unchanged"
            difference = plan.to_text() if plan.packages else plan.difference
        return InstallFacts(
            serial=stored.serial,
            release=stored.release,
            previous=current.serial if current and is_new else None,
            environments={name: sha256_hex(text) for name, text in whole.requirements.items()},
            changed=is_new or host_text == "would change" or self._is_news(),
            host=host_text,
            difference=difference,
            kind=whole.kind,
            base=whole.base,
            kept=list(whole.kept),
        )

    def plan(self, serial: int | None = None) -> Plan:
        """Make the plan of an install, keep it, and change nothing else.

        Raises:
            UnknownReleaseError: The store does not hold it.
            InstallError: The playbook cannot be checked, or the release does not read what this site has stored.
            PreflightError: There is no host to change, or no Ansible on it.
        """
        whole = self._complete(self._stored(serial))
        plan = self._plan(whole)
        if plan is None:
            raise PreflightError(
                what="there is no host to plan for", why=_WITHOUT_ROOT, fix="`sealift install` needs no approval here"
            )
        plans.keep(self.config.at, plan)
        return plan

    def _complete(self, stored: StoredRelease) -> Whole:
        """Return the release as it is to be installed here, where it reads what this site has stored."""
        whole = carried.complete(stored, InstalledReleases(self.config.at))
        # Its user may not see that; the job service looked before it started the unit, and an install looks again.
        if not isinstance(self.host, Planner):
            reading.require_reads(self.config.at, whole)
        return whole

    def _plan(self, whole: Whole) -> Plan | None:
        return None if self.host is None else self._planning(self.host).plan(whole)

    def _planning(self, host: Host) -> Planning:
        return Planning(config=self.config, config_file=self.config_file, host=host)

    def _require_approved(self, whole: Whole) -> str:
        """Return by what the host may be changed: a statement's digest, or in a word why none is needed."""
        current = InstalledReleases(self.config.at).in_use()
        if self.host is None:
            return hostplan.NO_HOST
        if current is None or not hostplan.waits_for_people(self.config, clock=self.clock):
            return hostplan.FIRST_TRUST
        planning = self._planning(self.host)
        expected = planning.expected(whole)
        is_in_use = (current.serial, current.host_files) == (expected.serial, expected.host_files)
        if not is_in_use:
            # A release that nobody approved is refused before anything of it runs.
            hostplan.require_asked(self.config, expected, clock=self.clock)
        self.progress("looking what would change on the host")
        plan = planning.plan(whole)
        if is_in_use and not plan.changes_host:
            return hostplan.NO_CHANGE
        approval = hostplan.require_approved(self.config, plan, clock=self.clock)
        setid.require_possible(plan.packages, whole.stored)
        return approval

    def _stored(self, serial: int | None) -> StoredRelease:
        return ContentStore(self.config.at.store).release(serial)

    def _change_host(self, host: Host, installed: InstalledRelease, ansible: Path, whole: Whole, *, news: str) -> bool:
        self.progress("changing the host as the release's playbook says")
        names, needs = tuple(installed.environments), additions.wanted(self.config.at, whole)
        play = self._play(installed.serial, names, updates=whole.packages, needs=needs)
        result = host.apply(play, ansible)
        if news and not result.started_anew:
            self.progress("starting anew what reads the site file")
            host.restart(news)
        host.require_healthy()
        return result.changed > 0

    def _back_from(self, trials: Trials, trial: Trial, failure: SealiftError) -> None:
        """Go back; the first failure is what counts, and a second one leaves the trial for the next boot."""
        try:
            self._go_back(trials, trial, why=f"{failure.what}: {failure.why}")
        except SealiftError as error:
            self.progress(f"going back did not end well: {error.what}")

    def _go_back(self, trials: Trials, trial: Trial, *, why: str) -> Returned:
        """Point at the release before, let its own playbook restore the host, and note and record it."""
        releases = InstalledReleases(self.config.at)
        previous = None if trial.previous == NONE else releases.require(trial.previous)
        releases.switch(previous.serial if previous else None)
        still: SealiftError | None = None
        if previous is not None:
            to = "the site file of before" if trial.is_of_site_file else f"release {previous.release}"
            self.progress(f"going back to {to}")
            settings = trials.restore_settings(self.config.at.config_file)
            news = self._news_of_before() if settings is not None or trial.is_of_site_file else ""
            try:
                self._restore_host(previous, settings, news=news)
            except SealiftError as error:
                # A box that was not well before either is mended by another site file: no trial may stand before that.
                if not trial.is_of_site_file:
                    raise
                still = error
        returned = Returned(
            serial=trial.serial,
            release=trial.release,
            back_to=previous.serial if previous else NONE,
            why=one_line(why),
            at=to_text(self.clock.now()),
        )
        self._append(RETURNED, returned.to_json())
        trials.went_back(returned)
        if still is not None:
            raise still
        return returned

    def _news_of_before(self) -> str:
        """Return who may run with the site file that was tried, also where it went back before and nobody was told."""
        place = self.config.at.config_file
        tried = tried_beside(place)
        return sitefile.readers(tried.read_bytes(), place.read_bytes()) if tried.exists() else ""

    def _restore_host(self, previous: InstalledRelease, settings: bytes | None, *, news: str) -> None:
        if self.host is None:
            return
        config = self.config if settings is None else configuration.parse(settings)
        ours = InstalledReleases(self.config.at).folder(previous.serial) / "host/bin/ansible-playbook"
        ansible = ours if ours.exists() else playbook.ansible_of(self.config)
        names, needs = tuple(previous.environments), additions.installed(self.config.at)
        started_anew = False
        try:
            play = self._play(previous.serial, names, config=config, needs=needs)
            started_anew = self.host.apply(play, ansible).started_anew
        finally:
            if news and not started_anew:
                self.host.restart(news)
        self.host.require_healthy()

    def _append(self, kind: str, body: dict[str, Any]) -> None:
        ledger = open_ledger(self.config, ACTIONS, spool=True, clock=self.clock)
        try:
            ledger.append(kind, body)
        finally:
            ledger.close()

    def _play(
        self,
        serial: int,
        names: tuple[str, ...],
        *,
        needs: Needs,
        updates: tuple[str, ...] = (),
        config: Config | None = None,
    ) -> Play:
        folder = InstalledReleases(self.config.at).folder(serial)
        return Play(
            config=config or self.config,
            config_file=self.config.at.config_file,
            source=folder,
            folder=folder,
            serial=serial,
            environments=names,
            updates=updates,
            needs=needs,
        )

    def _place_site_file(self) -> None:
        place = self.config.at.config_file
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.config_file, place)
            place.chmod(0o644)
