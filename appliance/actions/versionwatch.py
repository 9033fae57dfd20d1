"""What a scrub's findings mean for versions: which are hurt, marked for the gateway at once and recorded by name.

Promises: a mark is durable before the record that tells of it; it is taken back only after every file of the version
was hashed again and held; objects that only deleted versions needed are not missed.
"""

from collections.abc import Sequence
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import StoreDamagedError
from appliance.registry import damaged
from appliance.registry.damaged import Parts
from appliance.registry.deletion import deleted
from appliance.store.content import ContentStore, StoredRelease
from appliance.store.garbage import excused
from appliance.store.spoilt import Spoilt
from media.clock import Clock, to_text
from media.errors import SealiftError

DAMAGED: Final = "model.damaged"
SOUND: Final = "model.sound"


class VersionWatch:
    """One scrub's view of versions."""

    def __init__(self, config: Config, ledger: Ledger, clock: Clock) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._store = ContentStore(config.at.store)
        self._gone: frozenset[str] = frozenset()
        self._parts: Parts = {}
        self._marks: dict[str, dict[str, Any]] = {}
        self._found: set[str] = set()
        self.excused: frozenset[str] = frozenset()

    def begin(self, releases: Sequence[StoredRelease]) -> None:
        """Learn whose parts these releases' files are, and which versions are marked or deleted."""
        self._parts = damaged.parts_of(releases)
        try:
            self._marks = damaged.damaged(self._config.at.scrub)
        except StoreDamagedError:
            self._marks = {}  # written anew from what this scrub finds
        try:
            self._gone = frozenset(deleted(self._ledger))
        except SealiftError:
            self._gone = frozenset()  # without the ledger nothing is excused
        self.excused = excused(self._store, self._gone)

    def note(self, spoilt: Spoilt) -> None:
        """Mark the versions that a finding hurts.

        Raises:
            NoSpaceError, StoreWriteError: The mark cannot be kept.
            LedgerUnavailableError: It could not be recorded; the mark holds.
        """
        for use in spoilt.uses:
            for digest in sorted(self._parts.get((use.serial, use.path), frozenset()) - self._gone):
                if digest in self._found:
                    continue
                self._found.add(digest)
                found = {"problem": str(spoilt.problem), "path": use.path, "serial": use.serial}
                is_new = digest not in self._marks
                self._marks[digest] = {**found, "at": to_text(self._clock.now())}
                damaged.save(self._config.at.scrub, self._marks)
                if is_new:
                    body = {"site": self._config.site, "model_digest": digest, "object": spoilt.sha256, **found}
                    self._ledger.append(DAMAGED, {**body, "reason": f"{use.path}: {spoilt.problem}"})

    def conclude(self) -> tuple[str, ...]:
        """Take back the marks of versions that hold again; return those that stay marked.

        Raises:
            NoSpaceError, StoreWriteError: The marks cannot be kept.
            LedgerUnavailableError: It could not be recorded; the mark is taken back all the same.
        """
        releases = tuple(reversed(self._store.releases()))
        for digest in sorted(set(self._marks) - self._found):
            if digest not in self._gone and not damaged.is_sound(releases, digest):
                continue
            del self._marks[digest]
            damaged.save(self._config.at.scrub, self._marks)
            if digest not in self._gone:
                body = {"site": self._config.site, "model_digest": digest, "reason": "every file was hashed again"}
                self._ledger.append(SOUND, body)
        return tuple(sorted(self._marks))
