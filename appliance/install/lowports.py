"""What root does before `sealift-try-nginx@` tries a file: in that unit's own network any user may open low ports.

Entry point: ``python -I -m appliance.install.lowports``. systemd starts it in the unit's network name space, which goes
with the unit. The kernel keeps the lowest port that needs a right for each network by itself (the kernel's ip-sysctl,
ip_unprivileged_port_start), so what tries the file needs no right of its own. In the machine's network nothing is
changed: where this process is in it, that is an error.
"""

import sys
from pathlib import Path
from typing import Final

from appliance.errors import InstallError
from media.errors import SealiftError

_NETWORKS: Final = (Path("/proc/self/ns/net"), Path("/proc/1/ns/net"))
_FIRST_FREE_PORT: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def open_low_ports(networks: tuple[Path, Path] = _NETWORKS, setting: Path = _FIRST_FREE_PORT) -> None:
    """Let any user open ports below 1024 in this process's network, of IPv4 and IPv6.

    Args:
        networks: Names of this process's network and of the machine's.
        setting: The kernel's for this process's network.

    Raises:
        InstallError: This is the machine's own network, or the kernel refuses.
    """
    try:
        if networks[0].stat().st_ino == networks[1].stat().st_ino:
            raise _refused("this process is in the machine's own network")
        setting.write_bytes(b"0")
    except OSError as error:
        raise _refused(error.strerror or type(error).__name__) from error


def _refused(why: str) -> InstallError:
    return InstallError(
        what="low ports were not opened for a trial of the web server's file",
        why=why,
        fix="look at PrivateNetwork= of sealift-try-nginx@ (`systemctl cat`), then run the install again",
    )


def main() -> int:
    """Open them; returns the exit code."""
    try:
        open_low_ports()
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
