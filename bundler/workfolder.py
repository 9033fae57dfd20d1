"""The work folder of one release: its names are spelled here and nowhere else.

Everything between the recipe and the medium lies in it, so that a release can be carried to each person who signs it.
Nothing secret is ever in it.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import SigningError
from media import durable
from media.errors import UnreadableError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFolder:
    """The paths of one release in the making."""

    root: Path

    @property
    def candidate(self) -> Path:
        """The candidate: `data/` and `plan.json`."""
        return self.root / "candidate"

    @property
    def data(self) -> Path:
        """The final payload bytes."""
        return self.candidate / "data"

    @property
    def plan(self) -> Path:
        """What the build says about the candidate."""
        return self.candidate / "plan.json"

    @property
    def attest(self) -> Path:
        """Statements (`NAME.json`) and their signed envelopes (`NAME.dsse.json`)."""
        return self.root / "attest"

    @property
    def volumes(self) -> Path:
        """The capacities and seal numbers that people chose."""
        return self.root / "volumes.json"

    @property
    def signatures(self) -> Path:
        """One small file of each person who signed round one."""
        return self.root / "signatures"

    @property
    def metadata(self) -> Path:
        """The metadata: unsigned for reading until the threshold is met, then frozen."""
        return self.root / "metadata"

    @property
    def check(self) -> Path:
        """The files for people, as they will lie on every volume."""
        return self.root / "check"

    @property
    def seals(self) -> Path:
        """Per volume: its tag files and the signatures over its tag manifest."""
        return self.root / "seals"

    @property
    def sheet(self) -> Path:
        """The trust sheet, once every volume is sealed."""
        return self.root / "sheet.txt"

    def seal_of(self, number: int) -> Path:
        """Return the folder of one volume's tag files."""
        return self.seals / str(number)

    @property
    def is_frozen(self) -> bool:
        """Whether round one is over: the metadata is signed to the threshold and no longer changes."""
        return (self.metadata / "timestamp.json").is_file() and (self.metadata / "volumes.json").is_file()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else who signs in this very folder go on until the block ends."""
        self.signatures.mkdir(exist_ok=True)
        with (self.signatures / ".lock").open("wb") as held:
            with suppress(OSError):  # some file systems of a network know no locks
                fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def require_frozen(self) -> None:
        """Pass only when round one is over.

        Raises:
            SigningError: Not enough people have signed the metadata yet.
        """
        if not self.is_frozen:
            raise SigningError(
                what="this release is not ready to be sealed",
                why="its metadata has not been signed by enough people yet",
                fix="run: sealift-bundler sign WORK --person ID, for each person",
            )


def keep_signed(place: Path, signed: bytes) -> None:
    """Put what a person signed into a work folder, whole or not at all: a part of it would pass for one that is there.

    Raises:
        UnreadableError: It could not be written, and nothing of it is there.
    """
    try:
        durable.write_new(place, signed)
    except OSError as error:
        raise UnreadableError(
            what=f"{place.name} could not be written",
            why=error.strerror or "input/output error",
            fix="make room on the disk of the work folder, then sign again",
        ) from error


def put(place: Path, data: bytes) -> None:
    """Put a file of a work folder in place by one rename, whole or not at all; one that was there gives way.

    Raises:
        UnreadableError: It could not be written, and what was there is as it was.
    """
    try:
        durable.replace(place, data, mode=0o644)
    except OSError as error:
        raise UnreadableError(
            what=f"{place.name} could not be written",
            why=error.strerror or "input/output error",
            fix="make room on the disk of the work folder, then run the command again",
        ) from error
