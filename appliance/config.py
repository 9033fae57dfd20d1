"""The site file: one TOML, few keys, unknown keys refused; and the places everything lies in, derived from its root.

Secrets are never here: they come as systemd credentials. Limits of formats are code, not configuration.
"""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from appliance.errors import ConfigError

FORMAT: Final = 1
DEFAULT_PATH = Path("/etc/sealift/sealift.toml")
_MAX_BYTES = 256 * 1024
_PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_DESTINATION = re.compile(r"(tcp|udp) (\S{2,45}) ([0-9]{1,5})")
_SERVER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_MAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")

Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class PlacesSection(_Section):
    """Where the appliance lives. `root` is ``/`` on a box; in demo and rehearsal a folder, so no root is needed."""

    root: str = "/"
    run: str = ""


class ServiceSection(_Section):
    """How `sealift run-units` and nginx publish the two web services."""

    host: str = "127.0.0.1"
    gateway_port: Port = 8000
    admin_port: Port = 8001
    metrics_port: Port = 9090
    hostname: str = "sealift.internal"
    tls: bool = False


class LimitsSection(_Section):
    """Defaults of requirements E13-E19 and the rate of a key."""

    message_characters: int = Field(default=32000, ge=1)
    input_tokens: int = Field(default=4096, ge=1)
    max_tokens: int = Field(default=4096, ge=1)
    default_max_tokens: int = Field(default=1024, ge=1)
    requests_per_minute: int = Field(default=600, ge=1)
    unauthenticated_per_minute: int = Field(default=10, ge=1)
    concurrent_requests: int = Field(default=64, ge=1)


class PolicySection(_Section):
    """What this site demands before it goes forward."""

    approvals: int = Field(default=2, ge=2)
    approval_hours: int = Field(default=72, ge=1)
    rehearsal_level: Literal["installed", "answered-on-cpu", "answered-on-target"] = "answered-on-cpu"
    serial_jump: int = Field(default=1000, ge=1)
    audit_retention_years: int = Field(default=7, ge=6)


class EngineSection(_Section):
    """How engines use this machine. `threads` 0 means all cores but one."""

    threads: int = Field(default=0, ge=0)
    start_seconds: int = Field(default=300, ge=1)


def _network(text: str) -> str:
    return str(ip_network(_without_zone(text)))


def _address(text: str) -> str:
    return str(ip_address(_without_zone(text)))


def _without_zone(text: str) -> str:
    # Python takes any text after a % for the zone of an IPv6 address; here it would reach the packet filter's rules.
    if "%" in text:
        message = "an address has no zone here"
        raise ValueError(message)
    return text


def _destination(text: str) -> str:
    found = _DESTINATION.fullmatch(text)
    if found is None or not 1 <= int(found[3]) <= 65535:
        message = "expected PROTOCOL ADDRESS PORT, e.g. udp 10.0.0.5 123"
        raise ValueError(message)
    return f"{found[1]} {_address(found[2])} {int(found[3])}"


def _folder(text: str) -> str:
    if text and (not text.startswith("/") or ".." in Path(text).parts or not text.isprintable()):
        message = "expected an absolute path, e.g. /media/sealift-backup, or nothing"
        raise ValueError(message)
    return text


def _server_name(text: str) -> str:
    if not _SERVER.fullmatch(text):
        message = "expected the name in the server's certificate, e.g. db1.hospital.internal"
        raise ValueError(message)
    return text


def _mail(text: str) -> str:
    if not _MAIL.fullmatch(text):
        message = "expected a mail address, e.g. it-duty@hospital.internal"
        raise ValueError(message)
    return text


def _optional(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda text: check(text) if text else text)


MaybeAddress = Annotated[str, _optional(_address)]
MaybeMail = Annotated[str, _optional(_mail)]
MaybeDestination = Annotated[str, _optional(_destination)]
MaybeServer = Annotated[str, _optional(_server_name)]
Folder = Annotated[str, AfterValidator(_folder)]
MailAddress = Annotated[str, AfterValidator(_mail)]
Network = Annotated[str, AfterValidator(_network)]
Address = Annotated[str, AfterValidator(_address)]
Destination = Annotated[str, AfterValidator(_destination)]


class NetworkSection(_Section):
    """Who may reach this box, and the only destinations it may call; the packet filter refuses all others."""

    addresses: list[Address] = []
    clients: list[Network] = [*_PRIVATE_NETWORKS]
    management: list[Network] = [*_PRIVATE_NETWORKS]
    egress: list[Destination] = []


class TlsSection(_Section):
    """Who vouches for this box: an authority of its own, or the facility's, which signs a request made here.

    `clients` says whether calling applications show certificates of the box's own authority: those that have one may
    (`optional`), or all have to (`required`).
    """

    authority: Literal["own", "facility"] = "own"
    clients: Literal["off", "optional", "required"] = "off"


class TimeSection(_Section):
    """The facility's time servers (NTP, udp 123); with none, the machine's clock is all there is."""

    servers: list[Address] = []


class BackupSection(_Section):
    """Where backups are written: a folder on another disk than the state. Empty means that nobody has chosen yet."""

    folder: Folder = ""
    on_system_disk: bool = False
    keep: int = Field(default=14, ge=2)
    age_hours: int = Field(default=26, ge=1)
    drill_days: int = Field(default=35, ge=1)


class AlertsSection(_Section):
    """Where alerts go besides the banner of the admin page and the console, which are always on."""

    mail_relay: MaybeAddress = ""
    mail_port: Annotated[int, Field(ge=1, le=65535)] = 25
    mail_from: MaybeMail = ""
    mail_to: list[MailAddress] = []
    syslog: MaybeDestination = ""

    @model_validator(mode="after")
    def _whole(self) -> "AlertsSection":
        if bool(self.mail_relay) != bool(self.mail_to):
            message = "mail_relay and mail_to are given together or not at all"
            raise ValueError(message)
        return self


class MediaSection(_Section):
    """What may be plugged in: classes of USB devices, file systems of media, and how many media at a time.

    `ext4` is a policy of the site's: its driver does more than those of the other types.
    """

    usb: list[Literal["any", "storage", "input", "smartcard"]] = ["storage", "input", "smartcard"]
    filesystems: list[Literal["vfat", "exfat", "iso9660", "udf", "ext4"]] = ["vfat", "exfat", "iso9660", "udf"]
    most: int = Field(default=8, ge=1, le=32)


class MonitoringSection(_Section):
    """Prometheus, Alertmanager and node exporter on the box; `networks` may read its port 9090, none by default."""

    enabled: bool = False
    networks: list[Network] = []
    retention_days: int = Field(default=90, ge=1)


class DatabaseSection(_Section):
    """Where ledger and state lie: in files of this box, or on a PostgreSQL server that several boxes reach.

    The server is reached by the folder of its Unix socket, or by TLS with its certificate verified in full.
    """

    kind: Literal["sqlite", "postgresql"] = "sqlite"
    socket: Folder = ""
    server: MaybeServer = ""
    address: MaybeAddress = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    name: str = Field(default="sealift", pattern=r"^[a-z_][a-z0-9_]{0,62}$")

    @model_validator(mode="after")
    def _one_way(self) -> "DatabaseSection":
        remote = bool(self.server and self.address)
        if bool(self.server) != bool(self.address) or (self.kind == "postgresql" and bool(self.socket) == remote):
            message = "postgresql takes either socket, or server and address together"
            raise ValueError(message)
        return self


class StandbySection(_Section):
    """Two boxes of one site: whether this one serves by a lease only, and where it and the other voters are reached."""

    lease: bool = False
    listen: MaybeAddress = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 7443
    peer: str = Field(default="", pattern=r"^([a-z0-9](-?[a-z0-9]){0,31})?$")
    peer_address: MaybeAddress = ""
    witness: str = Field(default="", pattern=r"^([a-z0-9](-?[a-z0-9]){0,31})?$")
    witness_address: MaybeAddress = ""
    service_address: MaybeAddress = ""
    interface: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,15}$")
    lease_seconds: int = Field(default=3, ge=2, le=60)
    automatic: bool = True


class Config(_Section):
    """The whole site file."""

    format: Literal[1] = FORMAT
    site: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    environment: Literal["demo", "rehearsal", "production"] = "production"
    profile: str = "single-cpu"
    places: PlacesSection = PlacesSection()
    service: ServiceSection = ServiceSection()
    limits: LimitsSection = LimitsSection()
    policy: PolicySection = PolicySection()
    engine: EngineSection = EngineSection()
    network: NetworkSection = NetworkSection()
    tls: TlsSection = TlsSection()
    time: TimeSection = TimeSection()
    backup: BackupSection = BackupSection()
    alerts: AlertsSection = AlertsSection()
    monitoring: MonitoringSection = MonitoringSection()
    standby: StandbySection = StandbySection()
    media: MediaSection = MediaSection()
    database: DatabaseSection = DatabaseSection()

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every ``PROTOCOL ADDRESS PORT`` this box calls: `network.egress`, time servers, relay, syslog, database."""
        named = [*self.network.egress, *(f"udp {server} 123" for server in self.time.servers)]
        if self.alerts.mail_relay:
            named.append(f"tcp {self.alerts.mail_relay} {self.alerts.mail_port}")
        if self.alerts.syslog:
            named.append(self.alerts.syslog)
        if self.database.kind == "postgresql" and self.database.address:
            named.append(f"tcp {self.database.address} {self.database.port}")
        voters = (self.standby.peer_address, self.standby.witness_address)
        named += [f"tcp {address} {self.standby.port}" for address in voters if address]
        return tuple(dict.fromkeys(named))

    @property
    def at(self) -> "Places":
        """The paths that follow from `places`."""
        root = Path(self.places.root)
        run = Path(self.places.run) if self.places.run else root / "run/sealift"
        return Places(root=root, run=run, server=self.database if self.database.kind == "postgresql" else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Every path of the appliance; nothing else spells them. `server` holds ledger and state instead of files."""

    root: Path
    run: Path
    server: DatabaseSection | None = None

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
    def boxes(self) -> Path:
        """This box's card and its pairings with others; public, written by root's commands."""
        return self.etc / "boxes"

    @property
    def mirrors(self) -> Path:
        """Copies of other boxes' ledgers, one folder each; evidence, never merged with the own ledger."""
        return self.state / "mirrors"

    @property
    def database_secrets(self) -> Path:
        """Passwords by role and the certificate authority of a PostgreSQL server, as the site's people put them."""
        return self.etc / "database"

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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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
