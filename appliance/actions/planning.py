"""Makes the plan of an install, or has it made by its unit and believes of that only what root can see for itself.

A playbook that nobody approved never runs as root, not even to say what it would change: check mode carries out what a
task asks it to. Before the first release there is no unit, and the typed release code vouches for what runs.

Promises: site, release, the release before, playbooks and site file of a plan are those that lie here, and its packages
those that apt would put in, looked at by this process, as are the differences of playbooks and units that a plan begins
with; the rest of the difference is the playbook's account, which people judge.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.actions import hostplan
from appliance.actions.host import Host
from appliance.config import Config
from appliance.errors import HostChangeError
from appliance.install import additions, environments, hostfilechanges, plans, playbook
from appliance.install.carried import Whole
from appliance.install.plans import Plan
from appliance.install.playbook import Play
from appliance.install.releases import InstalledReleases


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Plans of one appliance.

    Args:
        config: The site file's values.
        config_file: Where the site file was read.
        host: The machine.
    """

    config: Config
    config_file: Path
    host: Host

    def plan(self, whole: Whole) -> Plan:
        """Return what installing a release would change on the host.

        Raises:
            InstallError: The playbook cannot be checked.
            PreflightError: There is no Ansible.
            RemoteError, UnitError: The unit could not make the plan.
            HostChangeError: What the unit made is about something else, or is too long to be shown whole.
        """
        if InstalledReleases(self.config.at).current() is not None:
            made = self.host.planned(whole.stored.serial)
            if made is not None:
                return self._believed(made, whole)
        return self._make(whole)

    def expected(self, whole: Whole) -> Plan:
        """Return the plan of a release as far as it follows from what lies here: without what would change."""
        stored = whole.stored
        current = InstalledReleases(self.config.at).current()
        return Plan(
            site=self.config.site,
            serial=stored.serial,
            release=stored.release,
            previous=current.serial if current is not None else 0,
            host_files=environments.host_files_digest(stored),
            settings=hostplan.settings_digest(self.config.at, self.config_file),
            changed=0,
            packages=(),
            difference="",
        )

    def _make(self, whole: Whole) -> Plan:
        folder_of = InstalledReleases(self.config.at).folder
        with tempfile.TemporaryDirectory(prefix="sealift-") as scratch:
            play = self._play(whole, Path(scratch))
            result = self.host.preview(play, playbook.ansible_of(self.config))
            account = plans.plain(result.text, Path(scratch), folder_of(whole.stored.serial))
            return replace(
                self.expected(whole),
                changed=result.changed,
                packages=result.packages,
                difference=plans.shown_whole(self._files(Path(scratch)) + account),
            )

    def _files(self, scratch: Path) -> str:
        """Return what changes in the files that change the host; nothing where no release is in use to compare with."""
        releases = InstalledReleases(self.config.at)
        current = releases.in_use()
        return "" if current is None else hostfilechanges.changed(releases.folder(current.serial), scratch)

    def _believed(self, made: Plan, whole: Whole) -> Plan:
        expected = self.expected(whole)
        if plans.identity(made) != plans.identity(expected):
            why = "its unit left another site, release, playbook or site file in it"
            raise _unbelieved(made, "is not about what is to be installed", why=why)
        with tempfile.TemporaryDirectory(prefix="sealift-") as scratch:
            packages = self.host.packages(self._play(whole, Path(scratch)))
            files = self._files(Path(scratch))
        if made.packages != packages:
            why = f"{len(made.packages)} there, {len(packages)} by apt"
            raise _unbelieved(made, "names other packages than apt would put in", why=why)
        if not made.difference.startswith(files):
            why = "its unit left something else in it"
            raise _unbelieved(made, "does not show what changes in playbooks and units", why=why)
        return made

    def _play(self, whole: Whole, scratch: Path) -> Play:
        """Return the play of a copy of the release's host files, which nothing of the release in place touches."""
        environments.lay_host_files(whole.stored, scratch)
        return Play(
            config=self.config,
            config_file=self.config.at.config_file,
            source=scratch,
            folder=InstalledReleases(self.config.at).folder(whole.stored.serial),
            serial=whole.stored.serial,
            environments=(),
            updates=whole.packages,
            needs=additions.wanted(self.config.at, whole),
        )


def _unbelieved(made: Plan, what: str, *, why: str) -> HostChangeError:
    return HostChangeError(
        what=f"the plan {made.digest[:12]} {what}",
        why=why,
        fix="make it again: `sealift install SERIAL --plan`; if it stays so, report the release",
    )
