"""The answers to `sealift setup`: one versioned TOML, given by a person question by question or as a file, unattended.

Promises: an unknown key, a wrong type or a missing answer is refused with its dotted key, before anything is changed;
what was answered and the site file that follows from it say the same.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from appliance.config import Config, NetworkSection
from appliance.errors import ConfigError
from appliance.install.maintainer import readable
from appliance.registry.crowds import MOST_PEOPLE, crowd
from appliance.sections import AlertsSection, KeysSection
from appliance.sitevalues import (
    Address,
    Folder,
    HostName,
    MaybeAddress,
    MaybeServer,
    MaybeSiteName,
    Network,
    OwnAddress,
    faults_of,
    is_of_one_machine,
)
from appliance.verify.freshness import different
from media import toml

FORMAT: Final = 1
_MAX_BYTES: Final = 64 * 1024
_TLS_PORT: Final = 465
_SEE: Final = "see docs/operator/installing.md"


def _seen_whole(name: str) -> str:
    if readable(name) != name:
        message = "it has characters that nobody sees, or that turn a line round"
        raise ValueError(message)
    return name


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{2,100}$"), AfterValidator(_seen_whole)
]
"""A person's name as it is printed."""


def _of_one_machine(text: str) -> str:
    if text and not is_of_one_machine(text):
        message = f"{text} is no address of one machine"
        raise ValueError(message)
    return text


Machine = Annotated[Address, AfterValidator(_of_one_machine)]
MaybeMachine = Annotated[MaybeAddress, AfterValidator(_of_one_machine)]


# Of disks, drives and their parts; a serial number is not like them.
_KERNELS: Final = re.compile(
    r"(/dev/)?((sd|hd|vd|xvd)[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(p[0-9]+)?|(mmcblk|sr|loop)[0-9]+.*)"
)
_DISK_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/]{0,200}")


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class SiteAnswers(_Section):
    """The name; `name` and `environment` are the site file's when left empty."""

    hostname: HostName
    name: MaybeSiteName = ""
    environment: Literal["", "demo", "rehearsal", "production"] = ""


class NetworkAnswers(_Section):
    """The box's own addresses, who may use it, and who may administer it (`clients`, when left out); never nobody."""

    addresses: Annotated[list[OwnAddress], Field(min_length=1)]
    clients: Annotated[list[Network], Field(min_length=1)] = NetworkSection().clients
    management: Annotated[list[Network], Field(min_length=1)] = []  # what is left out is not judged


class TimeAnswers(_Section):
    """Time servers, and who compares the machine's clock with another one: asked beside it; from a file, afterwards."""

    confirmed_by: Name
    servers: list[Machine] = []


class PeopleAnswers(_Section):
    """The first people of the site; each gets a code and enrols with it."""

    names: Annotated[list[Name], Field(min_length=2, max_length=8)]

    @field_validator("names")
    @classmethod
    def _different(cls, names: list[str]) -> list[str]:
        if different(names) < len(names):
            message = "two different people are needed"
            raise ValueError(message)
        return names


class TlsAnswers(_Section):
    """Who vouches for the box."""

    authority: Literal["own", "facility"] = "own"


def disk_name(name: str) -> str:
    """Return a name by which a disk is known again: its serial number, or its link's below /dev/disk/by-id.

    Raises:
        ValueError: It is none, the kernel's own (`sdb`) least of all: those are given anew at each start.
    """
    plain = name.strip().removeprefix("/dev/disk/by-id/")
    if _KERNELS.fullmatch(plain):
        message = "the kernel gives such names anew at each start: write the serial number (`lsblk -o NAME,SERIAL`)"
        raise ValueError(message)
    if not _DISK_NAME.fullmatch(plain):
        message = "it is no serial number of a disk and no name below /dev/disk/by-id"
        raise ValueError(message)
    return plain


class BackupAnswers(_Section):
    """Where backups go; which disk is prepared for them, empty for later; whether a file allows that to be erased."""

    folder: Folder = ""
    disk: Annotated[str, AfterValidator(disk_name)] = ""
    erase: bool = False

    @field_validator("disk")
    @classmethod
    def _for_a_folder(cls, disk: str, info: ValidationInfo) -> str:
        if disk and not info.data.get("folder", "said to be wrong"):
            message = "a disk needs backup.folder, where it is mounted"
            raise ValueError(message)
        return disk


class AlertsAnswers(AlertsSection):
    """As the site file's section; and a relay that speaks TLS from the first byte is known by its certificate."""

    mail_relay: MaybeMachine = ""
    mail_server: Annotated[MaybeServer, Field(validate_default=True)] = ""

    @field_validator("mail_server")
    @classmethod
    def _for_tls(cls, server: str, info: ValidationInfo) -> str:
        if info.data.get("mail_port") == _TLS_PORT and info.data.get("mail_relay") and not server:
            message = f"port {_TLS_PORT} speaks TLS from the first byte: name the relay's certificate"
            raise ValueError(message)
        return server


class MonitoringAnswers(_Section):
    """Whether the box is watched, without which nobody is told of anything; None is wherever the release carries it."""

    enabled: bool | None = None


class InstallAnswers(_Section):
    """Which stored release; 0 is the newest."""

    serial: int = Field(default=0, ge=0)


class CapacityAnswers(_Section):
    """How long the measurement at the end may take, 0 leaves it out; for how many people limits are set, 0 for none."""

    seconds: int = Field(default=180, ge=0, le=3600)
    people: int = Field(default=0, ge=0, le=MOST_PEOPLE)


class Answers(_Section):
    """All answers."""

    format: Literal[1]
    profile: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "single-cpu"
    site: SiteAnswers
    network: NetworkAnswers
    time: TimeAnswers
    people: PeopleAnswers
    tls: TlsAnswers = TlsAnswers()
    keys: KeysSection = KeysSection()
    backup: BackupAnswers = BackupAnswers()
    alerts: AlertsAnswers = AlertsAnswers()
    monitoring: MonitoringAnswers = MonitoringAnswers()
    install: InstallAnswers = InstallAnswers()
    capacity: CapacityAnswers = CapacityAnswers()

    def config(self, base: Config | None) -> Config:
        """Return the site file's values that follow from these answers.

        An answer that was left out is its default, also where `base` says otherwise; but `site`, `keys`, `monitoring`
        and, without `capacity.people`, `limits` stay as they are there, and so does whatever nobody is asked for.

        Raises:
            ConfigError: The answers contradict the site file, or name no site where there is none.
        """
        if base is None and not self.site.name:
            raise ConfigError(what="site.name: there is no site file to take it from", why="", fix="answer site.name")
        for key, answered, known in (
            ("site.name", self.site.name, base.site if base else ""),
            ("site.environment", self.site.environment, base.environment if base else ""),
        ):
            if answered and known and answered != known:
                raise ConfigError(
                    what=f"{key}: the answers say {answered}, the site file says {known}",
                    why="the root that is pinned here belongs to what the site file says",
                    fix=f"leave {key} empty, or set up the machine that is meant",
                )
        is_box = base is None or base.places.root == "/"
        there = base or Config(site=self.site.name)
        named = self.network
        said: dict[str, dict[str, Any]] = {
            "service": {"hostname": self.site.hostname, "tls": is_box or there.service.tls},
            "network": {**named.model_dump(), "management": named.management or named.clients},
            "tls": self.tls.model_dump(),
            "time": {"servers": self.time.servers},
            "backup": {"folder": self.backup.folder},
            "alerts": self.alerts.model_dump(),
            "monitoring": self.monitoring.model_dump(exclude_none=True),
            **({"limits": crowd(self.capacity.people).limits} if self.capacity.people else {}),
            **({"keys": self.keys.model_dump()} if "keys" in self.model_fields_set else {}),
        }
        values = there.model_dump()
        values |= {name: values[name] | section for name, section in said.items()}
        values |= {"environment": self.site.environment or there.environment, "profile": self.profile}
        return Config.model_validate(values)


def load(path: Path) -> Answers:
    """Read a file of answers.

    Raises:
        ConfigError: As `parse`, or it cannot be read.
    """
    try:
        untrusted = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            what=f"the answers {path.name} cannot be read", why=error.strerror or "", fix="give --answers FILE"
        ) from error
    return parse(untrusted)


def parse(untrusted: bytes) -> Answers:
    """Parse the bytes of a file of answers.

    Raises:
        ConfigError: Too large, not TOML, of another format, or a key is unknown, wrong or missing; `what` names it.
            Or a disk is named, at whose erasure nobody is asked, and the file does not allow it.
    """
    if len(untrusted) > _MAX_BYTES:
        raise ConfigError(what="the answers are too large", why=f"the limit is {_MAX_BYTES} bytes", fix="shorten them")
    try:
        data = toml.read(untrusted)
    except (RecursionError, ValueError) as error:
        raise ConfigError(what="the answers are not TOML", why=str(error)[:200], fix=_SEE) from error
    given = from_values(data)
    if given.backup.disk and not given.backup.erase:
        raise ConfigError(
            what="backup.erase: a disk is named, and nothing allows that it is erased",
            why=f"all on {given.backup.disk} is lost, and nobody is asked",
            fix="look at what is on it, and write erase = true; or leave backup.disk out",
        )
    return given


def from_values(data: Mapping[str, Any]) -> Answers:
    """Check values that were read or asked; see `parse`."""
    wrong = faults(data)
    if wrong:
        key, told = next(iter(wrong.items()))
        more = f"; also {', '.join(list(wrong)[1:6])}" if len(wrong) > 1 else ""
        raise ConfigError(what=f"{key}: {told}", why=f"answers are checked strictly{more}", fix=_SEE)
    return Answers.model_validate(data)


def faults(data: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong by dotted key, in the order of the keys; empty when the answers hold."""
    found = data.get("format", FORMAT)
    if found != FORMAT or isinstance(found, bool):
        return {"format": f"this program reads format {FORMAT}"}
    try:
        Answers.model_validate(data)
    except ValidationError as error:
        return faults_of(error)
    return {}
