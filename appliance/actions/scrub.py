"""Scrubbing: prove the whole store again from its disk, say what is bad and what helps, and record it.

    lock -> go on behind the cursor -> every object -> what is missing -> the releases' own files -> record -> state

A bad object stays where it lies: the launcher, the installer and the gates hash before they use, so it is not loaded,
and receiving its release again puts a sound one in its place. A version that it is part of is marked at once, so that
no caller is routed to it, and recorded by name; the mark goes when all its files hold again. Bad objects are moved out
of the way when a person says so by name; nothing is ever deleted.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from appliance.actions.versionwatch import VersionWatch
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import StoreBusyError
from appliance.store.content import ContentStore, StoredRelease
from appliance.store.reread import Pace
from appliance.store.scrub import Scrub, spoilt_records, wanted_by
from appliance.store.scrubbed import Pass, ScrubState, reference
from appliance.store.spoilt import Findings, Spoilt
from appliance.store.writing import writing
from appliance.timekeeping.believed import BelievedClock
from media import durable
from media.clock import Clock, from_text, to_text
from media.errors import UsageError

DOOR: Final = "ledger-actions"
SCRUBBED: Final = "store.scrubbed"
SET_ASIDE: Final = "store.set-aside"
OLDEST_DAYS: Final = 35
"""A store that was not proven for so long is told as a finding: the timer runs every week."""
_SAVE_SECONDS: Final = 5.0

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A person's decision to move bad objects out of the store, to `quarantine/`.

    Args:
        name: Who decides.
        reason: Why; goes into the record.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to read and how.

    Args:
        serial: Only what this stored release names; None for the whole store.
        since: Only releases received then or later; None for all.
        rate: Bytes a second at most; 0 for as fast as the disk gives them.
        aside: Move bad objects to quarantine.
    """

    serial: int | None = None
    since: datetime | None = None
    rate: int = 0
    aside: Aside | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this proves the whole store, so that it counts as a complete scrub and may be resumed."""
        return self.serial is None and self.since is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubFacts:
    """What a scrub read and found.

    Args:
        whole: The whole store was proven, from the first object to the last.
        serials: The releases whose files were compared.
        figures: The pass: begun, ended, objects, bytes, bad, findings.
        texts: The findings of this run, for a person.
        resumed: It went on where another had stopped.
        aside: Names of the objects that were moved to quarantine.
        sequence: Of the record; -1 while it waits for the ledger.
        hurt: Digests of the versions that are marked as damaged now.
    """

    whole: bool
    serials: tuple[int, ...]
    figures: Pass
    texts: tuple[str, ...]
    resumed: bool
    aside: tuple[str, ...] = ()
    sequence: int = field(default=-1)
    hurt: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "whole": self.whole,
            "serials": list(self.serials),
            **self.figures.to_json(),
            "resumed": self.resumed,
            "set_aside": list(self.aside),
            "versions": list(self.hurt),
            "sequence": self.sequence,
        }


def scrub(config: Config, *, clock: Clock, progress: Progress, options: Options | None = None) -> ScrubFacts:
    """Prove the store, or a part of it.

    Raises:
        StoreBusyError: Another scrub runs; or a receive, when objects are to be set aside.
        UnknownReleaseError, StoreDamagedError: The store holds no such serial, or its record does not read.
        NoSpaceError, StoreWriteError: The state cannot be kept.
        LedgerUnavailableError: The outcome could not be recorded.
    """
    own = options or Options()
    if own.aside is not None and not (own.aside.name.strip() and own.aside.reason.strip()):
        raise UsageError(what="setting objects aside needs a person and a reason", fix="give --by NAME --reason TEXT")
    with _alone(config.at.scrub):
        ledger = open_ledger(config, DOOR, spool=True, clock=clock)
        try:
            return _Scrub(config, ledger, BelievedClock(config.at, clock), own).run(progress)
        finally:
            ledger.close()


class _Scrub:
    """One run."""

    def __init__(self, config: Config, ledger: Ledger, clock: Clock, options: Options) -> None:
        self._config = config
        self._ledger = ledger
        self._clock = clock
        self._options = options
        self._store = ContentStore(config.at.store)
        self._state = ScrubState.load(config.at.scrub)
        self._saved_at = clock.monotonic()
        self._bad: list[Spoilt] = []
        self._watch = VersionWatch(config, ledger, clock)

    def run(self, progress: Progress) -> ScrubFacts:
        options, store = self._options, self._store
        releases, serials = self._chosen()
        is_whole = options.is_whole
        only = None if is_whole else frozenset(file.sha256 for each in releases for file in each.files.values())
        resumed = is_whole and self._state.running is not None
        own = (self._state.running if is_whole else None) or Pass(begun=self._clock.now())
        if is_whole:
            self._state.running = own
        findings = Findings(count=own.bad, listed=own.findings)

        listed = list(Scrub(store, {}, Pace()).objects(after=own.after, only=only))
        total, told, label = sum(length for _, length in listed), 0, ""

        def read(length: int) -> None:
            nonlocal told
            told += length
            progress(min(told, total), total, label)

        wanted = wanted_by(releases)
        self._watch.begin(releases)
        reader = Scrub(store, wanted, Pace(options.rate, read))
        for name, length in listed:
            uses = wanted[name].uses if name in wanted else []
            label = uses[0].path if uses else name[:12]
            self._note(findings, reader.prove(name))
            own.after, own.objects, own.bytes, own.bad = name, own.objects + 1, own.bytes + length, findings.count
            if is_whole:
                self._save_now_and_then()
        known = {spoilt.sha256 for spoilt in self._bad} | self._watch.excused
        for spoilt in reader.missing(only):
            if spoilt.sha256 not in known:
                self._note(findings, spoilt)
        for spoilt in spoilt_records(store, serials):
            self._note(findings, spoilt)
        own.ended, own.bad = self._clock.now(), findings.count
        return self._conclude(own, serials, findings, resumed=resumed)

    def _chosen(self) -> tuple[tuple[StoredRelease, ...], tuple[int, ...]]:
        options, store = self._options, self._store
        if options.serial is not None:
            return (StoredRelease.load(store, options.serial),), (options.serial,)
        releases = store.releases()
        if options.since is None:
            return releases, store.serials()
        since = options.since
        recent = tuple(each for each in releases if _came_since(each, since))
        return recent, tuple(each.serial for each in recent)

    def _note(self, findings: Findings, spoilt: Spoilt | None) -> None:
        if spoilt is not None:
            findings.add(spoilt)
            self._bad.append(spoilt)
            self._watch.note(spoilt)

    def _save_now_and_then(self) -> None:
        now = self._clock.monotonic()
        if now - self._saved_at >= _SAVE_SECONDS:
            self._saved_at = now
            self._state.save(self._config.at.scrub)

    def _conclude(self, own: Pass, serials: tuple[int, ...], findings: Findings, *, resumed: bool) -> ScrubFacts:
        figures = {name: value for name, value in own.to_json().items() if name != "after"}
        hurt = self._watch.conclude()
        scope = {"whole": self._options.is_whole, "serials": list(serials), "versions": list(hurt)}
        appended = self._ledger.append(SCRUBBED, {"site": self._config.site, **scope, **figures})
        aside = self._set_aside()
        if self._options.is_whole:
            self._state.running, self._state.last = None, own
            self._state.save(self._config.at.scrub)
        return ScrubFacts(
            whole=self._options.is_whole,
            serials=serials,
            figures=own,
            texts=tuple(findings.texts),
            resumed=resumed,
            aside=aside,
            sequence=appended.sequence,
            hurt=hurt,
        )

    def _set_aside(self) -> tuple[str, ...]:
        """Move the bad objects that this run found to quarantine, recorded before each is moved."""
        decision = self._options.aside
        names = [each.sha256 for each in self._bad if each.sha256 and self._store.object_path(each.sha256).is_file()]
        if decision is None or not names:
            return ()
        with self._store.locked():
            body = {"site": self._config.site, "objects": names, "by": decision.name, "reason": decision.reason}
            self._ledger.append(SET_ASIDE, body)
            with writing("the quarantine"):
                for name in names:
                    place = self._store.object_path(name)
                    place.rename(_free(self._store.quarantine / f"object-{name}"))
                    durable.sync_folder(place.parent)
                durable.sync_folder(self._store.quarantine)
        return tuple(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How long ago the store was proven, for status, doctor and the page.

    Args:
        is_good: Nothing bad was found and it was not long ago; None where there is nothing to prove.
        text: In words.
        fields: The last pass and the one that goes on.
    """

    is_good: bool | None
    text: str
    fields: dict[str, Any]


def standing(config: Config, *, clock: Clock) -> Standing:
    """Return how the last complete scrub ended and how long ago; never raises for a state that does not read."""
    state, store = ScrubState.load(config.at.scrub), ContentStore(config.at.store)
    fields = {
        "last": None if state.last is None else state.last.to_json(),
        "running": None if state.running is None else state.running.to_json(),
    }
    since = reference(state, [str(each.facts.get("received_at", "")) for each in store.releases()])
    if since is None:
        return Standing(is_good=None, text="nothing is stored", fields=fields)
    days = max((BelievedClock(config.at, clock).now() - since).days, 0)
    ago = "today" if days == 0 else f"{days} days ago"
    if state.last is None:
        text = f"no complete scrub yet; received {ago}"
    else:
        said = f"{state.last.bad} bad" if state.last.bad else "all good"
        text = f"{state.last.objects} objects read {ago}, {said}"
    if state.running is not None:
        text += f"; one goes on, {state.running.objects} read" + (
            f", {state.running.bad} bad" if state.running.bad else ""
        )
    bad = sum(each.bad for each in (state.last, state.running) if each is not None)
    return Standing(is_good=not bad and days <= OLDEST_DAYS, text=text, fields={**fields, "since": to_text(since)})


def _came_since(release: StoredRelease, since: datetime) -> bool:
    """Tell whether a release was received then or later, or its record does not tell."""
    try:
        return from_text(str(release.facts.get("received_at"))) >= since
    except ValueError:
        return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with writing("the state of scrubbing"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StoreBusyError(
            what="another scrub is running", why="its lock is held", fix="wait until it ends; `sealift status` shows it"
        ) from error
    finally:
        os.close(lock)


def _free(place: Path) -> Path:
    """Return a name that nothing has: what lies in quarantine is never replaced."""
    number = 1
    while (found := place if number == 1 else place.with_name(f"{place.name}.{number}")).exists():
        number += 1
    return found
