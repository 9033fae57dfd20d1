"""The trial of a release (ADR 23): what was switched to and not yet found healthy, and what the box went back from.

    RELEASES/trial.json      while a release is being tried: its serial and that of the one before; a changed site file
                             alone is tried as the release that runs
    RELEASES/returned.json   after the box went back by itself, until an install ends well
    RELEASES/settings.toml   the site file as it was when an install last ended well
    RELEASES/former.toml     the one before that, for as long as the end of a trial is being noted
    OPT/before               link to the release before: by its code a cut-off trial is taken back, also after a boot

Promises: the trial is on the disk before `current` changes and goes away only after the new release answered, or after
the one before it runs again; so whoever finds one with no install running knows that it was cut off.
"""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance import config as configuration
from appliance.config import DatabaseSection, Places
from appliance.errors import ConfigError, InstallError
from appliance.install import sitefile
from media import canonical, durable, endings
from media.errors import MediaError

FORMAT: Final = 1
NONE: Final = 0
"""The serial of "no release before"."""
TRIED: Final = ".tried"
"""What the name of a site file ends in that was tried with a release and put away with it."""
_MOST: Final = 400
_PATH: Final = re.compile(r"(?<![\w.])/[^\s'\":]*/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A release that was switched to, or a changed site file under the release that runs.

    Attributes:
        serial: Of the release that is tried.
        release: Its name.
        previous: Serial of the release before, `NONE` at a first install; the same where only the site file is tried.
        at: When it was switched to.
    """

    serial: int
    release: str
    previous: int
    at: str

    @property
    def is_of_site_file(self) -> bool:
        """Whether the release stays and its site file alone is tried."""
        return self.serial == self.previous

    def to_bytes(self) -> bytes:
        """Return the record's canonical JSON."""
        return canonical.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a record.

        Raises:
            MalformedError: It is none.
        """
        fields = canonical.exact_keys(
            canonical.loads(untrusted), ("format", "serial", "release", "previous", "at"), what="trial"
        )
        canonical.integer(fields["format"], "trial.format", minimum=FORMAT, maximum=FORMAT)
        return cls(
            serial=canonical.integer(fields["serial"], "trial.serial", minimum=1),
            release=canonical.text(fields["release"], "trial.release"),
            previous=canonical.integer(fields["previous"], "trial.previous"),
            at=canonical.text(fields["at"], "trial.at"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """That the box went back by itself.

    Attributes:
        serial: Of the release that did not stay.
        release: Its name.
        back_to: Serial of the release that runs since, `NONE` when there was none; the same where only the site file
            was tried.
        why: What did not answer, in one line.
        at: When.
    """

    serial: int
    release: str
    back_to: int
    why: str
    at: str

    @property
    def is_of_site_file(self) -> bool:
        """Whether it was a changed site file that did not stay."""
        return self.serial == self.back_to

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for the ledger and for people."""
        return asdict(self)

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a record.

        Raises:
            MalformedError: It is none.
        """
        fields = canonical.exact_keys(
            canonical.loads(untrusted), ("format", "serial", "release", "back_to", "why", "at"), what="return"
        )
        canonical.integer(fields["format"], "return.format", minimum=FORMAT, maximum=FORMAT)
        return cls(
            serial=canonical.integer(fields["serial"], "return.serial", minimum=1),
            release=canonical.text(fields["release"], "return.release"),
            back_to=canonical.integer(fields["back_to"], "return.back_to"),
            why=canonical.text(fields["why"], "return.why", most=_MOST, may_be_empty=True),
            at=canonical.text(fields["at"], "return.at"),
        )


class Trials:
    """The trial of one appliance, if any."""

    def __init__(self, places: Places) -> None:
        self._folder, self._trial = places.releases, places.trial
        self._before = places.current.with_name("before")

    def begin(self, trial: Trial) -> None:
        """Note a trial, durably, before `current` changes.

        Raises:
            InstallError: It cannot be written.
        """
        self._drop(self._former)
        try:
            if trial.previous != NONE:
                partial = self._before.with_name(".before")
                partial.unlink(missing_ok=True)
                partial.symlink_to(Path("releases") / str(trial.previous))
                partial.replace(self._before)
                durable.sync_folder(self._before.parent)
            durable.replace(self._trial, trial.to_bytes(), mode=0o644)
        except OSError as error:
            raise _unwritten("the trial of the release cannot be noted", error) from error

    def pending(self) -> Trial | None:
        """Return the trial that was neither confirmed nor taken back.

        Raises:
            InstallError: There is one that does not read.
        """
        try:
            return Trial.from_bytes(self._trial.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, MediaError) as error:
            raise InstallError(
                what="what an earlier install was doing cannot be read",
                why=str(error)[:200],
                fix="look at `sealift status`, remove trial.json below the releases, and install again",
            ) from error

    def confirm(self, settings: bytes) -> None:
        """End the trial well: the release answered. What the box went back from before is over too.

        Args:
            settings: The site file as it was when it was tried; kept, to be put back with the release.

        Raises:
            InstallError: It cannot be written.
        """
        before = self.settings()
        try:
            if before != settings:
                if before is not None and self._trial.exists():
                    # Cut off before its trial is gone, the release goes back: not with the site file that it came with.
                    durable.replace(self._former, before, mode=0o644)
                durable.replace(self._settings, settings, mode=0o644)
        except OSError as error:
            raise _unwritten("the site file that this release runs with cannot be kept", error) from error
        self._drop(self._trial, self._return, self._former)

    def settings(self) -> bytes | None:
        """Return the site file that the last good install ran with, where there was one."""
        is_ending = self._former.exists() and self._trial.exists()
        try:
            return (self._former if is_ending else self._settings).read_bytes()
        except OSError:
            return None

    def settings_beside(self, present: bytes) -> bytes | None:
        """Return that site file as it would be put in the place of the present one.

        Where the records lie is not tried with a release: moved since, they stay where they are.
        """
        before = self.settings()
        return None if before is None else _where_records_are(before, present)

    def note_move(self, site_file: Path) -> None:
        """Note in the kept site file, too, that the records were moved to where this one says.

        Raises:
            OSError: It cannot be written.
        """
        before = self.settings()
        if before is not None:
            after = _where_records_are(before, site_file.read_bytes(), have_moved=True)
            if after != before:
                durable.replace(self._settings, after, mode=0o644)

    def restore_settings(self, site_file: Path) -> bytes | None:
        """Put that site file back, the one that was tried kept beside it; return it when it was another one.

        Raises:
            InstallError: It cannot be written.
        """
        try:
            present = site_file.read_bytes()
            before = self.settings_beside(present)
            if before is None or present == before:
                return None
            durable.replace(tried_beside(site_file), present, mode=0o644)
            durable.replace(site_file, before, mode=0o644)
        except OSError as error:
            raise _unwritten("the site file cannot be put back", error) from error
        return before

    def went_back(self, returned: Returned) -> None:
        """End the trial: the release before runs again.

        Raises:
            InstallError: It cannot be written.
        """
        try:
            durable.replace(self._return, canonical.dumps({"format": FORMAT, **returned.to_json()}), mode=0o644)
            if self._former.exists():
                self._former.replace(self._settings)
                durable.sync_folder(self._folder)
        except OSError as error:
            raise _unwritten("that the box went back cannot be noted", error) from error
        self._drop(self._trial)

    def last_return(self) -> Returned | None:
        """Return what the box went back from since its last good install; nothing where that does not read."""
        try:
            return Returned.from_bytes(self._return.read_bytes())
        except (OSError, MediaError):
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the trial against any other install; the kernel lets go when the process ends, however it ends.

        Raises:
            InstallError: Someone else holds it, or the lock cannot be made.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stream = (self._folder / ".trial.lock").open("wb")
        except OSError as error:
            raise _unwritten("the releases cannot be locked", error) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InstallError(
                    what="another install is running", why="the releases are locked", fix="wait until it ends"
                ) from error
            yield

    @property
    def _settings(self) -> Path:
        return self._folder / "settings.toml"

    @property
    def _former(self) -> Path:
        return self._folder / "former.toml"

    @property
    def _return(self) -> Path:
        return self._folder / "returned.json"

    def _drop(self, *paths: Path) -> None:
        there = [path for path in paths if path.exists()]
        try:
            for path in there:
                path.unlink()
            if there:
                durable.sync_folder(self._folder)
        except OSError as error:
            raise _unwritten("the end of the trial cannot be noted", error) from error


def tried_beside(site_file: Path) -> Path:
    """Return where a site file lies that was tried and put away."""
    return site_file.with_name(site_file.name + TRIED)


def one_line(text: str) -> str:
    """Return a reason as `Returned` takes it: one printable line of bounded length, folders of this host left out."""
    return endings.one_line(_PATH.sub("", text.replace("\\n", " ")), _MOST).strip()


def _where_records_are(before: bytes, now: bytes, *, have_moved: bool = False) -> bytes:
    """Return the site file of before, its `database` that of now where the records were moved since.

    Another kind says that they were; another server or database does so only to whoever has moved them.
    """
    try:
        kept, present = configuration.parse(before), configuration.parse(now).database
    except ConfigError:
        return before
    if kept.database.kind == present.kind and not have_moved:
        return before
    with suppress(ConfigError):  # it named no server yet
        changed = sitefile.with_kind(before, present.kind)
        if _place(configuration.parse(changed).database) == _place(present):
            return changed
    return sitefile.render(kept.model_copy(update={"database": present})).encode()


def _place(section: DatabaseSection) -> tuple[object, ...]:
    if section.kind == "sqlite":
        return (section.kind,)
    return section.kind, section.socket, section.server, section.address, section.port, section.name


def _unwritten(what: str, error: OSError) -> InstallError:
    return InstallError(what=what, why=error.strerror or type(error).__name__, fix="check the disk of /opt")
