"""The sections of the site file; unknown keys are refused. What their values look like: `appliance.sitevalues`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from appliance.sitevalues import (
    Address,
    BorneName,
    Destination,
    Folder,
    MailAddress,
    MaybeAddress,
    MaybeDestination,
    MaybeDevice,
    MaybeMail,
    MaybePath,
    MaybeServer,
    Network,
    Port,
    Variable,
)

_PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_MOST_DAYS = 100_000
"""Prometheus takes no longer time than 292 years."""
_MOST_HOURS = 24 * _MOST_DAYS


class Section(BaseModel):
    """A part of the site file: every key is known, and of its exact type."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class PlacesSection(Section):
    """Where the appliance lives. `root` is ``/`` on a box; in demo and rehearsal a folder, so no root is needed."""

    root: str = "/"
    run: str = ""


class ServiceSection(Section):
    """How `sealift run-units` and nginx publish the two web services."""

    host: str = "127.0.0.1"
    gateway_port: Port = 8000
    admin_port: Port = 8001
    test_port: Port = 0
    metrics_port: Port = 9090
    gateways: int = Field(default=1, ge=1, le=8)
    hostname: BorneName = "sealift.internal"
    tls: bool = False


class ModelLimitsSection(Section):
    """What holds for one model in place of the site's own numbers; 0 where the site's holds."""

    message_characters: int = Field(default=0, ge=0)
    input_tokens: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=0, ge=0)


class LimitsSection(Section):
    """Defaults of requirements E13-E19 and the rate of a key."""

    message_characters: int = Field(default=32000, ge=1)
    input_tokens: int = Field(default=4096, ge=1)
    max_tokens: int = Field(default=4096, ge=1)
    default_max_tokens: int = Field(default=1024, ge=1)
    requests_per_minute: int = Field(default=600, ge=1)
    unauthenticated_per_minute: int = Field(default=10, ge=1)
    concurrent_requests: int = Field(default=64, ge=1, le=1024)
    key_concurrent_requests: int = Field(default=0, ge=0, le=1024)
    queue_length: int = Field(default=64, ge=0, le=1024)
    queue_seconds: int = Field(default=30, ge=0, le=600)
    urgent_percent: int = Field(default=100, ge=1, le=100)
    interactive_percent: int = Field(default=100, ge=1, le=100)
    batch_percent: int = Field(default=50, ge=1, le=100)
    batch_days: int = Field(default=7, ge=1, le=30)
    tokens_per_minute: int = Field(default=0, ge=0)
    tokens_per_day: int = Field(default=0, ge=0)
    tokens_per_month: int = Field(default=0, ge=0)
    test_requests_per_minute: int = Field(default=120, ge=1)
    test_concurrent_requests: int = Field(default=4, ge=1, le=64)
    models: dict[Annotated[str, Field(min_length=1, max_length=100)], ModelLimitsSection] = {}

    @model_validator(mode="after")
    def _leaves_no_place_unused(self) -> "LimitsSection":
        if self.urgent_percent + self.interactive_percent + self.batch_percent < 100:
            message = "urgent_percent, interactive_percent and batch_percent are below 100 together: places stay unused"
            raise ValueError(message)
        return self

    def of(self, model: str) -> "LimitsSection":
        """Return the limits of one model, by its own name."""
        found = self.models.get(model)
        if found is None:
            return self
        return self.model_copy(update={name: number for name, number in found.model_dump().items() if number})

    def widest(self) -> "LimitsSection":
        """Return what a request is read by before it is known which model answers: the widest of all models'."""
        if not self.models:
            return self
        all_of_them = (self, *self.models.values())
        sizes = {name: max(getattr(one, name) for one in all_of_them) for name in ModelLimitsSection.model_fields}
        return self.model_copy(update=sizes)

    def in_test(self) -> "LimitsSection":
        """Return what the test stage's gateway keeps: its own rate and places, never more than production's."""
        rate = min(self.test_requests_per_minute, self.requests_per_minute)
        places = min(self.test_concurrent_requests, self.concurrent_requests)
        return self.model_copy(update={"requests_per_minute": rate, "concurrent_requests": places})


class CachesSection(Section):
    """What the gateway keeps in memory of what was answered: MiB of each cache, 0 for none, and minutes of age.

    Answers are kept only where the site says so, since text stays in memory longer than its request. Vectors are found
    by a keyed hash, so nothing of a text stays.
    """

    answers_mib: int = Field(default=0, ge=0, le=4096)
    answers_minutes: int = Field(default=60, ge=1, le=7 * 24 * 60)
    embeddings_mib: int = Field(default=32, ge=0, le=4096)
    embeddings_minutes: int = Field(default=24 * 60, ge=1, le=7 * 24 * 60)


class PolicySection(Section):
    """What this site demands before it goes forward."""

    approvals: int = Field(default=2, ge=2)
    approval_hours: int = Field(default=72, ge=1, le=_MOST_HOURS)
    classes: list[Literal["openpgp", "webauthn", "pkcs11", "password-totp"]] = Field(
        default=["openpgp", "webauthn", "pkcs11"], min_length=1
    )
    request: Literal["by-profile", "release", "person"] = "by-profile"
    rehearsal_level: Literal["installed", "answered-on-cpu", "answered-on-target"] = "answered-on-cpu"
    serial_jump: int = Field(default=1000, ge=1)
    audit_retention_years: int = Field(default=7, ge=6)
    watch: Literal["ask", "go-back"] = "ask"
    injection: Literal["off", "flag", "block"] = "flag"
    code: Literal["off", "flag", "block"] = "off"


class NetworkSection(Section):
    """Who may reach this box, and the only destinations it may call; the packet filter refuses all others."""

    addresses: list[Address] = []
    clients: list[Network] = [*_PRIVATE_NETWORKS]
    management: list[Network] = [*_PRIVATE_NETWORKS]
    egress: list[Destination] = []


class TlsSection(Section):
    """Who vouches for this box: an authority of its own, or the facility's, which signs a request made here.

    `clients` says whether calling applications show certificates of the box's own authority: those that have one may
    (`optional`), or all have to (`required`). `management` says the same of the admin page, `monitoring` of whoever
    reads numbers.
    """

    authority: Literal["own", "facility"] = "own"
    clients: Literal["off", "optional", "required"] = "off"
    management: Literal["off", "optional", "required"] = "off"
    monitoring: Literal["off", "optional", "required"] = "off"

    @property
    def are_certificates_asked_for(self) -> bool:
        """Whether one of the ports asks for certificates: then their ends, and the list of revoked ones, count."""
        return {self.clients, self.management, self.monitoring} != {"off"}


class WebauthnSection(Section):
    """Where security keys are used: the relying party and the admin page's address; empty follows from `service`."""

    rp_id: MaybeServer = ""
    origin: str = Field(default="", pattern=r"^(https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?)?$")


class TimeSection(Section):
    """The facility's time servers (NTP, udp 123); with none, the machine's clock is all there is."""

    servers: list[Address] = []


class BackupSection(Section):
    """Where backups are written: a folder on another disk than the state. Empty means that nobody has chosen yet."""

    folder: Folder = ""
    on_system_disk: bool = False
    keep: int = Field(default=14, ge=2)
    age_hours: int = Field(default=26, ge=1, le=_MOST_HOURS)
    drill_days: int = Field(default=35, ge=1, le=_MOST_DAYS)


class AlertsSection(Section):
    """Where alerts are sent besides the page's banner and the console; none of these tells while monitoring is off.

    `mail_server` and `syslog_server` are the names in the certificates of relay and collector: where one is given,
    nothing leaves for it without TLS.
    """

    mail_relay: MaybeAddress = ""
    mail_port: Annotated[int, Field(ge=1, le=65535)] = 25
    mail_server: MaybeServer = ""
    mail_from: MaybeMail = ""
    mail_to: list[MailAddress] = []
    syslog: MaybeDestination = ""
    syslog_server: MaybeServer = ""

    @model_validator(mode="after")
    def _whole(self) -> "AlertsSection":
        if bool(self.mail_relay) != bool(self.mail_to):
            message = "mail_relay and mail_to are given together or not at all"
            raise ValueError(message)
        if self.mail_server and not self.mail_relay:
            message = "mail_server names the certificate of mail_relay, which is not given"
            raise ValueError(message)
        if self.syslog_server and not self.syslog.startswith("tcp "):
            message = "syslog_server names the certificate of a collector that syslog gives as tcp ADDRESS PORT"
            raise ValueError(message)
        return self


class SiemSection(Section):
    """The site's collector of records: syslog over TLS, its certificate verified in full; none by default.

    `client` says that the collector asks for a certificate of this box, too.
    """

    server: MaybeServer = ""
    address: MaybeAddress = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    format: Literal["rfc5424", "json", "cef"] = "rfc5424"
    client: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "SiemSection":
        if bool(self.server) != bool(self.address):
            message = "server and address are given together or not at all"
            raise ValueError(message)
        return self


class ReviewSection(Section):
    """Which answers are kept, encrypted and for a time, for people who judge quality; none by default.

    `one_in` keeps one answer in so many, 0 none; `departments` says otherwise for those it names. `days` is how long a
    sample is kept, `most` how many at a time.
    """

    one_in: int = Field(default=0, ge=0)
    departments: dict[Annotated[str, Field(min_length=1, max_length=100)], Annotated[int, Field(ge=0)]] = {}
    days: int = Field(default=30, ge=1, le=366)
    most: int = Field(default=1000, ge=1, le=10_000)

    def of(self, department: str) -> int:
        """Return in how many answers of a department one is kept; 0 for none."""
        return self.departments.get(department, self.one_in)

    @property
    def keeps(self) -> bool:
        """Whether any answer may be kept."""
        return bool(self.one_in or any(self.departments.values()))


class PhiSection(Section):
    """How identifiers are found.

    `names`: also names that no label, title or list of the site tells, by the words around them. `other_list`: of
    several nodes, whether one that lacks the list of names on record, or has another, refuses requests or tells.
    """

    names: bool = True
    other_list: Literal["refuse", "tell"] = "refuse"


class MediaSection(Section):
    """What may be plugged in: classes of USB devices, file systems of media, and how many media at a time.

    `ext4` is a policy of the site's: its driver does more than those of the other types. `auditors` are the roles of
    people who let leave on a medium what was drawn from the audit record.
    """

    usb: list[Literal["any", "storage", "input", "smartcard"]] = ["storage", "input", "smartcard"]
    filesystems: list[Literal["vfat", "exfat", "iso9660", "udf", "ext4"]] = ["vfat", "exfat", "iso9660", "udf"]
    most: int = Field(default=8, ge=1, le=32)
    auditors: list[Literal["approver", "operator", "admin"]] = Field(
        default=["approver", "operator", "admin"], min_length=1
    )


class MonitoringSection(Section):
    """Prometheus, Alertmanager and node exporter on the box; `networks` may read its port 9090, none by default."""

    enabled: bool = False
    networks: list[Network] = []
    retention_days: int = Field(default=90, ge=1, le=_MOST_DAYS)


class DatabaseSection(Section):
    """Where ledger and state lie: in files of this box, or on a PostgreSQL server that several boxes reach.

    The server is reached by the folder of its Unix socket, or by TLS with its certificate verified in full. `node` is
    this box's name among several that answer at once; without one a single node answers, and others wait. `client` says
    that the server asks for a certificate of each role, too.
    """

    kind: Literal["sqlite", "postgresql"] = "sqlite"
    socket: Folder = ""
    server: MaybeServer = ""
    address: MaybeAddress = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    name: str = Field(default="sealift", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    client: bool = False
    node: str = Field(default="", pattern=r"^([a-z0-9](-?[a-z0-9]){0,31})?$")

    @model_validator(mode="after")
    def _one_way(self) -> "DatabaseSection":
        if self.node and self.kind != "postgresql":
            message = "node is for postgresql: a file is written by one box alone"
            raise ValueError(message)
        remote = bool(self.server and self.address)
        if bool(self.server) != bool(self.address) or (self.kind == "postgresql" and bool(self.socket) == remote):
            message = "postgresql takes either socket, or server and address together"
            raise ValueError(message)
        if self.client and not remote:
            message = "client is for TLS: give server and address, too"
            raise ValueError(message)
        return self


class LedgerSection(Section):
    """What is kept free for the ledger's own file on its disk, in MiB; 0 is a two-hundredth of the disk, in bounds."""

    reserve_mib: int = Field(default=0, ge=0, le=65536)


class KeysSection(Section):
    """Where the box's own keys are: in files, or on a PKCS#11 token or HSM that makes and uses them.

    `module` is the vendor's library, `token` the token's label, `variables` tell the module where its own files lie.
    The others say what the services that use keys must reach besides: a device, a folder that the module writes in, the
    group that may use these, an HSM in the network. The PIN is never here.
    """

    provider: Literal["files", "token"] = "files"
    module: MaybePath = ""
    token: str = Field(default="", pattern=r"^([!-~]([ -~]{0,30}[!-~])?)?$")
    variables: list[Variable] = []
    device: MaybeDevice = ""
    folder: MaybePath = ""
    group: str = Field(default="", pattern=r"^([a-z_][a-z0-9_-]{0,31})?$")
    address: MaybeDestination = ""

    @model_validator(mode="after")
    def _whole(self) -> "KeysSection":
        if self.provider == "token" and not (self.module and self.token):
            message = "a token takes module and token, its label"
            raise ValueError(message)
        return self


class StandbySection(Section):
    """Two boxes of one site: whether this one serves by a lease only, and where it and the other voters are reached.

    `boxes` is a witness's: the addresses of the boxes that ask it, which it never asks itself.
    """

    lease: bool = False
    listen: MaybeAddress = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 7443
    peer: str = Field(default="", pattern=r"^([a-z0-9](-?[a-z0-9]){0,31})?$")
    peer_address: MaybeAddress = ""
    witness: str = Field(default="", pattern=r"^([a-z0-9](-?[a-z0-9]){0,31})?$")
    witness_address: MaybeAddress = ""
    boxes: list[Address] = []
    service_address: MaybeAddress = ""
    interface: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,15}$")
    lease_seconds: int = Field(default=3, ge=2, le=60)
    automatic: bool = True

    @property
    def callers(self) -> tuple[str, ...]:
        """``ADDRESS PORT`` of every box that may call this one, where it listens."""
        named = dict.fromkeys((self.peer_address, self.witness_address, *self.boxes))
        return tuple(f"{address} {self.port}" for address in named if address and self.listen)
