"""The site file: one TOML, few keys, unknown keys refused.

Secrets are never here: they come as systemd credentials. Limits of formats are code, not configuration.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import ValidationError, model_validator

from appliance.costs import CostSection
from appliance.enginesections import EngineSection, EnginesSection, RouterSection
from appliance.errors import ConfigError
from appliance.modelaliases import ModelsSection
from appliance.places import Places
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
    PhiSection,
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
from appliance.sitevalues import SiteName, faults_of
from appliance.stages import Stage
from media import toml

__all__ = [
    "DEFAULT_PATH",
    "FORMAT",
    "AlertsSection",
    "BackupSection",
    "Config",
    "DatabaseSection",
    "KeysSection",
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
    "TlsSection",
    "load",
    "parse",
]

FORMAT: Final = 1
SMALLEST_PROFILE: Final = "single-cpu"
DEFAULT_PATH = Path("/etc/sealift/sealift.toml")
_MAX_BYTES = 256 * 1024
_MOST_FAULTS = 5


class Config(Section):
    """The whole site file."""

    format: Literal[1] = FORMAT
    site: SiteName
    environment: Literal["demo", "rehearsal", "production"] = "production"
    profile: str = "single-cpu"
    places: PlacesSection = PlacesSection()
    service: ServiceSection = ServiceSection()
    limits: LimitsSection = LimitsSection()
    models: ModelsSection = ModelsSection()
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
    phi: PhiSection = PhiSection()
    cost: CostSection = CostSection()

    @model_validator(mode="after")
    def _no_alias_hides_a_model(self) -> Self:
        named = {
            "limits.models": set(self.limits.models),
            "router.rules": {rule.model.partition(":")[0] for rule in self.router.rules},
            "cost.prices": {price.model for price in self.cost.prices},
        }
        for where, names in named.items():
            if hidden := names & set(self.models.aliases):
                message = f"models: the alias {min(hidden)!r} is the name of a model in {where}, and would hide it"
                raise ValueError(message)
        return self

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
    def at(self) -> Places:
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
    def at(self) -> Places:
        """The paths, those of the gateway being the test stage's."""
        return replace(super().at, stage=Stage.TEST)


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
        data = toml.read(untrusted)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, too
        raise ConfigError(
            what="the site file is not TOML", why=str(error)[:200], fix="see docs/operator/site-file.md"
        ) from error
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        (key, told), *others = faults_of(error).items()
        more = f"; also wrong: {', '.join(other for other, _ in others[:_MOST_FAULTS])}" if others else ""
        raise ConfigError(
            what=f"{key}: {told}" if key else told,
            why=f"the site file is checked strictly{more}",
            fix="see docs/operator/site-file.md",
        ) from error
