"""The eight questions of `sealift setup`, as data: what is asked, with which help, default and validation.

A question has one prompt or more. What was typed is text until it is read here; whether it holds is decided by the same
rules that judge a file of answers, so both ways accept the same.
"""

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.install.answers import FORMAT, Answers, faults
from appliance.sections import NetworkSection

_NOTHING: Final = {"-", "none", "no"}
_ROUTES: Final = Path("/proc/net/fib_trie")
_LOCAL: Final = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")

_TOGETHER: Final = {("alerts", "alerts.mail_to"), ("people.names", "people.names.1")}

Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One line to type.

    Attributes:
        key: The dotted key of the answer; `people.names.0` is the first of a list.
        text: The question.
        help: What it means and how it is written.
        many: Whether several are given, with commas; `none` gives none.
        is_number: Whether it is a number.
        applies: Whether it is asked, given the answers so far.
        follows: The key of the answer that is offered where nobody has given one to this.
    """

    key: str
    text: str
    help: str
    many: bool = False
    is_number: bool = False
    applies: Callable[[Values], bool] = lambda _: True
    follows: str = ""

    def read(self, typed: str) -> Any:
        """Return the value that was typed."""
        text = typed.strip()
        if self.many:
            return [] if text.lower() in _NOTHING else [one for one in re.split(r"[,\s]+", text) if one]
        if self.is_number and _NUMBER.fullmatch(text):
            return int(text)
        return "" if text.lower() in _NOTHING else text

    def leave_out(self, values: Values) -> None:
        """Take away what was answered before to a prompt that is not asked now; a number says nothing by itself."""
        if not self.is_number:
            put(values, self.key, [] if self.many else "")

    def shown(self, values: Mapping[str, Any]) -> str:
        """Return the present answer as it would be typed; empty when there is none."""
        value = get(values, self.key)
        if value is None and self.follows:
            value = get(values, self.follows)
        if self.many:
            return ", ".join(value) if value else ("" if value is None else "none")
        return "" if value is None else str(value) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A heading and its prompts."""

    title: str
    prompts: tuple[Prompt, ...]


def _is_mailed(values: Values) -> bool:
    return bool(get(values, "alerts.mail_relay"))


def _is_backed_up(values: Values) -> bool:
    return bool(get(values, "backup.folder"))


QUESTIONS: Final = (
    Question(
        title="Name",
        prompts=(
            Prompt(
                key="site.hostname",
                text="What do people type to reach this machine",
                help="The host name that your network's name server knows. It goes into the certificate.",
            ),
        ),
    ),
    Question(
        title="Network",
        prompts=(
            Prompt(
                key="network.addresses",
                text="Which addresses has it in your network",
                help="One or more, with commas; what comes for any other is dropped, and they go into the certificate.",
                many=True,
            ),
            Prompt(
                key="network.clients",
                text="Which networks may use it",
                help="For example 10.20.0.0/16. Everyone else is refused by the packet filter.",
                many=True,
            ),
            Prompt(
                key="network.management",
                text="Which networks may administer it",
                help="They reach the admin page (8443) and port 22. Keep it small.",
                many=True,
                follows="network.clients",
            ),
        ),
    ),
    Question(
        title="Certificate authority",
        prompts=(
            Prompt(
                key="tls.authority",
                text="Who vouches for it: own or facility",
                help="own: it makes an authority of its own. facility: yours signs a request that it makes.",
            ),
        ),
    ),
    Question(
        title="Time",
        prompts=(
            Prompt(
                key="time.servers",
                text="Which time servers does it ask",
                help="Addresses, with commas; none when there is none. They are the only ones it may ask.",
                many=True,
            ),
            Prompt(
                key="time.confirmed_by",
                text="Who has compared that with another clock? Name",
                help="Records, certificates and one-time codes depend on it. Set it first where it is wrong.",
            ),
        ),
    ),
    Question(
        title="First person",
        prompts=(
            Prompt(
                key="people.names.0",
                text="Name of the first person",
                help="As it is printed on evidence. Both approve what goes into production, and vouch for others.",
            ),
        ),
    ),
    Question(
        title="Second person",
        prompts=(
            Prompt(key="people.names.1", text="Name of the second person", help="Another one: nobody approves alone."),
        ),
    ),
    Question(
        title="Backups",
        prompts=(
            Prompt(
                key="backup.folder",
                text="Where do backups go",
                help="A folder on another disk, for example a second USB disk's: /media/sealift-backup. Or none.",
            ),
            Prompt(
                key="backup.disk",
                text="Which disk is prepared for them",
                help="Its number; again, once another one is plugged in; or later. All on it will be lost, and you are "
                "asked before that. Backups are written to no other.",
                applies=_is_backed_up,
            ),
        ),
    ),
    Question(
        title="Alerts",
        prompts=(
            Prompt(
                key="alerts.mail_relay",
                text="Which mail relay takes alerts",
                help="Its address; none leaves the banner of the admin page and the console. All three tell only where "
                "the release carries what watches the box; what will be done says whether it does.",
            ),
            Prompt(
                key="alerts.mail_port",
                text="At which port does it take them",
                help="TCP; 25 at most sites. 465 speaks TLS from the first byte.",
                is_number=True,
                applies=_is_mailed,
            ),
            Prompt(
                key="alerts.mail_server",
                text="Which name does its certificate bear",
                help="Given, no mail leaves without TLS and a certificate of that name. Who signs it has to lie at "
                "/etc/sealift/mail-ca.pem before you go on. none: mail leaves without TLS. Port 465 needs it.",
                applies=_is_mailed,
            ),
            Prompt(
                key="alerts.mail_to",
                text="Who receives them",
                help="Mail addresses, with commas.",
                many=True,
                applies=_is_mailed,
            ),
        ),
    ),
)


def starting_values(base: Config | None, earlier: Mapping[str, Any] | None = None) -> Values:
    """Return the defaults: earlier answers, else what the site file says, else what this machine suggests."""
    config = base or Config(site="x")
    addresses = list(config.network.addresses) or own_addresses()
    values: Values = {
        "format": FORMAT,
        "profile": config.profile,
        "site": {"hostname": config.service.hostname},
        "network": {
            "addresses": addresses,
            "clients": list(config.network.clients),
            "management": list(config.network.management),
        },
        "tls": {"authority": config.tls.authority},
        "time": {"servers": list(config.time.servers)},
        "people": {"names": []},
        "backup": {"folder": config.backup.folder} if config.backup.folder else {},  # else it may be proposed
        "alerts": config.alerts.model_dump(),
    }
    for name, section in (earlier or {}).items():
        if isinstance(section, Mapping) and isinstance(values.get(name), dict):
            values[name] |= section
        elif name in Answers.model_fields:
            values[name] = deepcopy(section)
    # Where nobody chose who administers the box, that is offered as who may use it: never more than was just typed.
    network = values["network"]
    if isinstance(network, dict) and network["management"] in (network["clients"], NetworkSection().management):
        del network["management"]
    return values


def fault_of(values: Values, prompt: Prompt) -> str:
    """Return what is wrong with the answer to one prompt; empty when it holds."""
    for found, told in faults(values).items():
        if found == prompt.key or (prompt.many and found.startswith(f"{prompt.key}.")):
            return told
        # What two answers say together is judged with the second: relay and receivers, the two people.
        if (found, prompt.key) in _TOGETHER:
            return told
    return ""


def get(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; None when there is none."""
    found: Any = values
    for part in key.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, Sequence) and not isinstance(found, str) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def put(values: Values, key: str, value: Any) -> None:
    """Set the value of a dotted key."""
    *way, last = key.split(".")
    if last.isdigit():
        names = list(get(values, ".".join(way)) or [])
        place = int(last)
        names[place : place + 1] = [value]
        put(values, ".".join(way), names)
        return
    section = values
    for part in way:
        section = section.setdefault(part, {})
    section[last] = value


def own_addresses(source: Path = _ROUTES) -> list[str]:
    """Return the IPv4 addresses of this machine but loopback, as the kernel's routing table names them."""
    try:
        text = source.read_text("ascii", "replace")
    except OSError:
        return []
    found = sorted({address for address in _LOCAL.findall(text) if not address.startswith("127.")})
    return [address for address in found if _is_here(address)]


def _is_here(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
