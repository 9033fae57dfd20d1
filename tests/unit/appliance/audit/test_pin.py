"""The ledger's key outside the ledger: written once, whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from appliance.audit import pin
from appliance.audit.note import VerifierKey
from appliance.config import Places
from tests.support.promotion import site_config

KEY, OTHER = (VerifierKey(name="sealift/demo/ledger", public=bytes([number]) * 32) for number in (1, 2))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = site_config(tmp_path).at
    found.etc.mkdir(parents=True, exist_ok=True)
    return found


def test_a_pin_is_written_once_and_for_everybody_to_read(places: Places) -> None:
    assert (pin.pin(places, KEY), pin.pin(places, OTHER)) == (True, False)

    assert pin.read_pin(places) == KEY
    assert stat.S_IMODE((places.etc / pin.FILE_NAME).stat().st_mode) == 0o644
    assert [path.name for path in places.etc.iterdir()] == [pin.FILE_NAME]


def test_power_that_fails_before_a_pin_is_on_the_disk_leaves_none(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(os, "fsync", cut)
        with pytest.raises(KeyboardInterrupt):
            pin.pin(places, KEY)
    assert pin.read_pin(places) is None

    assert pin.pin(places, KEY)
    assert pin.read_pin(places) == KEY
