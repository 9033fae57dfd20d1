"""systemd's own contract with a service, and nothing else: the same entry point runs on the box and in the demo.

What is told to this process alone, where it notifies and how long it may be silent, is taken out of the environment
when it is read first. A program that it starts is not listened to (NotifyAccess=main), and some speak whenever they
find the address, as systemctl does where it fails (ERRNO=): each such word would be a warning in the unit's journal.

Sources: systemd.exec(5) for the directories and credentials, sd_listen_fds(3), sd_notify(3).
"""

import math
import os
import select
import socket
import threading
from pathlib import Path

from appliance.errors import KeyMissingError, UnitError

CORE = "SEALIFT_GATEWAY_CORE"
"""Names the core that a gateway is to keep to; `sealift run-units`, where no engine leaves one, passes it to nobody."""

_FIRST_FD = 3
_ADDRESS, _LIMIT, _MEANT = _OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_taken: dict[str, str] = {}
_taking = threading.Lock()


def begin() -> None:
    """Take what the supervisor told this process alone out of the environment, before any other program is started."""
    with _taking:
        for name in _OWN:
            if (value := os.environ.pop(name, None)) is not None:
                _taken[name] = value


def _told(name: str) -> str:
    begin()
    return _taken.get(name, "")


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


def listening_at(path: Path, *, mode: int = 0o660, backlog: int = 64) -> socket.socket:
    """Return a socket made at its place, for an entry point that no supervisor passed it to; an old one is replaced.

    Raises:
        OSError: It cannot be made there.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(str(path))
    path.chmod(mode)
    listener.listen(backlog)
    return listener


class Ending(threading.Event):
    """Whether this process is told to end, which a signal's handler may set at any moment, as it may no other event.

    A handler runs in the main thread, which waits for the event itself. Where that holds the event's own lock just
    then, as it does for an instant of each wait, `threading.Event.set` waits for the lock for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_told = False
        # One byte, which nobody reads: from then on every wait is over.
        self._read, self._written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def is_set(self) -> bool:
        """Tell whether it is."""
        return self._is_told

    def set(self) -> None:
        """Tell it, for good."""
        if not self._is_told:
            self._is_told = True
            os.write(self._written, b".")

    def clear(self) -> None:
        """Do nothing: what was told is not taken back."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return when it is told, or after so many seconds; tell whether it is."""
        if not self._is_told:
            poll = select.poll()
            poll.register(self._read, select.POLLIN)
            poll.poll(None if timeout is None else max(0, math.ceil(timeout * 1000)))
        return self._is_told

    def __del__(self) -> None:
        for descriptor in (self._read, self._written):
            os.close(descriptor)


class Notifier:
    """Tells the supervisor states, e.g. ``READY=1`` or ``STATUS=...``; says nothing where none listens.

    One socket is kept, so that it works where the process may open no socket any more.
    """

    def __init__(self) -> None:
        address = _told(_ADDRESS)
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Open the socket now.

        Raises:
            OSError: The supervisor has gone away.
        """
        if self._socket is None and self._address:
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                sender.connect(self._address)
            except OSError:
                sender.close()
                raise
            self._socket = sender

    def tell(self, message: str) -> None:
        """Send one message.

        Raises:
            OSError: The supervisor has gone away.
        """
        self.connect()
        if self._socket is not None:
            self._socket.sendall(message.encode())

    def close(self) -> None:
        """Close the socket; the next message opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def notify(message: str) -> None:
    """Send one state to the supervisor; silent when none listens."""
    notifier = Notifier()
    try:
        notifier.tell(message)
    finally:
        notifier.close()


def watchdog_seconds() -> float:
    """Return after how long a silence the supervisor ends this process (WatchdogSec=); 0 when it never does.

    Source: sd_watchdog_enabled(3).
    """
    text, meant = _told(_LIMIT), _told(_MEANT)
    if not text.isascii() or not text.isdigit() or (meant and meant != str(os.getpid())):
        return 0.0
    return int(text) / 1_000_000
