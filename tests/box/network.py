"""The site's network: a name space called facility, one cable to the box, and a count of what the box starts."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

BOX_ADDRESS = "10.77.0.2"
FACILITY_ADDRESS = "10.77.0.1"
MAIL_PORT = 2525
_BRIDGE = "bridge0"
_BRIDGE_ADDRESS = "02:00:0a:4d:00:01"
_WATCH = """
table inet watch {
    counter from_box { }
    chain input {
        type filter hook input priority filter; policy accept;
        ip saddr %s meta l4proto { tcp, udp } ct state new counter name from_box
        ip6 saddr fe80::/10 meta l4proto { tcp, udp } ct state new counter name from_box
    }
}
"""
_APART = """
table bridge apart {
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname %(near)s oifname { %(far)s } drop
        iifname { %(far)s } oifname %(near)s drop
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facility:
    """The network at the other end of the box's cable."""

    name: str

    def create(self) -> None:
        """Make the name space and begin to count."""
        _run("ip", "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")
        self.run("nft", "-f", "-", feed=_WATCH % BOX_ADDRESS)

    def plug_in(self, leader: int) -> None:
        """Lay the cable from the box, whose first process is `leader`, and give both ends addresses."""
        cable = f"sl{os.getpid()}"
        # The cable of a box that was shut down may still be on its way out.
        subprocess.run(["ip", "-n", self.name, "link", "delete", "cable0"], check=False, capture_output=True)
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "cable0", "netns", self.name)
        self.run("ip", "address", "add", f"{FACILITY_ADDRESS}/24", "dev", "cable0")
        self.run("ip", "link", "set", "cable0", "up")
        _end_in_box(cable, leader, BOX_ADDRESS)

    def lay_switch(self) -> None:
        """Lay a switch into the facility, for several boxes in the place of one cable."""
        # With an address of its own: else it takes one of a cable's, and changes it when that is pulled out.
        self.run("ip", "link", "add", _BRIDGE, "address", _BRIDGE_ADDRESS, "type", "bridge")
        self.run("ip", "address", "add", f"{FACILITY_ADDRESS}/24", "dev", _BRIDGE)
        self.run("ip", "link", "set", _BRIDGE, "up")

    def plug_into_switch(self, leader: int, name: str, address: str) -> None:
        """Lay a cable from a box to the switch, whose end there is `to-NAME`; that of a box that ended goes before."""
        subprocess.run(["ip", "-n", self.name, "link", "delete", f"to-{name}"], check=False, capture_output=True)
        cable = f"sl{os.getpid()}{name}"
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", f"to-{name}", "netns", self.name)
        self.run("ip", "link", "set", f"to-{name}", "master", _BRIDGE, "up")
        _end_in_box(cable, leader, address)

    def cut(self, *names: str) -> None:
        """Pull the cables of these boxes."""
        for name in names:
            self.run("ip", "link", "set", f"to-{name}", "down")

    def mend(self, *names: str) -> None:
        """Put them back."""
        for name in names:
            self.run("ip", "link", "set", f"to-{name}", "up")

    def keep_apart(self, name: str, *others: str) -> None:
        """Let nothing pass between a box and others at the switch; workstations of the facility still reach each."""
        far = ", ".join(f'"to-{other}"' for other in others)
        self.run("nft", "-f", "-", feed=_APART % {"near": f'"to-{name}"', "far": far})

    def let_together(self) -> None:
        """End that."""
        self.run("nft", "delete", "table", "bridge", "apart")

    def run(self, *words: str | Path, feed: str | None = None, seconds: float = 300) -> str:
        """Run a command of this machine in the facility and return what it printed."""
        return _run("ip", "netns", "exec", self.name, *words, feed=feed, seconds=seconds)

    def connections_from_box(self) -> int:
        """Return how many new connections reached the facility from the box."""
        told = json.loads(self.run("nft", "--json", "list", "counter", "inet", "watch", "from_box"))
        return int(next(one["counter"]["packets"] for one in told["nftables"] if "counter" in one))

    def remove(self) -> None:
        """Remove the name space, and the cable with it."""
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


def _end_in_box(cable: str, leader: int, address: str) -> None:
    """Put a cable's end into the box whose first process is `leader`, with an address and the way to the facility."""
    _run("ip", "link", "set", cable, "netns", str(leader))
    inside = ("nsenter", "-t", str(leader), "-n", "ip")
    _run(*inside, "link", "set", cable, "name", "facility0")
    _run(*inside, "address", "add", f"{address}/24", "dev", "facility0")
    _run(*inside, "link", "set", "facility0", "up")
    # A default route, so that an attempt to leave is stopped by the packet filter and not for want of a way.
    _run(*inside, "route", "add", "default", "via", FACILITY_ADDRESS)


def _run(*words: str | Path, feed: str | None = None, seconds: float = 60) -> str:
    done = subprocess.run(
        [str(word) for word in words], input=feed, capture_output=True, text=True, check=False, timeout=seconds
    )
    if done.returncode != 0:
        message = f"{words[0]} {words[1]}: {done.stderr.strip()[-2000:]}"
        raise RuntimeError(message)
    return done.stdout
