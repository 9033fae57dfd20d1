"""What a paired box sends is on the disk, whole, before it has the name under which it is taken in."""

import base64
import os
from pathlib import Path

import pytest

from appliance.standby.bundle import ENVELOPE_NAME, LEAVES_NAME
from appliance.standby.inbox import Inbox


def test_a_bundle_is_durable_before_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, synced = Inbox(tmp_path), list[tuple[str, bool]]()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)
        synced.append((str(name), (tmp_path / "one.ready").exists()))
        real(descriptor)

    for name in (ENVELOPE_NAME, LEAVES_NAME):
        data = base64.b64encode(b"some").decode()
        assert inbox.handle("one", {"do": "put", "name": name, "offset": 0, "data": data}) == {"size": 4}
    monkeypatch.setattr(os, "fsync", fsync)
    assert inbox.handle("one", {"do": "done"}) == {"taken": True}

    assert synced == [
        *((f"one/{name}", False) for name in (ENVELOPE_NAME, LEAVES_NAME)),
        ("one", False),
        (".", True),
    ]
    assert {path.name for path in (tmp_path / "one.ready").iterdir()} == {ENVELOPE_NAME, LEAVES_NAME}
