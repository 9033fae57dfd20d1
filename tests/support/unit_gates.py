"""What a unit of ours must hold before it is let in, as data: the gate of tests/host and the table of docs/operator."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.unit_files import values

EXAMPLE: Final = "sealift-scrub.service (a oneshot) or sealift-metrics.service (a service)"

# Exposure by `systemd-analyze security`, in tenths, of a unit without a network and of one with.
WITHOUT_NETWORK: Final = 5
WITH_NETWORK: Final = 15
# What cannot be held to that: the figure it is held to, and the settings that its file must give the reasons of.
EXCEPTIONS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "sealift-announce.service": (11, ("CapabilityBoundingSet", "PrivateUsers", "PrivateNetwork")),
    "sealift-standby.service": (14, ("CapabilityBoundingSet", "PrivateUsers", "PrivateNetwork")),
    "sealift-standby-sync.service": (14, ("PrivateUsers", "PrivateNetwork")),
    "sealift-clock-set@.service": (
        13,
        ("CapabilityBoundingSet", "AmbientCapabilities", "PrivateDevices", "PrivateUsers", "ProtectClock"),
    ),
    "sealift-install@.service": (15, ("User", "CapabilityBoundingSet", "PrivateUsers")),
    "sealift-settle.service": (15, ("User", "CapabilityBoundingSet", "PrivateUsers")),
    "sealift-try-nftables@.service": (6, ("CapabilityBoundingSet", "AmbientCapabilities", "PrivateUsers")),
}
HARDENING: Final = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "PrivateNetwork": "yes",
    "PrivateMounts": "yes",
    "IPAddressDeny": "any",
    "RestrictAddressFamilies": "AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "KeyringMode": "private",
    "RemoveIPC": "yes",
    "UMask": "0077",
    "LimitCORE": "0",
    "CoredumpFilter": "0x0",
    "MemorySwapMax": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What systemd's own judge says of a file: tenths of 0 to 10, and what weighs most, heaviest first."""

    tenths: int
    weighs: tuple[str, ...]


def judge() -> str:
    """Return the version of `systemd-analyze` as it says it itself, or nothing where there is none."""
    try:
        return subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def exposure(path: Path, *, root: Path | None = None) -> Exposure:
    """Judge one unit file, or with `root` the unit of that name there, drop-ins included."""
    where = [f"--root={root}", path.name] if root else [str(path)]
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", *where],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"Overall exposure level for [^:]*: ([0-9]+)\.([0-9])", told)
    assert found is not None, told[-300:]
    weighs = re.findall(r"^\u2717 (.*?) +(\S.*?) +([0-9]+\.[0-9]) *$", told, re.MULTILINE)
    heaviest = sorted(weighs, key=lambda row: -float(row[2]))
    return Exposure(
        tenths=int(found[1]) * 10 + int(found[2]), weighs=tuple(f"{row[2]} {row[0]} {row[1]}" for row in heaviest)
    )


def allowed_tenths(path: Path) -> int:
    """Return the figure that a unit is held to: by whether it has a network, unless it is an exception by name."""
    if path.name in EXCEPTIONS:
        return EXCEPTIONS[path.name][0]
    return WITHOUT_NETWORK if values(path, "PrivateNetwork") == ["yes"] else WITH_NETWORK


def unexplained(text: str) -> list[str]:
    """Return the settings of `HARDENING` that a unit file relaxes without saying why next to it.

    A setting that is given another value has a comment right above it; one that is absent has a comment
    ``# No SETTING: the reason``.
    """
    lines = text.splitlines()
    missing = []
    for key, expected in HARDENING.items():
        places = [number for number, line in enumerate(lines) if line.startswith(f"{key}=")]
        if [lines[number].partition("=")[2] for number in places] == [expected]:
            continue
        if places:
            is_told = all(lines[number - 1].startswith("# ") for number in places)
        else:
            is_told = any(re.match(rf"# No {key}: \w+", line) for line in lines)
        if not is_told:
            missing.append(key)
    return missing
