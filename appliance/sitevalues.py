"""What values of a site file look like: networks, addresses, destinations, names, paths; each checked as it is read."""

import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

_DESTINATION = re.compile(r"(tcp|udp) (\S{2,45}) ([0-9]{1,5})")
_SERVER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_WORDS = {
    "missing": "it must be given",
    "extra_forbidden": "there is no such key",
    "bool_type": "expected true or false, without quotes",
    "int_type": "expected a whole number, without quotes",
    "string_type": "expected a text, in quotes",
    "list_type": "expected a list, in square brackets",
    "too_short": "at least {min_length} must be given",
    "less_than_equal": "at most {le}",
    "greater_than_equal": "at least {ge}",
}
_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9+_][A-Za-z0-9._+-]{0,127}){1,16}")
_VARIABLE = re.compile(r"(?!LD_|GCONV|GLIBC|PYTHON|SEALIFT|PATH=|HOME=|TMPDIR=)([A-Z][A-Z0-9_]{1,63})=(.+)")
_MAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
Port = Annotated[int, Field(ge=0, le=65535)]


def faults_of(error: ValidationError) -> dict[str, str]:
    """Return what is wrong with the values of a file by dotted key, in words for who wrote it, in the order found."""
    told: dict[str, str] = {}
    for one in error.errors(include_input=False, include_url=False):
        key = ".".join(str(part) for part in one["loc"])
        words = _WORDS.get(one["type"], one["msg"].removeprefix("Value error, "))
        told.setdefault(key, words.format_map(one.get("ctx", {})) if one["type"] in _WORDS else words)
    return told


def _network(text: str) -> str:
    meant = ip_network(_without_zone(text), strict=False)
    try:
        return str(ip_network(text))
    except ValueError as error:
        message = f"{text[:50]} is an address and not a network, e.g. {meant}"
        raise ValueError(message) from error


def _address(text: str) -> str:
    return str(ip_address(_without_zone(text)))


def is_of_one_machine(text: str) -> bool:
    """Tell whether an address is that of a machine, be it this one: it is not unspecified, and not many machines'."""
    address = ip_address(text)
    return not (address.is_unspecified or address.is_multicast or text == "255.255.255.255")


def reaches_a_box(text: str) -> bool:
    """Tell whether others in a network can send to this address and mean one machine.

    None of a packet's own addresses is loopback, unspecified, or an IPv4 address written as an IPv6 one; multicast and
    broadcast mean many.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return False
    return is_of_one_machine(text) and not address.is_loopback


def _own_address(text: str) -> str:
    address = _address(text)
    if not reaches_a_box(address):
        message = f"{address} is no address by which a network reaches this machine"
        raise ValueError(message)
    return address


def _without_zone(text: str) -> str:
    # Python takes any text after a % for the zone of an IPv6 address; here it would reach the packet filter's rules.
    if "%" in text:
        message = "an address has no zone here"
        raise ValueError(message)
    return text


def _destination(text: str) -> str:
    found = _DESTINATION.fullmatch(text)
    if found is None or not 1 <= int(found[3]) <= 65535:
        message = "expected PROTOCOL ADDRESS PORT, e.g. udp 10.0.0.5 123"
        raise ValueError(message)
    return f"{found[1]} {_address(found[2])} {int(found[3])}"


def _folder(text: str) -> str:
    if text and (not text.startswith("/") or ".." in Path(text).parts or not text.isprintable()):
        message = "expected an absolute path, e.g. /media/sealift-backup, or nothing"
        raise ValueError(message)
    return text


def _of_form(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            message = f"expected {expected}"
            raise ValueError(message)
        return text

    return check


_site_name = _of_form(
    re.compile(r"[a-z0-9][a-z0-9-]{0,62}"), "lower-case letters, digits and hyphens, e.g. st-mary; at most 63"
)
_host_name = _of_form(
    re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"),
    "a host name of lower-case letters, digits and hyphens, e.g. llm.hospital.internal",
)
# What boxes bear by now: also capital letters, underscores or an address. No certificate or nginx takes what is beyond.
_borne_name = _of_form(
    re.compile(r"[A-Za-z0-9:._-]{1,253}"),
    "a host name of letters, digits, dots and hyphens, in punycode (xn--) where it has others: llm.hospital.internal",
)
_server_name = _of_form(_SERVER, "the name in the server's certificate, e.g. db1.hospital.internal")
_mail = _of_form(_MAIL, "a mail address, e.g. it-duty@hospital.internal")
# It is written into units, where blanks, quotes and percent signs mean something.
_plain_path = _of_form(
    _PLAIN_PATH, "an absolute path of letters, digits and ._+-, e.g. /usr/lib/softhsm/libsofthsm2.so"
)


def _device(text: str) -> str:
    if not _plain_path(text).startswith("/dev/"):
        message = "expected a device, e.g. /dev/hsm0"
        raise ValueError(message)
    return text


def _variable(text: str) -> str:
    found = _VARIABLE.fullmatch(text)
    if found is None:
        message = "expected NAME=/path, e.g. YUBIHSM_PKCS11_CONF=/etc/yubihsm_pkcs11.conf"
        raise ValueError(message)
    _plain_path(found[2])
    return text


def _optional(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda text: check(text) if text else text)


SiteName = Annotated[str, AfterValidator(_site_name)]
MaybeSiteName = Annotated[str, _optional(_site_name)]
HostName = Annotated[str, AfterValidator(_host_name)]
BorneName = Annotated[str, AfterValidator(_borne_name)]
MaybeAddress = Annotated[str, _optional(_address)]
MaybeMail = Annotated[str, _optional(_mail)]
MaybeDestination = Annotated[str, _optional(_destination)]
MaybeServer = Annotated[str, _optional(_server_name)]
MaybePath = Annotated[str, _optional(_plain_path)]
MaybeDevice = Annotated[str, _optional(_device)]
Variable = Annotated[str, AfterValidator(_variable)]
Folder = Annotated[str, AfterValidator(_folder)]
MailAddress = Annotated[str, AfterValidator(_mail)]
Network = Annotated[str, AfterValidator(_network)]
Address = Annotated[str, AfterValidator(_address)]
OwnAddress = Annotated[str, AfterValidator(_own_address)]
Destination = Annotated[str, AfterValidator(_destination)]
