"""Runs the release's playbook on this machine: the only step that changes the host itself.

The playbook comes from the release that is being installed, as data; the Ansible that runs it is the one already here
(the release before, or the bootstrap's). Nothing of Ansible's own configuration outside the release applies.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.errors import PreflightError
from appliance.install import account, dropins
from appliance.install.account import PlayFailedError, PlayResult
from appliance.install.additions import NOTHING, Needs
from appliance.install.environments import proof_of

PACKAGES: Final = ("gpg", "gpg-agent", "libgomp1", "nftables", "nginx-light", "python3-venv")
WATCHERS: Final = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
VARIABLES: Final = (
    "sealift_source",
    "sealift_release_folder",
    "sealift_serial",
    "sealift_current",
    "sealift_environments",
    "sealift_units",
    "sealift_packages",
    "sealift_python",
    "sealift_config_file",
    "sealift_hostname",
    "sealift_client_certificates",
    "sealift_management_certificates",
    "sealift_monitoring_certificates",
    "sealift_addresses",
    "sealift_clients",
    "sealift_management",
    "sealift_egress",
    "sealift_time_servers",
    "sealift_monitoring",
    "sealift_operations",
    "sealift_boxes",
    "sealift_gateways",
    "sealift_alerts",
    "sealift_mail_authority",
    "sealift_syslog_authority",
    "sealift_retention_days",
    "sealift_usb",
    "sealift_drop_ins",
)
SITE: Final = "site.yml"
UNINSTALL: Final = "uninstall.yml"
_PLAYBOOK_SECONDS: Final = 1800
# Check mode writes nothing; without this Ansible refuses to compare a file whose folder it could not write to, and who
# makes a plan may write to none. Whether a unit is enabled is read from the files: asked, a busy systemd may not answer
# in time, and what people approved a moment ago would come out differently.
_READING: Final = {"ANSIBLE_UNSAFE_WRITES": "1", "SYSTEMD_OFFLINE": "1"}
_LOG_BYTES: Final = 2 * 2**20
_UNIT_SUFFIXES: Final = (".service", ".socket", ".target", ".timer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One run of a release's playbook.

    Args:
        config: The site file's values.
        config_file: Where the site file lies.
        source: Where `ansible/`, `systemd/` and `debs/` are read: the release's folder, or a copy to preview with.
        folder: The release's folder, with its environments.
        serial: The release's serial.
        environments: Names of its environments.
        updates: Names of Debian packages that it brings for their own sake.
        needs: What engines here need beyond their units' walls and every box's packages.
        book: Which of its playbooks.
    """

    config: Config
    config_file: Path
    source: Path
    folder: Path
    serial: int
    environments: tuple[str, ...]
    updates: tuple[str, ...] = ()
    needs: Needs = NOTHING
    book: str = SITE

    def variables(self) -> dict[str, Any]:
        """Return every variable that the roles declare, and no other."""
        network, monitoring = self.config.network, self.config.monitoring
        packages = (*PACKAGES, *(WATCHERS if monitoring.enabled else ()), *sorted(self.needs.packages), *self.updates)
        values = (
            str(self.source),
            str(self.folder),
            self.serial,
            str(self.config.at.current),
            [{"name": name, "proof": proof_of(name)} for name in sorted(self.environments)],
            sorted(path.name for path in (self.source / "systemd").iterdir() if path.suffix in _UNIT_SUFFIXES),
            list(dict.fromkeys(packages)),
            str(self.folder / "server/bin/python"),
            str(self.config_file),
            self.config.service.hostname,
            _certificates(self.config.tls.clients),
            _certificates(self.config.tls.management),
            _certificates(self.config.tls.monitoring),
            list(network.addresses),
            list(network.clients),
            list(network.management),
            list(self.config.destinations),
            list(self.config.time.servers),
            monitoring.enabled,
            list(monitoring.networks) if monitoring.enabled else [],
            list(self.config.standby.callers),
            self.config.service.gateways,
            self.config.alerts.model_dump(),
            str(self.config.at.mail_authority),
            str(self.config.at.syslog_authority),
            monitoring.retention_days,
            list(self.config.media.usb),
            [
                each.to_json()
                for each in dropins.drop_ins(self.config, self.source / "systemd", needed=self.needs.units)
            ],
        )
        return dict(zip(VARIABLES, values, strict=True))

    def run(self, ansible_playbook: Path, *, check_only: bool = False) -> PlayResult:
        """Run the playbook, or only show what it would change.

        Raises:
            PlayFailedError: A task failed; `what` names it.
            PreflightError: There is no Ansible.
        """
        with tempfile.TemporaryDirectory(prefix="sealift-play-") as scratch:
            values = Path(scratch) / "variables.yml"
            values.write_text(as_data(self.variables()))
            options = ["--check", "--diff"] if check_only else []
            try:
                done = subprocess.run(
                    [str(ansible_playbook), self.book, "--extra-vars", f"@{values}", *options],
                    capture_output=True,
                    check=False,
                    cwd=self.source / "ansible",
                    env={**self._environment(Path(scratch)), **(_READING if check_only else {})},
                    text=True,
                    timeout=_PLAYBOOK_SECONDS,
                )
            except FileNotFoundError as error:
                raise PreflightError(
                    what="there is no Ansible to run the playbook with",
                    why="neither the installed release nor the bootstrap brings it",
                    fix="run the bootstrap from the medium",
                ) from error
            except subprocess.TimeoutExpired as error:
                raise PlayFailedError(what="a task", why="it did not end in time", account=_told(error)) from error
        return account.read(done.stdout, done.stderr, code=done.returncode)

    def _environment(self, scratch: Path) -> Mapping[str, str]:
        return {
            "ANSIBLE_CONFIG": str(self.source / "ansible/ansible.cfg"),
            "ANSIBLE_HOME": str(scratch / "home"),
            "ANSIBLE_LOCAL_TEMP": str(scratch / "local"),
            "ANSIBLE_REMOTE_TEMP": str(scratch / "remote"),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(scratch),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }


def _certificates(asked: str) -> str:
    # The role is told in a word that no YAML reads as a truth.
    return "none" if asked == "off" else asked


def as_data(variables: Mapping[str, Any]) -> str:
    """Return YAML in which no text is a template: whatever stands in a site file stays what it is, ``{{`` included.

    Ansible takes variables for templates, and a lookup in one would run a program as root; `!unsafe` says that all is
    data. It stands before the whole: before a single text, ansible-core 2.19 would look for the type anew and read
    ``"off"`` as a truth and ``"123"`` as a number. JSON's own forms are YAML's, so nothing else has to be written.
    """
    return f"!unsafe {json.dumps(variables)}\n"


def ansible_of(config: Config) -> Path:
    """Return the Ansible of the release in use now, whichever `current` names later; else the bootstrap's."""
    installed = config.at.current.resolve() / "host/bin/ansible-playbook"
    return installed if installed.exists() else config.at.current.parent / "bootstrap/bin/ansible-playbook"


def keep_log(config: Config, text: str) -> None:
    """Append Ansible's account to the install log, for root alone; one that is long becomes the log of before."""
    logs = config.at.state / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = logs / "install.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(logs / "install.log.1")
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as stream:
        stream.write(text + "\n")


def _told(error: subprocess.TimeoutExpired) -> str:
    # As far as it came; subprocess leaves it as bytes here, also where text was asked for.
    return b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes)).decode(errors="replace")
