"""What was answered before and may be answered again: answers at temperature 0, and vectors.

Rules:
    CACHE-1 A key is the keyed hash of caller, version, policy and what the engine is asked, identifiers replaced, of
            an answer with the day, too, which a template may tell the model: nothing of one API key ever answers
            another, and no text is kept beside an answer's own. The hash's own key is drawn anew by each process and
            leaves it never; a token that kept it would be asked 2,048 times a list.
    CACHE-2 Only what an engine would say again is kept: temperature 0 (X21), a whole answer, its outcome recorded.
    CACHE-3 Keys whose identifiers pass (PHI mode `pass`) have no cache: it would hold what must not outlive a request.
    CACHE-4 The least recently used leaves first, by bytes and by number; what is too old is not given out.
    CACHE-5 What a version said goes when it is no longer loaded, and what a stopped key was told when it asks again.
    CACHE-6 A hit is an answer like any other: recorded before and after, counted against the key's tokens, named in a
            header and in the record. No engine is asked, so a whole answer takes no place and waits for none.

It lies in the gateway's memory alone and ends with the process.
"""

import hmac
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from appliance.gateway.calls import EngineCall, Replayed
from appliance.gateway.metrics import Metrics
from appliance.gateway.routing import Lines
from appliance.phi.policy import PhiMode
from appliance.sections import CachesSection
from media.clock import Clock

Name = Literal["answers", "embeddings"]
HEADER: Final = "x-sealift-cache"
HIT: Final = "hit"
"""What the header says where no engine was asked."""
MOST_ENTRIES: Final = 10_000
"""The documents' size of both caches (J4, J7)."""
_ENTRY_BYTES: Final = 512  # what Python keeps beside the bytes of an entry
_LARGEST_SHARE: Final = 8  # no entry takes more than an eighth of its cache
_MIB: Final = 2**20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry(Generic[_T]):
    value: _T
    size: int
    at: float
    model_digest: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something may be kept: the hash that it is found by, and to whom and which version it belongs."""

    digest: bytes
    key_id: str
    model_digest: str


class Cache(Generic[_T]):
    """One real LRU cache (X21); safe for threads.

    Args:
        name: For metrics.
        most_bytes: What its entries may take together; 0 for no cache.
        seconds: How old an entry may be.
        clock: Its monotonic seconds are used.
        metrics: Counted into.
    """

    def __init__(self, name: Name, *, most_bytes: int, seconds: float, clock: Clock, metrics: Metrics) -> None:
        self._name = name
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry[_T]] = OrderedDict()
        self._bytes = 0

    @property
    def is_on(self) -> bool:
        """Whether anything is kept at all."""
        return self._most_bytes > 0

    def find(self, place: Place) -> _T | None:
        """Return what is kept there, and count a hit or a miss."""
        if not self.is_on:
            return None
        with self._lock:
            entry = self._entries.get(place.digest)
            if entry is not None and self._clock.monotonic() - entry.at > self._seconds:
                self._drop(place.digest)
                entry = None
            if entry is not None:
                self._entries.move_to_end(place.digest)
            self._tell()
        self._metrics.looked_up(self._name, is_hit=entry is not None)
        return None if entry is None else entry.value

    def keep(self, place: Place, value: _T, *, size: int) -> None:
        """Keep something; what was not used for longest makes room for it."""
        size += _ENTRY_BYTES
        if size > self._most_bytes // _LARGEST_SHARE:
            return
        entry = _Entry(
            value=value,
            size=size,
            at=self._clock.monotonic(),
            model_digest=place.model_digest,
            key_id=place.key_id,
        )
        with self._lock:
            self._drop(place.digest)
            self._entries[place.digest] = entry
            self._bytes += size
            while self._bytes > self._most_bytes or len(self._entries) > MOST_ENTRIES:
                self._drop(next(iter(self._entries)))
            self._tell()

    def forget(self, which: Callable[[str, str], bool]) -> None:
        """Drop every entry whose version's digest and key's id are told so."""
        with self._lock:
            for digest in [one for one, kept in self._entries.items() if which(kept.model_digest, kept.key_id)]:
                self._drop(digest)
            self._tell()

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._bytes -= entry.size

    def _tell(self) -> None:
        self._metrics.cached(self._name, count=len(self._entries), size=self._bytes)


class Caches:
    """Both caches of one gateway process."""

    def __init__(self, section: CachesSection, *, clock: Clock, metrics: Metrics) -> None:
        self._secret = secrets.token_bytes(32)
        self._loaded: frozenset[str] = frozenset()
        self.answers: Cache[bytes] = Cache(
            "answers",
            most_bytes=section.answers_mib * _MIB,
            seconds=section.answers_minutes * 60,
            clock=clock,
            metrics=metrics,
        )
        self.embeddings: Cache[tuple[bytes, int]] = Cache(
            "embeddings",
            most_bytes=section.embeddings_mib * _MIB,
            seconds=section.embeddings_minutes * 60,
            clock=clock,
            metrics=metrics,
        )

    def follow(self, lines: Lines) -> None:
        """Drop what versions said that are not loaded any more (CACHE-5)."""
        loaded = lines.loaded
        if loaded != self._loaded:
            self._loaded = loaded
            for cache in (self.answers, self.embeddings):
                cache.forget(lambda digest, _: digest not in loaded)

    def forget_key(self, key_id: str) -> None:
        """Drop what a key was told (CACHE-5)."""
        for cache in (self.answers, self.embeddings):
            cache.forget(lambda _, kept: kept == key_id)

    def place(
        self, *, key_id: str, model_digest: str, policy: str, mode: PhiMode, asked: Mapping[str, Any]
    ) -> Place | None:
        """Return where the answer to something would be kept; None where it must not be (CACHE-1, CACHE-3)."""
        if mode is PhiMode.PASS:
            return None
        # In the order in which it is asked: by that of a schema's properties an engine writes them.
        text = json.dumps([key_id, model_digest, policy, mode.value, asked], separators=(",", ":"))
        digest = hmac.digest(self._secret, text.encode(), "sha256")
        return Place(digest=digest, key_id=key_id, model_digest=model_digest)


class Remembered:
    """An engine's call that notes what it says, to be kept when the answer is whole."""

    def __init__(self, call: EngineCall, cache: Cache[bytes], place: Place) -> None:
        self._call = call
        self._cache = cache
        self._place = place
        self._said: list[dict[str, Any]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled; see `EngineCall`."""
        return self._call.is_cancelled

    def cancel(self) -> None:
        """End the call; see `EngineCall`."""
        self._call.cancel()

    def close(self) -> None:
        """Give up what was not read; see `EngineCall`."""
        self._call.close()

    def fileno(self) -> int:
        """Return what can be read when the answer begins to come; see `EngineCall`."""
        return self._call.fileno()

    def opened(self) -> None:
        """Wait until the request is accepted; see `EngineCall`."""
        self._call.opened()

    def answer(self) -> dict[str, Any]:
        """Return the whole answer; see `EngineCall`."""
        said = self._call.answer()
        self._said.append(said)
        return said

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream; see `EngineCall`."""
        for said in self._call.events():
            self._said.append(said)
            yield said

    def misspoke(self) -> None:
        """Note a wrong shape; see `EngineCall`."""
        self._call.misspoke()

    def keep(self) -> None:
        """Keep the answer: it is whole, and its outcome is recorded (CACHE-2)."""
        # As text: a streamed answer's objects take about six times as much memory.
        said = json.dumps(self._said, separators=(",", ":")).encode()
        self._cache.keep(self._place, said, size=len(said))


class Before:
    """Whether an answer was given before, and what asks for it: the cache, or an engine whose words are noted.

    Args:
        cache: Where answers are kept.
        place: Where this one would be; None where it must not be kept.
        start: Asks the engine.
    """

    def __init__(self, cache: Cache[bytes], place: Place | None, start: Callable[[], EngineCall]) -> None:
        self._cache = cache
        self._place = place
        self._start = start
        self._said = None if place is None else cache.find(place)
        self._noted: Remembered | None = None

    @property
    def result(self) -> str:
        """What the header says: `hit`, `miss`; nothing where no cache was looked into."""
        if self._place is None:
            return ""
        return "miss" if self._said is None else HIT

    def start(self) -> EngineCall:
        """Ask.

        Raises:
            EngineUnavailableError: Nobody listens.
        """
        if self._said is not None:
            return Replayed(tuple(json.loads(self._said)))
        call = self._start()
        if self._place is None:
            return call
        self._noted = Remembered(call, self._cache, self._place)
        return self._noted

    def keep(self) -> None:
        """Keep the answer, if it is a new one: it is whole, and its outcome recorded."""
        if self._noted is not None:
            self._noted.keep()
