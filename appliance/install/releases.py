"""Installed releases by serial, and `current`, the link that says which one runs.

    RELEASES/SERIAL/{server,engine-llama-cpp,host}/  one environment each
    RELEASES/SERIAL/{ansible,systemd,debs}/          host files as the release carried them
    RELEASES/SERIAL/installed.json                   written last: without it the folder is not a release

Promises: `current` names a whole release or nothing; it changes by one rename, and back by another.
"""

import fcntl
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Places
from appliance.errors import InstallError, NotInstalledError
from media import canonical, durable
from media.errors import MediaError

FORMAT: Final = 1
_RECORD: Final = "installed.json"
_FOLDER_MODE: Final = 0o755
_SERIAL: Final = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledRelease:
    """What was installed under a serial: the digest of each environment's requirements and of the host files.

    `base` is the serial of the release that the rest came from, where this one did not bring everything.
    """

    serial: int
    release: str
    environments: Mapping[str, str]
    host_files: str
    base: int | None = None

    def to_bytes(self) -> bytes:
        """Return the record's canonical JSON."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "serial": self.serial,
                "release": self.release,
                "environments": dict(self.environments),
                "host_files": self.host_files,
                **({} if self.base is None else {"base": self.base}),
            }
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> "InstalledRelease":
        """Read a record.

        Raises:
            MalformedError: It is not one.
        """
        fields = canonical.mapping(canonical.loads(untrusted), "installed.json")
        environments = canonical.mapping(fields.get("environments"), "environments")
        return cls(
            serial=canonical.integer(fields.get("serial"), "serial"),
            release=canonical.text(fields.get("release"), "release"),
            environments={name: canonical.sha256_hex(digest, name) for name, digest in environments.items()},
            host_files=canonical.sha256_hex(fields.get("host_files"), "host_files"),
            base=canonical.integer(fields["base"], "base", minimum=1) if "base" in fields else None,
        )


class InstalledReleases:
    """The folder of installed releases of one appliance."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def folder(self, serial: int) -> Path:
        """Return where the release with this serial lies, or would lie."""
        return self._places.releases / str(serial)

    def load(self, serial: int) -> InstalledRelease | None:
        """Return the record of a whole release, or nothing."""
        try:
            return InstalledRelease.from_bytes((self.folder(serial) / _RECORD).read_bytes())
        except (OSError, MediaError):
            return None

    def require(self, serial: int) -> InstalledRelease:
        """Return the record of a whole release.

        Raises:
            InstallError: It is not there, or does not read.
        """
        if (found := self.load(serial)) is None:
            raise InstallError(
                what=f"release {serial} is not installed", why="its folder is not whole", fix="run `sealift install`"
            )
        return found

    def write(self, installed: InstalledRelease) -> None:
        """Declare a release's folder whole."""
        folder = self.folder(installed.serial)
        durable.replace(folder / _RECORD, installed.to_bytes(), mode=0o444)

    def all(self) -> Iterator[InstalledRelease]:
        """Yield the record of every whole release, the newest first."""
        serials = (int(path.name) for path in self._places.releases.glob("*") if _SERIAL.fullmatch(path.name))
        for serial in sorted(serials, reverse=True):
            if (found := self.load(serial)) is not None:
                yield found

    def current(self) -> InstalledRelease | None:
        """Return the release that `current` names, or nothing."""
        try:
            name = self._places.current.readlink().name
        except OSError:
            return None
        return self.load(int(name)) if name.isascii() and name.isdigit() else None

    def in_use(self) -> InstalledRelease | None:
        """Return the release that `current` names; None only where there is no such link, as before the first install.

        Raises:
            InstallError: There is one, and the record of what it names does not read: that is no machine without one.
        """
        found = self.current()
        if found is None and self._places.current.is_symlink():
            raise InstallError(
                what="which release is in use cannot be told",
                why=f"`{self._places.current.name}` is there, and {_RECORD} of what it names does not read",
                fix=f"look at the disk below it; put {_RECORD} of that release back from a copy (it is not secret)",
            )
        return found

    def require_current(self) -> InstalledRelease:
        """Return the release in use.

        Raises:
            NotInstalledError: There is none.
        """
        found = self.current()
        if found is None:
            raise NotInstalledError(what="no release is installed", why="", fix="run `sealift install`")
        return found

    def switch(self, serial: int | None) -> None:
        """Point `current` at an installed release, or at none.

        Raises:
            InstallError: That serial is not whole, or the link cannot be written.
        """
        link = self._places.current
        if serial is None:
            link.unlink(missing_ok=True)
            return
        self.require(serial)
        partial = link.with_name(".current")
        try:
            partial.unlink(missing_ok=True)
            partial.symlink_to(Path("releases") / str(serial))
            partial.replace(link)
            durable.sync_folder(link.parent)
        except OSError as error:
            raise InstallError(
                what="the link to the current release cannot be written", why=error.strerror or "", fix="check the disk"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against any other install.

        Raises:
            InstallError: Someone else holds it.
        """
        self._places.releases.mkdir(parents=True, exist_ok=True)
        for folder in (self._places.releases.parent, self._places.releases):
            folder.chmod(_FOLDER_MODE)
        with (self._places.releases / ".lock").open("wb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InstallError(
                    what="another install is running", why="the releases are locked", fix="wait until it ends"
                ) from error
            yield
