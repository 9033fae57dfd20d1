"""Whether this machine can do what it is for: room, memory, processor, clock, names and modes, each with a remedy."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import scrub
from appliance.config import Config
from appliance.install.releases import InstalledReleases
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify import trust
from appliance.verify.fit import Machine, require_fit
from appliance.verify.freshness import BUILT
from media import canonical
from media.clock import Clock, to_text
from media.errors import SealiftError
from media.release import ReleaseTerms

_LEAST_FREE_BYTES: Final = 4 * 2**30
_LEAST_MEMORY_BYTES: Final = 2 * 2**30
_SOCKET_PATH_BYTES: Final = 100
_LONGEST_SOCKET: Final = "engine-production-0123456789ab"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    is_good: bool
    text: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding's fields."""
        return asdict(self)


def doctor(config: Config, *, clock: Clock) -> tuple[list[Finding], Machine]:
    """Look at everything; returns the findings and the machine's facts, which a sender may ask for."""
    machine = Machine.probe(config.profile)
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _room(config),
        _memory,
        lambda: _clock(config, clock),
        lambda: _fit(config, machine),
        lambda: _names(config),
        lambda: _modes(config),
        lambda: _scrubbed(config, clock),
        _tools,
    )
    return [finding for look in looks for finding in look()], machine


def _room(config: Config) -> Iterator[Finding]:
    for name, path in (("state", config.at.state), ("releases", config.at.releases)):
        place = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(place).free
        yield Finding(
            name=f"room for {name}",
            is_good=free >= _LEAST_FREE_BYTES,
            text=f"{free / 2**30:.1f} GiB free",
            fix=f"make {_LEAST_FREE_BYTES >> 30} GiB free",
        )


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        name="memory",
        is_good=total >= _LEAST_MEMORY_BYTES,
        text=f"{total / 2**30:.1f} GiB, {cores} cores",
        fix=f"{_LEAST_MEMORY_BYTES >> 30} GiB are the least, and the weights besides",
    )


def _clock(config: Config, clock: Clock) -> Iterator[Finding]:
    now, floor = clock.now(), BUILT
    with suppress(SealiftError):
        floor = max(floor, trust.load(config.at.trust, config.at.pinned_trust, may_begin=True).floor)
    yield Finding(
        name="clock",
        is_good=now >= floor,
        text=f"{to_text(now)}, nothing before {to_text(floor)} is believed",
        fix="set the machine's clock; records and stale dates depend on it",
    )


def _fit(config: Config, machine: Machine) -> Iterator[Finding]:
    stored = _release_to_judge(config)
    if stored is None:
        return
    try:
        signed = canonical.loads((stored.folder / f"metadata/{stored.serial}.targets.json").read_bytes())["signed"]
        target = require_fit(ReleaseTerms.from_targets(signed), machine)
        yield Finding(name="processor", is_good=True, text=f"fits {stored.release} ({target.profile})")
    except SealiftError as error:
        yield Finding(name="processor", is_good=False, text=error.why or error.what, fix=error.fix)
    except (OSError, KeyError, TypeError):
        yield Finding(
            name="processor", is_good=False, text="the stored release's terms cannot be read", fix="receive it again"
        )


def _release_to_judge(config: Config) -> StoredRelease | None:
    store, current = ContentStore(config.at.store), InstalledReleases(config.at).current()
    try:
        if current is not None:
            return StoredRelease.load(store, current.serial)
        held = store.releases()
        return held[-1] if held else None
    except SealiftError:
        return None


def _names(config: Config) -> Iterator[Finding]:
    longest = len(os.fsencode(str(config.at.socket(_LONGEST_SOCKET))))
    yield Finding(
        name="socket paths",
        is_good=longest <= _SOCKET_PATH_BYTES,
        text=f"{longest} of {_SOCKET_PATH_BYTES} bytes",
        fix="give places.run a shorter path",
    )
    is_loopback = config.service.host in {"127.0.0.1", "::1", "localhost"}
    yield Finding(
        name="bind address",
        is_good=is_loopback,
        text=config.service.host,
        fix="bind to loopback; the web server in front speaks to the network, with TLS",
    )
    if config.environment == "production":
        yield Finding(
            name="tls", is_good=config.service.tls, text="on" if config.service.tls else "off", fix="set service.tls"
        )


def _modes(config: Config) -> Iterator[Finding]:
    folder = config.at.key_files
    if not folder.is_dir():
        yield Finding(name="keys", is_good=False, text="there are none yet", fix="run `sealift install`")
        return
    wide = [path.name for path in (folder, *_files(folder)) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    yield Finding(
        name="keys",
        is_good=not wide,
        text=f"{len(list(_files(folder)))} files, "
        + (f"others may read {', '.join(wide)}" if wide else "for root alone"),
        fix="take the rights of group and others away",
    )


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.is_file())
    except PermissionError:
        return


def _scrubbed(config: Config, clock: Clock) -> Iterator[Finding]:
    found = scrub.standing(config, clock=clock)
    if found.is_good is not None:
        yield Finding(
            name="store",
            is_good=found.is_good,
            text=found.text,
            fix="run `sealift scrub`; what it finds bad is received again from a full set of media",
        )


def _tools() -> Iterator[Finding]:
    missing = [name for name in ("gpgv",) if shutil.which(name) is None]
    yield Finding(
        name="tools",
        is_good=not missing,
        text=f"missing: {', '.join(missing)}" if missing else "gpgv is there",
        fix="install Debian's package gpgv",
    )
