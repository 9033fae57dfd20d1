"""Whether alerts will be told after a setup: what watches a box comes from Debian packages that a release may carry.

Without Prometheus and Alertmanager no rule runs, so nobody is told by mail, syslog, console or the page's banner,
whatever relay is named. Promises: monitoring is on after a setup wherever it can be, unless the answers say otherwise;
where it cannot, that is said with its reason and what helps, and answers that ask for it are refused.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.errors import ConfigError
from appliance.install import carried, vouching
from appliance.install.answers import Answers
from appliance.install.maintainer import INDEX, carried_files, stanzas
from appliance.install.playbook import WATCHERS
from appliance.install.releases import InstalledReleases
from appliance.store.content import ContentStore, StoredRelease

RECIPE: Final = "examples/monitored.toml"
BUILD: Final = f"have the release built from a recipe with these packages, as {RECIPE}, and receive it"
_STATUS: Final = Path("/var/lib/dpkg/status")
_INSTALLED: Final = "install ok installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What a setup makes of alerts.

    Args:
        is_on: Whether rules run on the box and what fires is told.
        missing: Debian packages that neither the release nor the machine has.
        why: Why nothing is told; empty when it is on.
        fix: What helps; empty when it is on.
        ways: Where alerts are sent besides the page and the console; named, and without use while it is off.
    """

    is_on: bool
    missing: tuple[str, ...] = ()
    why: str = ""
    fix: str = ""
    ways: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {**asdict(self), "missing": list(self.missing), "ways": list(self.ways)}

    @property
    def lines(self) -> tuple[str, ...]:
        """What people are told, before they agree and at the end."""
        if self.is_on:
            return (f"alerts: {', '.join(('the page', 'the console', *self.ways))}",)
        lost = f"; not sent: {', '.join(self.ways)}" if self.ways else ""
        return (
            f"NO ALERTS: no rule runs, so no alert reaches mail, syslog, console or the page's banner{lost}",
            f"  why: {self.why}",
            f"  what helps: {self.fix}",
        )


def ways(config: Config) -> tuple[str, ...]:
    """Return where a site file has alerts sent besides the page and the console."""
    return (*by_mail(config), *by_syslog(config))


def by_mail(config: Config) -> tuple[str, ...]:
    """Return the same of mail alone."""
    alerts = config.alerts
    by = f"{alerts.mail_relay}, over TLS as {alerts.mail_server}" if alerts.mail_server else alerts.mail_relay
    return (f"mail to {len(alerts.mail_to)} by {by}",) if alerts.mail_relay else ()


def by_syslog(config: Config) -> tuple[str, ...]:
    """Return the same of the collector alone."""
    alerts = config.alerts
    secured = f", over TLS as {alerts.syslog_server}" if alerts.syslog_server else ""
    return (f"syslog{secured}",) if alerts.syslog else ()


def decided(
    answers: Answers, config: Config, *, is_asked: bool, look: Callable[[], tuple[str, ...]] | None = None
) -> tuple[Config, Watching]:
    """Return the site file's values with monitoring on or off, and what is said of it.

    Args:
        answers: What was answered.
        config: The site file's values that follow from it so far.
        is_asked: Whether a person sees the plan and agrees to it; nobody reads what a file of answers is told.
        look: Returns which packages are missing; asks release and machine when absent. Asked on a box alone.

    Raises:
        ConfigError: Monitoring is asked for and cannot be had, or a file names whom to tell and nobody would be told.
        PreflightError: Alerts are to leave over TLS, and nobody vouches for who takes them.
        UnknownReleaseError: The store holds no such release.
        InstallError: The release cannot be installed here.
    """
    named = ways(config)
    if config.places.root != "/":
        return config, Watching(
            is_on=False,
            why="below a folder there is no root that could put in what watches",
            fix="nothing here; on a box monitoring is on where its release carries it",
            ways=named,
        )
    said = answers.monitoring.enabled
    if said is False:
        return config, Watching(
            is_on=False,
            why="the answers say monitoring.enabled = false",
            fix=f"answer monitoring.enabled = true, with a release that carries {', '.join(WATCHERS)}",
            ways=named,
        )
    lacking = missing(config, answers.install.serial) if look is None else look()
    if not lacking:
        on = config.model_copy(update={"monitoring": config.monitoring.model_copy(update={"enabled": True})})
        vouching.require(on)
        return on, Watching(is_on=True, ways=named)
    why = f"the release does not carry {', '.join(lacking)}"
    if said or config.monitoring.enabled:
        raise ConfigError(
            what="monitoring.enabled: this release cannot watch the machine",
            why=why,
            fix=f"{BUILD}; or set monitoring.enabled = false, and nobody is told of trouble",
        )
    if named and not is_asked:
        raise ConfigError(
            what=f"alerts.{'mail_relay' if config.alerts.mail_relay else 'syslog'}: nothing would ever be sent there",
            why=f"no rule runs: {why}",
            fix=f"{BUILD}; or set monitoring.enabled = false, and nobody is told of trouble",
        )
    return config, Watching(
        is_on=False,
        missing=lacking,
        why=why,
        fix=f"{BUILD}; then set monitoring.enabled in the site file and run `sealift install`",
        ways=named,
    )


def missing(config: Config, serial: int) -> tuple[str, ...]:
    """Return which packages of what watches neither a stored release nor this machine has.

    Args:
        config: The site file's values.
        serial: Of the release; 0 is the newest.

    Raises:
        UnknownReleaseError: The store holds no such release.
        InstallError: It cannot be installed here.
        StoreDamagedError: A file in the store is not what was signed.
    """
    stored = ContentStore(config.at.store).release(serial or None)
    have = packages(carried.complete(stored, InstalledReleases(config.at)).stored) | installed()
    return tuple(name for name in WATCHERS if name not in have)


def packages(stored: StoredRelease) -> frozenset[str]:
    """Return the names of the Debian packages that a release carries.

    Raises:
        StoreDamagedError: Its index is not what was signed.
    """
    return frozenset(name for name, _ in carried_files(stored)) if INDEX in stored.files else frozenset()


def installed(status: Path = _STATUS) -> frozenset[str]:
    """Return the names of the Debian packages that are installed here; empty where dpkg keeps no list."""
    try:
        text = status.read_text(errors="replace")
    except OSError:
        return frozenset()
    return frozenset(one.get("Package", "") for one in stanzas(text) if one.get("Status") == _INSTALLED)
