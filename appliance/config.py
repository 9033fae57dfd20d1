"""The site file: one TOML, few keys, unknown keys refused; and the places everything lies in, derived from its root.

Secrets are never here: they come as systemd credentials. Limits of formats are code, not configuration.
"""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from appliance.costs import CostSection
from appliance.enginesections import EngineSection, EnginesSection, RouterSection
from appliance.errors import ConfigError
from appliance.sections import (
    AlertsSection,
    BackupSection,
    CachesSection,
    DatabaseSection,
    KeysSection,
    LedgerSection,
    LimitsSection,
    MediaSection,
    MonitoringSection,
    NetworkSection,
    PlacesSection,
    PolicySection,
    ReviewSection,
    Section,
    ServiceSection,
    SiemSection,
    StandbySection,
    TimeSection,
    TlsSection,
    WebauthnSection,
)
from appliance.stages import Stage

__all__ = [
    "DEFAULT_PATH",
    "FORMAT",
    "AlertsSection",
    "BackupSection",
    "CachesSection",
    "Config",
    "DatabaseSection",
    "KeysSection",
    "LedgerSection",
    "LimitsSection",
    "MediaSection",
    "MonitoringSection",
    "NetworkSection",
    "Places",
    "PlacesSection",
    "PolicySection",
    "ReviewSection",
    "ServiceSection",
    "SiemSection",
    "StagedConfig",
    "StandbySection",
    "TimeSection",
    "TlsSection",
    "WebauthnSection",
    "load",
    "parse",
]

FORMAT: Final = 1
SMALLEST_PROFILE: Final = "single-cpu"
DEFAULT_PATH = Path("/etc/sealift/sealift.toml")
_MAX_BYTES = 256 * 1024


class Config(Section):
    """The whole site file."""

    format: Literal[1] = FORMAT
    site: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    environment: Literal["demo", "rehearsal", "production"] = "production"
    profile: str = "single-cpu"
    places: PlacesSection = PlacesSection()
    service: ServiceSection = ServiceSection()
    limits: LimitsSection = LimitsSection()
    caches: CachesSection = CachesSection()
    policy: PolicySection = PolicySection()
    engine: EngineSection = EngineSection()
    engines: EnginesSection = EnginesSection()
    router: RouterSection = RouterSection()
    network: NetworkSection = NetworkSection()
    tls: TlsSection = TlsSection()
    webauthn: WebauthnSection = WebauthnSection()
    time: TimeSection = TimeSection()
    backup: BackupSection = BackupSection()
    alerts: AlertsSection = AlertsSection()
    siem: SiemSection = SiemSection()
    review: ReviewSection = ReviewSection()
    monitoring: MonitoringSection = MonitoringSection()
    standby: StandbySection = StandbySection()
    media: MediaSection = MediaSection()
    database: DatabaseSection = DatabaseSection()
    keys: KeysSection = KeysSection()
    ledger: LedgerSection = LedgerSection()
    cost: CostSection = CostSection()

    @property
    def separates_roles(self) -> bool:
        """Whether admins and approvers are different people here; at the smallest sites, two people are both."""
        return self.profile != SMALLEST_PROFILE

    @property
    def release_is_request(self) -> bool:
        """Whether the signed release counts as the request, so that who typed it in may approve as well."""
        return self.policy.request == "release" or (self.policy.request == "by-profile" and not self.separates_roles)

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every ``PROTOCOL ADDRESS PORT`` this box calls: `network.egress`, time, relay, syslog, database, HSM."""
        named = [*self.network.egress, *(f"udp {server} 123" for server in self.time.servers)]
        if self.alerts.mail_relay:
            named.append(f"tcp {self.alerts.mail_relay} {self.alerts.mail_port}")
        if self.alerts.syslog:
            named.append(self.alerts.syslog)
        if self.siem.address:
            named.append(f"tcp {self.siem.address} {self.siem.port}")
        if self.database.address:  # also before the records move there, and until the site file names it no more
            named.append(f"tcp {self.database.address} {self.database.port}")
        if self.keys.provider == "token" and self.keys.address:
            named.append(self.keys.address)
        voters = (self.standby.peer_address, self.standby.witness_address)
        named += [f"tcp {address} {self.standby.port}" for address in voters if address]
        return tuple(dict.fromkeys(named))

    @property
    def at(self) -> "Places":
        """The paths that follow from `places`."""
        root = Path(self.places.root)
        run = Path(self.places.run) if self.places.run else root / "run/sealift"
        return Places(root=root, run=run, server=self.database if self.database.kind == "postgresql" else None)


class StagedConfig(Config):
    """The site file as the test stage's gateway reads it: a folder of its own, fewer places, no samples kept."""

    @classmethod
    def of(cls, config: Config) -> "StagedConfig":
        """Return the same site for the test stage."""
        alone = config.service.model_copy(update={"gateways": 1, "metrics_port": 0})
        changed = {"service": alone, "limits": config.limits.in_test(), "review": ReviewSection()}
        return cls.model_construct(**{name: getattr(config, name) for name in type(config).model_fields} | changed)

    @property
    def at(self) -> "Places":
        """The paths, those of the gateway being the test stage's."""
        return replace(super().at, stage=Stage.TEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Every path of the appliance; nothing else spells them. `server` holds ledger and state instead of files.

    `stage` is the one that the process serves, where it serves one: each gateway counts in a folder of its own.
    """

    root: Path
    run: Path
    server: DatabaseSection | None = None
    stage: Stage = Stage.PRODUCTION

    @property
    def etc(self) -> Path:
        """Configuration, the pinned root and key files."""
        return self.root / "etc/sealift"

    @property
    def config_file(self) -> Path:
        """The site file itself."""
        return self.etc / "sealift.toml"

    @property
    def pinned_trust(self) -> Path:
        """The first root, written once at first trust and never again."""
        return self.etc / "trust"

    @property
    def key_files(self) -> Path:
        """Key files that units receive as credentials; 0700."""
        return self.etc / "keys"

    @property
    def backup_recipient(self) -> Path:
        """The certificate that backups are encrypted to; its private key is never here."""
        return self.etc / "backup-recipient.gpg"

    @property
    def database_secrets(self) -> Path:
        """Passwords by role and the certificate authority of a PostgreSQL server, as the site's people put them."""
        return self.etc / "database"

    @property
    def collector_authority(self) -> Path:
        """The certificate authority of the site's collector, PEM, as the site's people put it."""
        return self.etc / "collector-ca.pem"

    @property
    def siem_now(self) -> Path:
        """How the forwarder to the collector stands in this boot; anybody may read."""
        return self.run / "siem"

    @property
    def boxes(self) -> Path:
        """This box's card and its pairings with others; public, written by root's commands."""
        return self.etc / "boxes"

    @property
    def mirrors(self) -> Path:
        """Copies of other boxes' ledgers, one folder each; evidence, never merged with the own ledger."""
        return self.state / "mirrors"

    @property
    def releases(self) -> Path:
        """Installed releases by serial; `current` is an atomic link among them."""
        return self.root / "opt/sealift/releases"

    @property
    def current(self) -> Path:
        """The link to the installed release in use."""
        return self.root / "opt/sealift/current"

    @property
    def state(self) -> Path:
        """All that changes."""
        return self.root / "var/lib/sealift"

    @property
    def trust(self) -> Path:
        """The trust record; written by receiving only."""
        return self.state / "trust"

    @property
    def store(self) -> Path:
        """The content-addressed store."""
        return self.state / "store"

    @property
    def spool(self) -> Path:
        """Facts from before a ledger answered; the ledger appends them first."""
        return self.state / "spool"

    @property
    def ledger(self) -> Path:
        """Folder of ledger.db; opened by one process."""
        return self.state / "ledger"

    @property
    def registry(self) -> Path:
        """Folder of state.db."""
        return self.state / "registry"

    @property
    def promoter(self) -> Path:
        """People and promotions; written by the promoter only."""
        return self.state / "promoter"

    @property
    def scrub(self) -> Path:
        """Where the scrub of the store stands, and what the last one found."""
        return self.state / "scrub"

    @property
    def clock(self) -> Path:
        """What is known of this machine's clock, across power cuts; written by its watch."""
        return self.state / "clock"

    @property
    def clock_now(self) -> Path:
        """The same of this boot; empty after each start."""
        return self.run / "clock"

    @property
    def network_now(self) -> Path:
        """What the network's self-test found in this boot."""
        return self.run / "network"

    @property
    def alerts(self) -> Path:
        """The alerts that fire now; written by what takes them of Alertmanager."""
        return self.state / "alerts"

    @property
    def media(self) -> Path:
        """Where media are mounted, read-only, by the kernel's names."""
        return self.run / "media"

    @property
    def export_medium(self) -> Path:
        """Where the one medium is mounted that an EXPORT is being written to."""
        return self.run / "export"

    @property
    def arrived(self) -> Path:
        """What is plugged in, one file for each medium; see `appliance.install.arrivals`."""
        return self.run / "arrived"

    @property
    def inspected(self) -> Path:
        """What media claim to be; nobody believes it."""
        return self.run / "inspected"

    @property
    def review(self) -> Path:
        """Samples of prompts and answers, encrypted, where the site's policy keeps any."""
        return self.state / "review"

    @property
    def census(self) -> Path:
        """Folder of the site's own list of names, encrypted; the test stage has none."""
        return self.state / "census"

    @property
    def gateway(self) -> Path:
        """What the gateways of this stage keep on disk: counters, and batches, which are encrypted."""
        return self.state / ("gateway" if self.stage is Stage.PRODUCTION else f"gateway-{self.stage}")

    @property
    def counters(self) -> Path:
        """What the gateways of this box count together; see `appliance.gateway.quotas`."""
        return self.gateway / "limits.db"

    @property
    def queue(self) -> Path:
        """The queue that several gateways of this box share; see `appliance.gateway.shared_queue`."""
        return self.gateway / "queue.db"

    @property
    def reports(self) -> Path:
        """Reports of quarters, as page, print and figures; see `appliance.actions.reports.shelf`."""
        return self.state / "reports"

    @property
    def proofs(self) -> Path:
        """Proofs of answers that people asked for on the page; see `appliance.actions.tracing.proofs`."""
        return self.state / "proofs"

    @property
    def batches(self) -> Path:
        """Files and batches of callers, encrypted; see `appliance.gateway.batches.store`."""
        return self.gateway / "batches.db"

    @property
    def receipts(self) -> Path:
        """Signed receipts, one for each release received."""
        return self.state / "receipts"

    def socket(self, name: str) -> Path:
        """Return the path of one of our Unix sockets."""
        return self.run / f"{name}.sock"


def load(path: Path) -> Config:
    """Read and check the site file.

    Raises:
        ConfigError: It is absent, too large, not TOML, or a key is unknown or wrong; `what` names the dotted key.
    """
    try:
        untrusted = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            what=f"the site file {path.name} cannot be read",
            why=error.strerror or "",
            fix="give --config, or set SEALIFT_CONFIG",
        ) from error
    return parse(untrusted)


def parse(untrusted: bytes) -> Config:
    """Parse the bytes of a site file; see `load`.

    Raises:
        ConfigError: As `load`.
    """
    if len(untrusted) > _MAX_BYTES:
        raise ConfigError(what="the site file is too large", why=f"the limit is {_MAX_BYTES} bytes", fix="shorten it")
    try:
        data = tomllib.loads(untrusted.decode())
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, too
        raise ConfigError(
            what="the site file is not TOML", why=str(error)[:200], fix="see docs/operator/site-file.md"
        ) from error
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            what=f"{key}: {first['msg']}", why="the site file is checked strictly", fix="see docs/operator/site-file.md"
        ) from error
