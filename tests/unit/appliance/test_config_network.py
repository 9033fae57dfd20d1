"""The site file's [network]: what reaches the packet filter is an address, a network or a destination, nothing else."""

import pytest

from appliance.config import parse
from appliance.errors import ConfigError


def test_networks_and_destinations_are_read_and_normalised() -> None:
    config = parse(
        b'site = "s"\n[network]\naddresses = ["10.1.2.3"]\nclients = ["10.0.0.0/8"]\n'
        b'management = ["10.0.0.0/24", "fd00::/8"]\negress = ["udp 10.0.0.5 0123"]\n'
    )

    assert config.network.egress == ["udp 10.0.0.5 123"]
    assert config.network.management == ["10.0.0.0/24", "fd00::/8"]


def test_without_a_section_only_private_networks_reach_the_box_and_it_calls_nobody() -> None:
    config = parse(b'site = "s"\n')

    assert "0.0.0.0/0" not in config.network.clients
    assert config.network.egress == []


@pytest.mark.parametrize(
    "line",
    [
        'clients = ["any"]',
        'clients = ["10.0.0.0/8 accept; #"]',
        'addresses = ["host.example"]',
        'egress = ["udp 10.0.0.5 0"]',
        'egress = ["udp 10.0.0.5 70000"]',
        'egress = ["icmp 10.0.0.5 1"]',
        'egress = ["udp ; 1"]',
        'clients = "10.0.0.0/8"',
        'clients = ["fe80::1%x; accept"]',
        'addresses = ["fe80::1%eth0"]',
        'egress = ["udp fe80::1%x;y 1"]',
    ],
)
def test_anything_else_in_network_is_refused_by_its_key(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f'site = "s"\n[network]\n{line}\n'.encode())

    assert caught.value.what.startswith(f"network.{line.split(maxsplit=1)[0]}")


@pytest.mark.parametrize("collector", ["", 'syslog = "udp 10.0.0.6 514"\n'])
def test_the_name_in_a_collectors_certificate_needs_a_collector_that_can_speak_tls(collector: str) -> None:
    with pytest.raises(ConfigError, match="syslog_server names the certificate"):
        parse(f'site = "s"\n[alerts]\n{collector}syslog_server = "log.hospital.internal"\n'.encode())

    given = parse(b'site = "s"\n[alerts]\nsyslog = "tcp 10.0.0.6 6514"\nsyslog_server = "log.hospital.internal"\n')
    assert given.alerts.syslog_server == "log.hospital.internal"


@pytest.mark.parametrize("addresses", ['"0.0.0.0"', '"127.0.0.1", "::1"', '"224.0.0.1"', '"127.0.0.1", "10.0.0.5"'])
def test_a_site_file_is_read_as_before_whose_addresses_no_network_reaches(addresses: str) -> None:
    """Every unit reads it, so one that was taken once is not refused; setup refuses it, and doctor says so."""
    assert parse(f'site = "s"\n[network]\naddresses = [{addresses}]\n'.encode()).network.addresses
