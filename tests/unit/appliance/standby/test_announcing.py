"""Telling the neighbours where the service address is: the packet, who is answered, and what is never announced."""

import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.standby import announcing

# As Linux prints it: the address of the box, the service address, and that of a neighbour to which a route leads.
TABLE = """Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.79.0.1
        /32 host LOCAL
     |-- 10.79.0.100
        /32 host LOCAL
     |-- 10.79.0.7
        /32 link UNICAST
"""


def site(root: Path, address: str) -> Config:
    section = {"service_address": address, "interface": "cable0"} if address else {}
    return Config.model_validate({"site": "demo", "places": {"root": str(root)}, "standby": section})


@pytest.mark.parametrize(
    ("address", "is_announced"),
    [
        ("10.79.0.100", True),
        ("10.79.0.10", False),  # another box has it: nobody may draw it here by asking
        ("10.79.0.7", False),
        ("fd79::100", False),
        ("", False),
    ],
)
def test_what_this_machine_has_is_announced_and_nothing_else(
    tmp_path: Path, address: str, *, is_announced: bool
) -> None:
    sent: list[tuple[str, IPv4Address]] = []
    (tmp_path / "fib_trie").write_text(TABLE)

    found = announcing.announce(
        site(tmp_path, address), send=lambda *told: sent.append(told), addresses=tmp_path / "fib_trie"
    )

    assert found is is_announced
    assert sent == ([("cable0", IPv4Address(address))] if is_announced else [])


def test_this_kernels_own_table_is_read(tmp_path: Path) -> None:
    sent: list[IPv4Address] = []

    announcing.announce(site(tmp_path, "127.0.0.1"), send=lambda _, address: sent.append(address))

    assert sent == [IPv4Address("127.0.0.1")]


def test_the_packet_is_an_announcement_to_everybody_of_sender_and_target_alike() -> None:
    card, address = bytes.fromhex("02005e100001"), IPv4Address("10.79.0.100")

    frame = announcing.packet(card, address)

    assert frame[:14] == b"\xff" * 6 + card + b"\x08\x06"
    # Ethernet, IPv4, their lengths, a request: RFC 826; sender and target protocol address alike: RFC 5227.
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert (frame[22:28], frame[28:32], frame[32:38], frame[38:]) == (card, address.packed, bytes(6), address.packed)


def test_whoever_asked_until_now_is_answered_once_and_nobody_is_waited_for(tmp_path: Path) -> None:
    config = site(tmp_path, "10.79.0.100")
    place = config.at.socket(announcing.DOOR)
    place.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(4)
        for _ in range(3):
            announcing.ask(config.at)

        announcing.answer(listener)

        with pytest.raises(BlockingIOError):
            listener.accept()


def test_where_nobody_announces_the_address_is_taken_all_the_same(tmp_path: Path) -> None:
    announcing.ask(site(tmp_path, "10.79.0.100").at)
