"""How fast this machine's disk reads, its network cards are and named machines answer, by the requirements' figures.

Each look is bounded: at most so many bytes and seconds of reading, so many short connections to each destination.
"""

import mmap
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Final

from appliance.actions.doctor_machine import CARDS, card_mbit, is_up
from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.store.content import ContentStore

WEIGHTS_MB: Final = 5000
CACHES_MB: Final = 500
"""MB/s that a disk should read for weights, and for caches (B32)."""
_SLOWEST_MB: Final = 20
LEAST_MBIT: Final = 1_000
ADVISED_MBIT: Final = 10_000
"""What the network must have, and should (B33)."""
MOST_MILLIS: Final = 10.0
"""From one machine of the facility to another, at the 99th percentile (B34)."""
_CHUNK_BYTES: Final = 4 * 2**20
_OWN_BYTES: Final = 32 * 2**20
_MOST_BYTES: Final = 2**30
_READ_SECONDS: Final = 1.0
_READERS: Final = 4
_TRIES: Final = 20
_SECONDS_EACH: Final = 2.0
_AT_ONCE: Final = 8


def reading(config: Config) -> Iterator[Finding]:
    """How fast the store's disk gives bytes, past the page cache; nothing is said where nothing may be read or written.

    The store's largest object is read; where it is small, or none, a file of this look's own, which is removed again.
    """
    found, own = largest_object(config), None
    if found is None:
        found = own = _own(config.at.state)
    if found is None:
        return
    try:
        rate = read_rate(found)
    finally:
        if own is not None:
            with suppress(OSError):
                own.unlink()
    yield judged_rate(rate)


def judged_rate(rate: float | None) -> Finding:
    """Return what is to be said of so many MB/s; None where they could not be told."""
    return Finding(
        name="disk reading",
        is_good=None if rate is None or _SLOWEST_MB <= rate < WEIGHTS_MB else rate >= WEIGHTS_MB,
        text="cannot be told: this file system reads through memory only"
        if rate is None
        else f"{rate:.0f} MB/s; {WEIGHTS_MB} are asked for weights, {CACHES_MB} for caches{_worth(rate)}",
        why="an engine reads all of its weights before it answers, and again where memory is short",
        fix="put /var/lib/sealift on an NVMe disk; a slower one only makes each load longer",
    )


def _worth(rate: float) -> str:
    if rate >= WEIGHTS_MB:
        return ""
    return ": slow for weights" if rate >= CACHES_MB else ": slow for both, enough for logs"


def read_rate(file: Path) -> float | None:
    """Return how many MB a second a file's disk gives; None where the page cache cannot be left out."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return None
    try:
        size = min(os.fstat(descriptor).st_size, _MOST_BYTES)
        offsets = iter(range(0, size - _CHUNK_BYTES + 1, _CHUNK_BYTES))
        began = perf_counter()

        def read(_: int) -> int:
            buffer, done = mmap.mmap(-1, _CHUNK_BYTES), 0  # begins at a page, as direct reads want it
            for offset in offsets:
                done += os.preadv(descriptor, [buffer], offset)
                if perf_counter() - began > _READ_SECONDS:
                    break
            return done

        # Several at a time: an NVMe disk is fast only when it is asked for more than one thing.
        with ThreadPoolExecutor(_READERS) as readers:
            done = sum(readers.map(read, range(_READERS)))
        return done / 1e6 / max(1e-6, perf_counter() - began) if done else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def largest_object(config: Config) -> Path | None:
    """Return the store's largest object that is large enough to be timed and may be read; None without one."""
    largest, size = None, _OWN_BYTES
    with suppress(OSError):
        for path in ContentStore(config.at.store).objects.glob("*/*"):
            length = path.lstat().st_size
            if length >= size and os.access(path, os.R_OK):
                largest, size = path, length
    return largest


def _own(folder: Path) -> Path | None:
    if not os.access(folder, os.W_OK):
        return None
    file = folder / f".doctor-reads-{os.getpid()}"
    block = os.urandom(_CHUNK_BYTES)  # what a disk cannot make smaller
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(_OWN_BYTES // len(block)):
                os.write(descriptor, block)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with suppress(OSError):
            file.unlink()
        return None
    return file


def card_speed(config: Config, folder: Path = CARDS) -> Iterator[Finding]:
    """Whether the fastest network card that is up is fast enough; nothing where none says its speed."""
    if config.places.root != "/":
        return
    speeds = {card.name: card_mbit(card) for card in folder.glob("*") if card.name != "lo" and is_up(card)}
    name, fastest = max(speeds.items(), key=lambda one: one[1], default=("", 0))
    if not fastest:  # a virtual card, or one that does not say
        return
    yield Finding(
        name="network speed",
        is_good=False if fastest < LEAST_MBIT else True if fastest >= ADVISED_MBIT else None,
        text=f"{name} {fastest} Mbit/s; {LEAST_MBIT} are the least, {ADVISED_MBIT} advised",
        why="callers' questions, records to a collector and copies to another box share it",
        fix="use a faster port of the switch, another cable or another card; `ethtool` says what both sides offer",
    )


def times(config: Config) -> Iterator[Finding]:
    """How long each machine that the site file names takes to answer a connection; ``udp`` has none to be timed."""
    if config.places.root != "/":
        return
    named = [(one, *one.split()[1:]) for one in config.destinations if one.startswith("tcp ")]
    with ThreadPoolExecutor(_AT_ONCE) as callers:
        taken = list(callers.map(lambda one: connects(one[1], int(one[2])), named))
    for (destination, *_), millis in zip(named, taken, strict=True):
        yield judged_time(destination, millis)


def judged_time(destination: str, taken: Sequence[float]) -> Finding:
    """Return what is to be said of a destination whose connections took so many milliseconds each."""
    millis = sorted(taken)
    why = "a question waits for whatever is asked on its way"
    if not millis:
        return Finding(
            name="network time",
            is_good=None,
            text=f"{destination} does not take connections",
            why=why,
            fix="`sealift network show` says whether the filter lets it through; look at that machine and the cable",
        )
    middle, slowest = millis[len(millis) // 2], millis[-1]
    return Finding(
        name="network time",
        is_good=False if middle > MOST_MILLIS else None if slowest > MOST_MILLIS else True,
        text=f"{destination} {middle:.1f} ms, the slowest of {len(millis)} {slowest:.1f}; at most {MOST_MILLIS:g}",
        why=why,
        fix="look for a route through other houses, a busy link or a card at half duplex; put both on one switch",
    )


def connects(address: str, port: int, *, tries: int = _TRIES, seconds: float = _SECONDS_EACH) -> list[float]:
    """Return the milliseconds of each connection to a port, closed again at once; none where the first is not taken.

    Args:
        address: Where to.
        port: Likewise.
        tries: How many connections at most.
        seconds: How long all of them may take together.
    """
    found: list[float] = []
    end = perf_counter() + seconds
    with suppress(OSError):  # the first that is not taken ends it
        while len(found) < tries and (left := end - perf_counter()) > 0:
            began = perf_counter()
            with socket.create_connection((address, port), timeout=left):
                found.append((perf_counter() - began) * 1000)
    return found
