"""What doctor looks at below the software: disks, file systems, memory against weights, GPU, addresses, cards."""

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.actions import filesystems, listening, nettest
from appliance.actions.backups import fstab
from appliance.actions.filesystems import LEDGER, existing
from appliance.actions.findings import Finding
from appliance.config import Config, StandbySection
from appliance.errors import PreflightError
from appliance.mounttables import is_local, mount_points
from appliance.sitevalues import reaches_a_box
from appliance.standby import permit
from appliance.verify.fit import Machine
from media.clock import Clock, SystemClock
from media.cudadrivers import built_for, least_driver, runs, spelled
from media.wheelnames import canonical

_MOUNTS: Final = Path("/proc/self/mountinfo")
CARDS: Final = Path("/sys/class/net")
_PROBE_BYTES: Final = 16 * 2**20
_PROBE_ROOM: Final = 4 * _PROBE_BYTES
_COMMITS: Final = 8
_OLDEST_TEST_SECONDS: Final = 3600
"""As the alert `NetworkTestOld` has it; the timer tests every five minutes."""
_SLOWEST_MIB: Final = 20
_SLOWEST_COMMIT_MILLIS: Final = 50
_WHY_ROOM: Final = {
    "system": "on a full one what runs goes on, but no unit starts: systemd makes a folder for each there",
    "backup": "the next backup finds no room, and a lost disk would be a lost ledger since the one before",
}
_THEN_MEND: Final = {"system": "; then `sealift doctor --mend` starts what could not"}
_PACKAGE: Final = re.compile(r"([^-]+)-([^-]+)\.dist-info")


def room(config: Config) -> Iterator[Finding]:
    """Whether each file system that the box needs has room."""
    for found in filesystems.file_systems(config):
        yield Finding(
            name=f"room for {found.place}",
            is_good=not found.is_short,
            text=f"{found.free / 2**30:.1f} GiB free",
            why=_WHY_ROOM.get(found.place, "a full disk stops records, and without a record there is no answer"),
            fix=f"make {found.least / 2**30:.1f} GiB free{_THEN_MEND.get(found.place, '')}",
        )


def disk_speed(config: Config, device_of: Callable[[Path], int] = filesystems.device) -> Iterator[Finding]:
    """How fast each file system of state, ledger and store takes bytes and commits; each is looked at once.

    Nothing is said of one where this user may not write, nor of one that is as good as full, which is another finding.

    Args:
        config: The site file.
        device_of: Tells the file system that a path lies on.
    """
    for on_it in _apart(config, device_of):
        folder = next((path for path in on_it.values() if os.access(path, os.W_OK)), None)
        if folder is None or shutil.disk_usage(folder).free < _PROBE_ROOM:
            continue
        probe = folder / f".doctor-{os.getpid()}"
        try:
            rate, commit = _write(probe)
        except OSError:
            continue
        finally:
            with suppress(OSError):
                probe.unlink()
        yield from _judged(", ".join(on_it), rate, commit, has_records=LEDGER in on_it)


def _apart(config: Config, device_of: Callable[[Path], int]) -> Iterable[dict[str, Path]]:
    """Return for each file system which folders lie on it, by name; state first."""
    found: dict[int, dict[str, Path]] = {}
    for name, path in {"state": config.at.state, LEDGER: config.at.ledger, "store": config.at.store}.items():
        with suppress(OSError):  # not there yet, or not for this user to see
            found.setdefault(device_of(path), {})[name] = path
    return found.values()


def _judged(places: str, rate: float, commit: float, *, has_records: bool) -> Iterator[Finding]:
    yield Finding(
        name="disk speed",
        is_good=rate >= _SLOWEST_MIB,
        text=f"{places}: {rate:.0f} MiB/s written",
        why="loading a model and receiving a release read and write gigabytes, and every answer writes its record",
        fix="put it on an SSD, or look at the disk's health (smartctl)",
    )
    yield Finding(
        name="disk commit",
        is_good=None if commit > _SLOWEST_COMMIT_MILLIS else True,
        text=f"{places}: {commit:.1f} ms until a small write is durable",
        why="each answer waits for its record to be durable"
        if has_records
        else "no record of an answer waits for this disk; what is received, promoted and counted does",
        fix="a disk with power-loss protection commits in under 1 ms",
    )


def _write(probe: Path) -> tuple[float, float]:
    block = os.urandom(2**20)
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        began = time.monotonic()
        for _ in range(_PROBE_BYTES // len(block)):
            os.write(descriptor, block)
        os.fdatasync(descriptor)
        rate = _PROBE_BYTES / 2**20 / max(1e-6, time.monotonic() - began)
        times = []
        for _ in range(_COMMITS):
            began = time.monotonic()
            os.write(descriptor, block[:512])
            os.fdatasync(descriptor)
            times.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
    return rate, sorted(times)[_COMMITS // 2] * 1000


def file_systems(config: Config, mounts: Path = _MOUNTS, disks: Path = fstab.FSTAB) -> Iterator[Finding]:
    """Whether everything that must be durable lies on a local file system, and backups on another."""
    table = _mounts(mounts)
    remote = dict(_remote(config, table))
    yield Finding(
        name="file systems",
        is_good=not remote,
        text="; ".join(f"{name} lies on {kind}" for name, kind in remote.items()) or "all local",
        why="databases and the ledger rely on locks and syncs of this machine's own, which such a one does not keep",
        fix="put /var/lib/sealift, /opt/sealift and /etc/sealift, with all that lies in them, on a local disk",
    )
    if not config.backup.folder:
        yield Finding(
            name="backup",
            is_good=None,
            text="has no place yet",
            why="a lost disk would be a lost ledger",
            fix="set backup.folder to a folder on another disk",
        )
        return
    folder = Path(config.backup.folder)
    is_there, is_apart = folder.is_dir(), _mount_of(folder, table)[0] != _mount_of(config.at.state, table)[0]
    yield Finding(
        name="backup",
        is_good=is_there and is_apart,
        text="on another file system"
        if is_there and is_apart
        else "on the state's own disk"
        if is_there
        else "not there",
        why="a backup on the same disk goes with it",
        fix="mount the second disk, and set backup.folder to a folder on it",
    )
    if found := fstab.standing(config, fstab=disks, mounted=[point for point, _ in table]):
        yield found


def require_local(config: Config, mounts: Path = _MOUNTS) -> None:
    """Pass where everything that must be durable lies on a local file system.

    Raises:
        PreflightError: Something does not.
    """
    found = next(file_systems(config, mounts))
    if not found.is_good:
        raise PreflightError(what=found.text, why=found.why, fix=found.fix)


def _remote(config: Config, table: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield by name what lies on a file system that is not local: a place, or a folder in it that has one of its own.

    Ledger, store and keys are such folders, and any may be a mount or a link. Backups may lie where a site wants them.
    """
    backups = Path(config.backup.folder) if config.backup.folder else None
    for name, path in {"state": config.at.state, "releases": config.at.releases, "site file": config.at.etc}.items():
        point, kind = _mount_of(path, table)
        if not is_local(kind):
            yield name, kind
        for folder in _folders(path):
            own, kind = _mount_of(folder, table)
            if own != point and not is_local(kind) and not (backups and backups.is_relative_to(folder)):
                yield str(folder), kind


def _folders(path: Path) -> list[Path]:
    with suppress(OSError):  # who may not look there is told nothing of them
        return sorted(one for one in path.iterdir() if one.is_dir())
    return []


def _mounts(source: Path) -> list[tuple[str, str]]:
    """Return mount point and type of every mount."""
    with suppress(OSError):
        return list(mount_points(source.read_text("utf-8", "replace")))
    return []


def _mount_of(path: Path, table: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the mount that a path lies on: the last of the longest."""
    real = str(existing(path).resolve())
    best = ("/", "")
    for point, kind in table:
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, kind)
    return best


def memory(weights_bytes: int | None = None, *, context: str = "") -> Iterator[Finding]:
    """Whether memory holds the weights of what is in production, twice the system's own 1 GiB besides."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = 2 * 2**30 + (weights_bytes or 0)
    text = f"{total / 2**30:.1f} GiB, {len(os.sched_getaffinity(0))} cores"
    if weights_bytes:
        text += f"; {weights_bytes / 2**30:.1f} GiB of weights: {context}"
    yield Finding(
        name="memory",
        is_good=total >= needed,
        text=text,
        why="an engine without room is ended by the kernel in the middle of an answer",
        fix=f"{needed / 2**30:.1f} GiB are the least: more memory, or a version with smaller weights or n_ctx",
    )


def gpu(config: Config, machine: Machine) -> Iterator[Finding]:
    """Whether the driver is new enough for the CUDA that the installed engine environments bring (A46).

    By the same table as the sender judges a target's driver by; noted where both are newer than what it knows.
    """
    for environment in sorted(config.at.current.glob("engine-*")):
        named = (_PACKAGE.fullmatch(path.name) for path in environment.glob("lib/python3*/site-packages/*.dist-info"))
        found = (built_for(canonical(each[1]), each[2]) for each in named if each)
        cuda = max(filter(None, found), default=None)
        if cuda is None:
            continue
        least = least_driver(cuda)
        yield Finding(
            name="GPU driver",
            is_good=runs(machine.driver, cuda),
            text=f"{machine.driver or 'none'}; {environment.name} brings CUDA {spelled(cuda)}",
            why="a driver older than CUDA is the commonest silent failure: what an engine compiles fails later",
            fix=f"install NVIDIA's driver {least or 'that its release notes name'} or newer,"
            " or a release whose engine is built for an older CUDA",
        )


def addresses(
    config: Config, tables: Sequence[tuple[str, Path]] = listening.TABLES, *, clock: Clock | None = None
) -> Iterator[Finding]:
    """Whether the site file's addresses are this machine's, and nothing listens everywhere by accident (A51)."""
    section = config.standby
    # The service address is on the box of two that serves, and on no other.
    elsewhere = {section.service_address} if permit.shown(config) == "stands by" else set[str]()
    named = [one for one in dict.fromkeys((*config.network.addresses, section.listen)) if one]
    absent = [address for address in named if address not in elsewhere and not _is_here(address)]
    # With any, the packet filter drops what comes for all others.
    is_cut_off = bool(config.network.addresses) and not any(map(reaches_a_box, config.network.addresses))
    unlisted = [one for one in _of_standby(section) if config.network.addresses and one not in config.network.addresses]
    is_nowhere = bool(section.service_address) and not section.interface
    if named or is_nowhere:
        said = [f"not on this machine: {', '.join(absent)}" if absent else ", ".join(named)]
        said += ["by none of network.addresses does a network reach this machine"] if is_cut_off else []
        said += ["standby.service_address goes to no interface: standby.interface is empty"] if is_nowhere else []
        said += [f"{one} of standby is not among network.addresses: what comes for it is dropped" for one in unlisted]
        yield Finding(
            name="addresses",
            is_good=not absent and not is_cut_off and not unlisted and not is_nowhere,
            text="; ".join(said),
            why="the certificate names them, and callers use them; the other boxes use standby.listen",
            fix="correct network.addresses, standby.listen and standby.interface, or plug the network in",
        )
    if config.places.root != "/":
        return
    wrong = listening.misplaced(config, listening.listeners(tables))
    yield Finding(
        name="listeners",
        is_good=not wrong,
        text=f"nobody named: {', '.join(map(str, wrong))}" if wrong else "as they should be",
        why="a port on an address that nobody named is reachable from networks that nobody thought of",
        fix="bind that service to loopback, or stop it: `ss -tulnp` names it",
    )
    yield _packet_filter(nettest.published(config.at), clock or SystemClock())


def _packet_filter(tested: nettest.SelfTest | None, clock: Clock) -> Finding:
    if tested is None:
        is_good, text = None, "was not tested in this boot"
    elif tested.failed:
        is_good, text = False, "; ".join(f"{each.name}: {each.text}" for each in tested.failed)
    else:
        age = clock.monotonic() - tested.ticks
        is_good = True if age <= _OLDEST_TEST_SECONDS else None
        text = f"{sum(1 for each in tested.checks if each.holds)} checks held at {tested.at}"
        text += "" if is_good else f", {age / 3600:.0f} hours ago; `systemctl status sealift-network.timer` says why"
    return Finding(
        name="packet filter",
        is_good=is_good,
        text=text,
        why="a machine that can call out is not isolated, and one that is shut to its callers is of no use",
        fix="`sealift network show`; install the release again to write the rules anew",
    )


def cards(config: Config, folder: Path = CARDS) -> Iterator[Finding]:
    """Which network cards there are; a radio has no place in an air gap."""
    if config.places.root != "/":
        return
    names = sorted(path.name for path in folder.glob("*") if path.name != "lo")
    radios = [name for name in names if (folder / name / "wireless").exists() or (folder / name / "phy80211").exists()]
    live = [f"{name} {_speed(folder / name)}".strip() for name in names if is_up(folder / name)]
    yield Finding(
        name="network cards",
        is_good=not radios,
        text=f"radio: {', '.join(radios)}" if radios else ", ".join(live) or "none is up",
        why="an isolated machine has no way out that does not need a cable",
        fix="take the card out, or switch it off in the firmware",
    )


def is_up(card: Path) -> bool:
    """Whether a network card, by its folder of the kernel's, has a cable and is up."""
    return _read(card / "operstate") == "up"


def card_mbit(card: Path) -> int:
    """Return a network card's speed in Mbit/s; 0 for one that is down, virtual, or does not say."""
    text = _read(card / "speed")
    return int(text) if text.isdigit() else 0


def _speed(card: Path) -> str:
    mbit = card_mbit(card)
    return f"{mbit} Mbit/s" if mbit else ""


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _of_standby(section: StandbySection) -> list[str]:
    """Return the addresses at which a box of two is asked: for its lease, and where it serves for answers."""
    return [one for one in dict.fromkeys((section.listen, section.service_address)) if one]


def absent_of(config: Config) -> tuple[str, ...]:
    """Return those of the site file's addresses that this machine has not; what comes for others is dropped."""
    return tuple(address for address in dict.fromkeys(config.network.addresses) if not _is_here(address))


def _is_here(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:  # of a kernel without IPv6, too
        return False
    return True
