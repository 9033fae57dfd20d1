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


class Here:
    """Loopback in the place of an interface: what this machine has by the kernel's word, and what it has not."""

    YES, NO = "127.0.0.1", "192.0.2.77"


def test_an_address_that_an_interface_lost_is_put_again_and_announced(ip: Path) -> None:
    announced: list[str] = []
    lost = InterfaceAddress(Here.NO, "eth0", announce=lambda: announced.append("now"))
    there = InterfaceAddress(Here.YES, "eth0", announce=lambda: announced.append("never"))

    for now in (100.0, 100.4, 104.9, 105.0):
        lost.keep(now)
        there.keep(now)

    assert (ip.parent / "told").read_text() == f"address replace {Here.NO}/32 dev eth0\n" * 2  # each five seconds
    assert announced == ["now", "now"]


def test_an_interface_that_comes_late_gets_the_address_and_its_absence_is_told_once(
    ip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    announced: list[str] = []
    own = InterfaceAddress(Here.NO, "eth0", announce=lambda: announced.append("now"))
    working = ip.read_text()
    ip.write_text("#!/bin/sh\necho 'Cannot find device \"eth0\"' >&2\nexit 1\n")

    own.put()
    own.keep(100.0)

    assert announced == []
    assert capsys.readouterr().err.count("the service address cannot be taken") == 1
    ip.write_text(working)
    own.keep(105.0)
    assert announced == ["now"]


def test_a_program_that_does_not_end_holds_up_what_keeps_the_lease_once_in_a_minute(
    ip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip.write_text(f"#!/bin/sh\necho asked >> {ip.parent}/told\nexec sleep 30\n")
    monkeypatch.setattr(address, "_SECONDS", 0.5)
    own = InterfaceAddress(Here.NO, "eth0", announce=lambda: None)

    for now in (100.0, 105.0, 159.0):
        own.keep(now)

    assert (ip.parent / "told").read_text() == "asked\n"
