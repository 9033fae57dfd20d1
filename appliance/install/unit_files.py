"""Reads the static units of `systemd/` far enough to run them without systemd.

Promises: what is read is what systemd would read (sections, repeated keys, ``%i`` of a template); a line this module
does not use changes nothing; paths of a box become paths below the configured root, and only the four that are ours.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Config, KeysSection
from appliance.errors import UnitError
from appliance.install import keysettings
from appliance.install.supervisor import require_unit_name

_SECONDS: Final = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0}
_DEFAULT_TIMEOUT_SECONDS: Final = 90.0
_FOREVER_SECONDS: Final = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxPaths:
    """Maps the paths that units spell to where this configuration keeps them."""

    mapping: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, config: Config, config_file: Path) -> "BoxPaths":
        """Return the mapping of a configuration that was read from `config_file`."""
        places = config.at
        # Before the first install the units run from the environment that this program itself runs from.
        own = () if places.current.exists() else (("/opt/sealift/current/server", sys.prefix),)
        return cls(
            mapping=(
                *own,
                ("/etc/sealift/sealift.toml", str(config_file.resolve())),
                ("/opt/sealift", str(places.current.parent)),
                ("/etc/sealift", str(places.etc)),
                ("/var/lib/sealift", str(places.state)),
                ("/run/sealift", str(places.run)),
            )
        )

    def here(self, text: str) -> str:
        """Return `text` with a leading path of a box replaced."""
        for box, local in self.mapping:
            if text == box or text.startswith(f"{box}/"):
                return local + text[len(box) :]
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketUnit:
    """One listening socket: its path here and the name it is passed under."""

    name: str
    path: Path
    door: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnit:
    """One service, ready to be started here."""

    name: str
    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    sockets: tuple[SocketUnit, ...]
    credentials: Mapping[str, Path]
    state_directories: tuple[Path, ...]
    state_mode: int
    umask: int
    after: tuple[str, ...]
    restarts: bool
    restart_seconds: float
    prevented_exits: frozenset[int]
    start_timeout_seconds: float
    stop_timeout_seconds: float
    watchdog_seconds: float
    burst: int
    burst_seconds: float


class UnitFiles:
    """The units of one folder, for one configuration."""

    def __init__(self, folder: Path, paths: BoxPaths, keys: KeysSection | None = None) -> None:
        self._folder = folder
        self._paths = paths
        self._keys = keys or KeysSection()

    def service(self, untrusted_name: str) -> ServiceUnit:
        """Return the service of that name.

        Raises:
            UnitError: The name is not ours, there is no such unit, or the file is wrong.
        """
        name = require_unit_name(untrusted_name)
        read = self._read(name)
        sockets = [name for name in read.words("Sockets") if name.endswith(".socket")]
        return ServiceUnit(
            name=name,
            kind=read.one("Type", "simple"),
            command=tuple(self._paths.here(word) for word in shlex.split(read.one("ExecStart", ""))),
            environment=self._pairs(read, "Environment"),
            sockets=tuple(self._socket(name) for name in sockets),
            credentials=dict(self._credentials(template_of(name), read)),
            state_directories=tuple(
                Path(self._paths.here(f"/var/lib/{word}")) for word in read.words("StateDirectory")
            ),
            state_mode=int(read.one("StateDirectoryMode", "0755"), 8),
            umask=int(read.one("UMask", "0022"), 8),
            after=tuple(read.words("After")),
            restarts=read.one("Restart", "no") in {"on-failure", "always"},
            restart_seconds=seconds(read.one("RestartSec", "100ms")),
            prevented_exits=frozenset(int(word) for word in read.words("RestartPreventExitStatus")),
            start_timeout_seconds=seconds(read.one("TimeoutStartSec", f"{_DEFAULT_TIMEOUT_SECONDS}")),
            stop_timeout_seconds=seconds(read.one("TimeoutStopSec", f"{_DEFAULT_TIMEOUT_SECONDS}")),
            watchdog_seconds=seconds(read.one("WatchdogSec", "0")),
            burst=int(read.one("StartLimitBurst", "5")),
            burst_seconds=seconds(read.one("StartLimitIntervalSec", "10")),
        )

    def wanted_by_target(self) -> tuple[str, ...]:
        """Return the services that sealift.target starts, in its order.

        Raises:
            UnitError: There is no target.
        """
        return tuple(name for name in self._read("sealift.target").words("Wants") if name.endswith(".service"))

    def _credentials(self, unit: str, read: "_Read") -> Iterator[tuple[str, Path]]:
        """Yield what a service gets; of a key every version, as `sealift box-keys` tells systemd on a box."""
        lines = keysettings.credentials(self._keys, unit, read.all("LoadCredential"))
        for key, _, path in (line.partition(":") for line in lines):
            place = Path(self._paths.here(path))
            others = sorted(place.parent.glob(f"{key}.v*")) if place.name == f"{key}.v1" else []
            if place in others or not others:
                yield key, place
            yield from ((other.name, other) for other in others if other != place)

    def _socket(self, name: str) -> SocketUnit:
        read = self._read(name)
        # Units get no port of their own here: two sites beside each other would ask for the same.
        own = [place for place in read.all("ListenStream") if place.startswith("/")]
        path = Path(self._paths.here(own[-1] if own else ""))
        return SocketUnit(name=name, path=path, door=read.one("FileDescriptorName", ""))

    def _pairs(self, read: "_Read", key: str) -> dict[str, str]:
        pairs = (word.partition("=") for line in read.all(key) for word in shlex.split(line))
        return {name: self._paths.here(value) for name, _, value in pairs}

    def _read(self, name: str) -> "_Read":
        stem, _, kind = name.rpartition(".")
        prefix, at, instance = stem.partition("@")
        path = self._folder / (f"{prefix}@.{kind}" if at else name)
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise UnitError(
                what=f"there is no unit {name}", why=error.strerror or "", fix="see `sealift status`"
            ) from error
        return _Read(lines=tuple(lines), instance=instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The lines of one file with its instance filled in."""

    lines: tuple[str, ...]
    instance: str

    def all(self, key: str) -> list[str]:
        """Return every value of `key`."""
        values = (line.partition("=") for line in self.lines if not line.startswith("#"))
        return [value.replace("%i", self.instance).replace("%%", "%") for found, _, value in values if found == key]

    def one(self, key: str, default: str) -> str:
        """Return the last value of `key`, as systemd does."""
        return self.all(key)[-1] if self.all(key) else default

    def words(self, key: str) -> list[str]:
        """Return the words of every value of `key`."""
        return [word for value in self.all(key) for word in value.split()]


def credential_lines(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what the services of a folder load as credentials, by unit: ``NAME:PATH``, as it is written there."""
    services = {path.name: path.read_text() for path in sorted(folder.glob("*.service"))}
    found = {
        name: tuple(_Read(lines=tuple(text.splitlines()), instance="%i").all("LoadCredential"))
        for name, text in services.items()
    }
    return {name: lines for name, lines in found.items() if lines}


def template_of(unit: str) -> str:
    """Return the file that a unit is made from: of an instance, its template's."""
    prefix, at, rest = unit.partition("@")
    return f"{prefix}@.{rest.rpartition('.')[2]}" if at else unit


def seconds(text: str) -> float:
    """Return a systemd time span of one unit in seconds.

    Raises:
        UnitError: It is not one.
    """
    if text == "infinity":
        return _FOREVER_SECONDS
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        return float(number) * _SECONDS[text[len(number) :]]
    except (ValueError, KeyError) as error:
        raise UnitError(what=f"{text} is no time span", why="a number and a unit", fix="correct the unit") from error
