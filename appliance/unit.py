"""systemd's own contract with a service, and nothing else: the same entry point runs on the box and in the demo.

Sources: systemd.exec(5) for the directories and credentials, sd_listen_fds(3), sd_notify(3).
"""

import os
import socket
from pathlib import Path

from appliance.errors import KeyMissingError, UnitError

_FIRST_FD = 3


def directory(kind: str) -> Path:
    """Return STATE, RUNTIME or CONFIGURATION directory as the supervisor gave it.

    Raises:
        UnitError: The supervisor did not set it.
    """
    value = os.environ.get(f"{kind}_DIRECTORY", "")
    if not value:
        raise UnitError(
            what=f"{kind}_DIRECTORY is not set",
            why="this entry point runs as a systemd unit or below `sealift run-units`",
            fix="start it with systemctl or with `sealift run-units`",
        )
    return Path(value.split(":", maxsplit=1)[0])


def credential(name: str) -> bytes:
    """Return the bytes of one credential (LoadCredential=).

    Raises:
        KeyMissingError: The supervisor passed no such credential.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        return (Path(folder) / name).read_bytes() if folder else _no_credential(name)
    except OSError as error:
        raise KeyMissingError(
            what=f"the credential {name} cannot be read",
            why=error.strerror or "",
            fix="check LoadCredential= of the unit",
        ) from error


def _no_credential(name: str) -> bytes:
    raise KeyMissingError(
        what=f"the credential {name} was not passed",
        why="CREDENTIALS_DIRECTORY is not set",
        fix="start the unit with it",
    )


def listening_sockets() -> dict[str, socket.socket]:
    """Return the sockets passed by name (FileDescriptorName=), taking them from the environment once.

    Returns:
        An empty mapping when the process was not socket-activated.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    os.environ.pop("LISTEN_PID", None)
    found: dict[str, socket.socket] = {}
    for offset in range(count):
        fd = _FIRST_FD + offset
        os.set_inheritable(fd, False)
        name = names[offset] if offset < len(names) and names[offset] else f"fd{fd}"
        found[name] = socket.socket(fileno=fd)
    return found


def notify(message: str) -> None:
    """Send one state to the supervisor, e.g. ``READY=1`` or ``STATUS=...``; silent when none listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.sendall(message.encode())
