"""Two machines on one cable, as network name spaces: a box behind the site's packet filter, and the facility."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOX = ("10.99.2.5/24", "10.99.2.6/24", "fd99:2::5/64", "fd99:2::6/64")
FACILITY = (
    *("10.99.2.1/24", "10.99.1.1/32", "10.99.3.1/32", "198.51.100.1/32", "10.99.9.1/32", "10.99.9.8/32"),
    *("10.99.9.9/32", "fd99:2::1/64", "fd99:1::1/128", "2001:db8:99::1/128", "fd99:9::8/128", "fd99:9::9/128"),
)
_ANSWERS = """
import json, socket, sys, threading
def tcp(place):
    s = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(tuple(place)); s.listen(64)
    return s
def answer(s):
    while True:
        c, _ = s.accept()
        c.sendall(b"here"); c.close()
def echo(s):
    while True:
        data, who = s.recvfrom(64)
        s.sendto(b"here", who)
asked = json.loads(sys.argv[1])
for place in asked["tcp"]:
    threading.Thread(target=answer, args=(tcp(place),), daemon=True).start()
for place in asked["udp"]:
    u = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_DGRAM)
    u.bind(tuple(place))
    threading.Thread(target=echo, args=(u,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
_CALLS = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def call(one):
    protocol, source, address, port, patience = one
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    s.settimeout(patience)
    try:
        if source:
            s.bind((source, 0))
        s.connect((address, port))
        if protocol == "udp":
            s.send(b"hello")
        return s.recv(4) == b"here"
    except OSError:
        return False
    finally:
        s.close()
calls = json.loads(sys.argv[1])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(call, calls))))
"""
Call = tuple[str, str, str, int]
"""Protocol, from which address (empty for any), to which address, to which port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One network name space."""

    name: str

    def run(self, *words: str | Path, feed: str | None = None) -> str:
        """Run a command there, and return what it printed."""
        return _run("ip", "netns", "exec", self.name, *words, feed=feed)

    def python(self, code: str, *words: str) -> str:
        """Run code of this checkout there."""
        return self.run("env", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-c", code, *words)

    def counters(self) -> dict[str, int]:
        """Return what the packet filter counted."""
        rows = json.loads(self.run("nft", "--json", "list", "counters"))["nftables"]
        return {one["counter"]["name"]: one["counter"]["packets"] for one in rows if "counter" in one}

    def calls(self, calls: Iterable[Call], *, patience: float) -> dict[Call, bool]:
        """Make calls all at once; return which were answered within `patience` seconds."""
        listed = list(calls)
        answered = json.loads(
            self.run(sys.executable, "-I", "-c", _CALLS, json.dumps([[*one, patience] for one in listed]))
        )
        return dict(zip(listed, answered, strict=True))

    @contextmanager
    def answering(self, *, tcp: Iterable[tuple[str, int]], udp: Iterable[tuple[str, int]] = ()) -> Iterator[None]:
        """Answer at these places while the block runs."""
        asked = json.dumps({"tcp": list(tcp), "udp": list(udp)})
        command = ["ip", "netns", "exec", self.name, sys.executable, "-I", "-c", _ANSWERS, asked]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                yield
            finally:
                process.communicate()


@contextmanager
def cable() -> Iterator[tuple[Space, Space]]:
    """Yield the box and the facility, with addresses and a way out, and no packet filter yet."""
    stem = f"slf{os.getpid()}"
    box, facility = Space(name=f"{stem}-box"), Space(name=f"{stem}-fac")
    try:
        for space in (box, facility):
            _run("ip", "netns", "add", space.name)
        _run(
            "ip",
            "link",
            "add",
            "cable0",
            "netns",
            box.name,
            "type",
            "veth",
            "peer",
            "name",
            "cable0",
            "netns",
            facility.name,
        )
        for space, addresses in ((box, BOX), (facility, FACILITY)):
            for address in addresses:
                more = ("nodad",) if ":" in address else ()
                space.run("ip", "address", "add", address, "dev", "cable0", *more)
            space.run("ip", "link", "set", "lo", "up")
            space.run("ip", "link", "set", "cable0", "up")
        # A default way, so that what is refused is refused by the packet filter and not for want of one.
        box.run("ip", "route", "add", "default", "via", "10.99.2.1")
        box.run("ip", "-6", "route", "add", "default", "via", "fd99:2::1")
        yield box, facility
    finally:
        for space in (box, facility):
            subprocess.run(["ip", "netns", "delete", space.name], check=False, capture_output=True)


def _run(*words: str | Path, feed: str | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], input=feed, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{words}: {done.stderr[-1000:]}"
    return done.stdout
