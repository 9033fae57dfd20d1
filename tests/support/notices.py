"""What a service tells systemd, received in systemd's place."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance import unit


@contextmanager
def received(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Be who is told until the block ends; what an earlier test's process kept of its supervisor is forgotten."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.settimeout(30)
        notices.bind(str(folder / "n"))
        monkeypatch.setattr(unit, "_taken", {})
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "n"))
        yield notices
