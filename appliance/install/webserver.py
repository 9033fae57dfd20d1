"""The web server as rotation sees it: told to read its files again, then looked at from outside.

nginx begins new workers and lets the old ones finish what they serve (nginx.org, "Controlling nginx"), so that no
answer is cut. That it was told proves nothing; the certificate that a new connection is shown does.
"""

import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final, Protocol

from appliance.errors import UnitError

_UNIT: Final = "nginx.service"
_TELL_SECONDS: Final = 60
_LOOK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
_PATIENCE: Final = 100


class WebServer(Protocol):
    """What shows this box's certificate to callers."""

    def reload(self) -> bool:
        """Have the files read again; False where no web server runs here.

        Raises:
            UnitError: It refused them; what ran before runs on.
        """
        ...

    def shown(self) -> str:
        """Return the SHA-256 of the certificate that a new connection is shown; empty when there is no answer."""
        ...


class NoWebServer:
    """Where none runs: a demo, or an install that starts it later."""

    def reload(self) -> bool:
        """Do nothing."""
        return False

    def shown(self) -> str:
        """Return nothing."""
        return ""


class Nginx:
    """nginx under systemd.

    Args:
        hostname: The name that callers ask for.
        port: Where it listens on this machine.
        systemctl: The program.
    """

    def __init__(self, hostname: str, *, port: int = 443, systemctl: str = "systemctl") -> None:
        self._hostname = hostname
        self._port = port
        self._systemctl = systemctl

    def reload(self) -> bool:
        """Reload the unit; see `WebServer.reload`."""
        if self._tell("is-active", "--quiet") != 0:
            return False
        if (code := self._tell("reload")) != 0:
            raise UnitError(
                what="the web server did not read its files again",
                why=f"systemctl answered {code}",
                fix="read `nginx -t` and `journalctl -u nginx`",
            )
        return True

    def shown(self) -> str:
        """Connect and look; see `WebServer.shown`."""
        return shown_at("127.0.0.1", self._port, self._hostname)

    def _tell(self, *words: str) -> int:
        command = [self._systemctl, "--no-ask-password", *words, _UNIT]
        try:
            return subprocess.run(command, capture_output=True, check=False, timeout=_TELL_SECONDS).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnitError(
                what="systemd does not answer", why=type(error).__name__, fix="run `systemctl status nginx`"
            ) from error


def shown_at(address: str, port: int, hostname: str) -> str:
    """Return the SHA-256 of what a server shows for a name, whoever vouches for it; empty when there is no answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the bytes themselves are compared with those on the disk
    try:
        with (
            socket.create_connection((address, port), timeout=_LOOK_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=hostname) as wrapped,
        ):
            return sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
    except OSError:
        return ""


def take_up(server: WebServer, fingerprint: str, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Have the server read its files again and return when it shows that certificate; False where none runs.

    Raises:
        UnitError: It refused them, or still shows another one after twenty seconds.
    """
    if not server.reload():
        return False
    for _ in range(_PATIENCE):
        if server.shown() == fingerprint:
            return True
        sleep(_PAUSE_SECONDS)
    raise UnitError(
        what="the web server does not show the new certificate",
        why=f"expected {fingerprint[:12]}, it shows {server.shown()[:12] or 'nothing'}",
        fix="read `nginx -t` and `journalctl -u nginx`",
    )
