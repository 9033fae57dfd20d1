"""The service address on one interface, put there and taken away by ip(8)."""

from pathlib import Path

import pytest

from appliance.standby import address
from appliance.standby.address import InterfaceAddress


@pytest.fixture
def ip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in ip's place, which writes down what it was told."""
    place = tmp_path / "ip"
    place.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return place


@pytest.mark.parametrize(("told", "host"), [("10.0.0.10", "10.0.0.10/32"), ("fd00::a", "fd00::a/128")])
def test_it_comes_and_goes_and_is_announced_when_it_comes(ip: Path, told: str, host: str) -> None:
    announced: list[str] = []
    own = InterfaceAddress(told, "eth0", announce=lambda: announced.append("now"))

    own.put()
    own.take_away()

    lines = (ip.parent / "told").read_text().splitlines()
    assert lines == [f"address replace {host} dev eth0", f"address delete {host} dev eth0"]
    assert announced == ["now"]


def test_a_program_that_does_not_end_is_what_the_next_turn_tries_again(
    ip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(address, "_SECONDS", 0.1)

    # What else is raised ends the thread that keeps the lease.
    with pytest.raises(OSError, match="did not end"):
        InterfaceAddress("10.0.0.10", "eth0", announce=lambda: None).take_away()
