"""Two boxes and a witness in network name spaces: a real cable to cut, real processes, a service address that moves.

Of tests and of `make bench-box`; name spaces need root.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from appliance import config as configuration
from appliance.actions.standby import introducing
from appliance.audit import pin
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.keys.files import FileKeys, create_missing
from appliance.standby import announcing, permit
from appliance.standby.pairing import Relation
from appliance.wire import Line
from media.clock import SystemClock
from tests.box.permits import Watched, watch

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "10.78.0.100"
ADDRESSES = {"one": "10.78.0.1", "two": "10.78.0.2", "three": "10.78.0.3"}
CLIENT = "10.78.0.9"
# What a gateway does before a request, and nothing else: it reads the permit and says who it is.
ANSWERER = """
import socketserver, sys
from pathlib import Path
from appliance.errors import NotActiveError
from appliance.standby.permit import FilePermit
name, permit = sys.argv[1].encode(), FilePermit(Path(sys.argv[2]))
class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            permit.require()
        except NotActiveError:
            return
        self.request.sendall(name)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
with Server(("0.0.0.0", 8000), Answer) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
# As systemd does for sealift-announce.socket: whoever connects starts the entry point.
ANNOUNCER = """
import socket, subprocess, sys
with socket.socket(socket.AF_UNIX) as door:
    door.bind(sys.argv[1])
    door.listen(4)
    while True:
        door.accept()[0].close()
        words = (sys.executable, "-m", "appliance.standby.announcing", "--config", sys.argv[2])
        subprocess.run(words, check=True)
"""
ASKER = """
import socket, sys, time
from pathlib import Path
told, ending = Path(sys.argv[2]), Path(sys.argv[3])
with told.open("w") as out:
    while not ending.exists():
        try:
            with socket.create_connection((sys.argv[1], 8000), timeout=0.2) as asked:
                asked.settimeout(0.2)
                name = asked.recv(20).decode()
        except OSError:
            name = ""
        print(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.3f} {name}", file=out, flush=True)
        time.sleep(0.02)
"""


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@dataclass(slots=True)
class Space:
    """One machine: a network name space with one cable to the switch."""

    name: str
    switch: str
    processes: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def space(self) -> str:
        return f"{self.switch}-{self.name}"

    @property
    def cable(self) -> str:
        return f"to-{self.name}"

    def plug_in(self, address: str) -> None:
        run("ip", "netns", "add", self.space)
        inside = ("ip", "-n", self.space)
        run(
            "ip", "link", "add", "cable0", "netns", self.space, "type", "veth", "peer", self.cable, "netns", self.switch
        )
        run("ip", "-n", self.switch, "link", "set", self.cable, "master", "bridge0", "up")
        run(*inside, "address", "add", f"{address}/24", "dev", "cable0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "cable0", "up")

    def cut(self) -> None:
        run("ip", "-n", self.switch, "link", "set", self.cable, "down")

    def mend(self) -> None:
        run("ip", "-n", self.switch, "link", "set", self.cable, "up")

    def start(self, *words: str, **environment: str) -> "subprocess.Popen[str]":
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.space, *words],
            cwd=ROOT,
            env={**kept, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def unplug(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        subprocess.run(["ip", "netns", "delete", self.space], check=False, capture_output=True)


@dataclass(slots=True)
class Box:
    """A box of the pair, or the witness: its site file, its ledger's process, its lease's process."""

    name: str
    space: Space
    config: Config
    config_file: Path
    keeper: "subprocess.Popen[str] | None" = None
    opened: SocketLedger | None = None

    @property
    def ledger(self) -> SocketLedger:
        if self.opened is None:
            self.opened = SocketLedger(self.config.at.socket(ACTIONS), timeout_seconds=20)
        return self.opened

    @property
    def permit(self) -> Path:
        return permit.folder_of(self.config.at)

    def start_ledger(self) -> None:
        self.space.start(sys.executable, "-m", "appliance.audit.service", "--config", str(self.config_file))
        wait_until(lambda: pin.read_pin(self.config.at) is not None and self.config.at.socket(ACTIONS).exists())

    def start_keeper(self) -> None:
        state = self.config.at.state / "standby"
        for folder in (state, self.permit):
            folder.mkdir(parents=True, exist_ok=True)
        self.keeper = self.space.start(
            sys.executable,
            "-m",
            "appliance.standby.service",
            "--config",
            str(self.config_file),
            STATE_DIRECTORY=str(state),
        )
        wait_until(self.config.at.socket("lease").exists)
        door = self.config.at.socket(announcing.DOOR)
        if not door.exists():
            self.space.start(sys.executable, "-c", ANNOUNCER, str(door), str(self.config_file))
            wait_until(door.exists)

    def kill_keeper(self) -> None:
        assert self.keeper is not None
        self.keeper.kill()
        self.keeper.wait()

    def lease(self, do: str = "lease", **fields: object) -> dict[str, object]:
        line = Line(self.config.at.socket("lease"), timeout_seconds=20)
        try:
            return line.call(do, **fields)
        finally:
            line.close()

    def kinds(self) -> list[str]:
        return [leaf.kind for leaf in self.ledger.find(kind="standby.", limit=1000, newest_first=False)]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Exception):
            if holds():
                return
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.05)


@dataclass(slots=True)
class Plant:
    """Everything, with a watch that notes when both boxes permit serving at once."""

    boxes: dict[str, Box]
    client: Space
    watched: Watched = field(default_factory=Watched)
    _watching: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def both(self) -> list[float]:
        return self.watched.both

    def begin(self) -> None:
        for box in self.boxes.values():
            box.start_keeper()
        self.boxes["one"].lease("take-over", by=["Ana", "Ben"], reason="first start")
        wait_until(lambda: self.boxes["one"].lease()["alone"] is False)
        wait_until(lambda: self.boxes["two"].lease()["would_follow"] is True)
        self.watched = self._watching.enter_context(watch({name: box.permit for name, box in self.boxes.items()}))

    def answer(self) -> None:
        for name in ("one", "two"):
            box = self.boxes[name]
            process = box.space.start(sys.executable, "-c", ANSWERER, name, str(box.permit))
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"

    def ask(self, told: Path, ending: Path) -> "subprocess.Popen[str]":
        return self.client.start(sys.executable, "-c", ASKER, SERVICE, str(told), str(ending))

    def end(self) -> None:
        self._watching.close()
        for box in self.boxes.values():
            if box.opened is not None:
                box.opened.close()
            box.space.unplug()
        self.client.unplug()


def answers(told: Path) -> list[tuple[float, str]]:
    """Return when the client was answered, and by whom; what nobody answered is left out."""
    lines = [line.split() for line in told.read_text().splitlines()]
    return [(float(line[0]), line[1]) for line in lines if len(line) == 2]


def site_file(root: Path, run_folder: Path, name: str, *, witness: bool, seconds: int) -> str:
    other = {"one": "two", "two": "one"}.get(name)
    standby = [f'listen = "{ADDRESSES[name]}"', f"lease_seconds = {seconds}"]
    if other is not None:
        standby += ["lease = true", f'peer = "{other}"', f'peer_address = "{ADDRESSES[other]}"']
        standby += [f'service_address = "{SERVICE}"', 'interface = "cable0"']
        standby += ['witness = "three"', f'witness_address = "{ADDRESSES["three"]}"'] if witness else []
    lines = "\n".join(standby)
    head = f'format = 1\nsite = "demo"\nenvironment = "demo"\n[places]\nroot = "{root}"\nrun = "{run_folder}"\n'
    return f"{head}[standby]\n{lines}\n"


class Introduced(Protocol):
    """What introducing reads of a box."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Config: ...
    @property
    def ledger(self) -> SocketLedger: ...


def introduce(first: Introduced, second: Introduced, relation: Relation) -> None:
    boxes = (first, second)
    cards = [
        introducing.make_card(
            box.config, box.name, ledger=box.ledger, keys=FileKeys(box.config.at.key_files), clock=SystemClock()
        )
        for box in boxes
    ]
    halves = []
    for place, box in enumerate(boxes):
        peer = cards[1 - place]
        _, half = introducing.offer(
            box.config,
            peer.file,
            relation=relation,
            is_first=place == 0,
            codes=[peer.card.code] * 2,
            by=["Ana", "Ben"],
            ledger=box.ledger,
            keys=FileKeys(box.config.at.key_files),
        )
        halves.append(half)
    for place, box in enumerate(boxes):
        introducing.join(box.config, halves[place], halves[1 - place], ledger=box.ledger)


@contextlib.contextmanager
def plant(*, witness: bool, seconds: int = 3) -> Iterator[Plant]:
    folder = Path(tempfile.mkdtemp(prefix="slb-", dir="/tmp"))
    switch = f"slb{os.getpid()}"
    names = ("one", "two", "three") if witness else ("one", "two")
    made = Plant(boxes={}, client=Space(name="client", switch=switch))
    run("ip", "netns", "add", switch)
    try:
        run("ip", "-n", switch, "link", "add", "bridge0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "bridge0", "up")
        made.client.plug_in(CLIENT)
        for name in names:
            root, run_folder = folder / name, folder / f"{name}.run"
            run_folder.mkdir(parents=True)
            file = root / "sealift.toml"
            file.parent.mkdir()
            file.write_text(site_file(root, run_folder, name, witness=witness, seconds=seconds))
            config = configuration.load(file)
            create_missing(config.at.key_files)
            space = Space(name=name, switch=switch)
            space.plug_in(ADDRESSES[name])
            made.boxes[name] = Box(name=name, space=space, config=config, config_file=file)
            made.boxes[name].start_ledger()
        introduce(made.boxes["one"], made.boxes["two"], Relation.STANDBY)
        for name in ("one", "two") if witness else ():
            introduce(made.boxes[name], made.boxes["three"], Relation.TEST)
        yield made
    finally:
        made.end()
        run("ip", "netns", "delete", switch)
        shutil.rmtree(folder)


def move_by_a_cut_cable(here: Plant, folder: Path) -> float:
    """Cut the serving box's cable under a client that asks without pause, and mend it when the other box answers.

    Returns the seconds from the last answer of the one box to the first of the other.
    """
    one = here.boxes["one"]
    here.answer()
    told, ending = folder / "told", folder / "ending"
    asking = here.ask(told, ending)
    wait_until(lambda: SERVICE in run("ip", "-n", one.space.space, "address", "show", "dev", "cable0"))
    wait_until(lambda: {name for _, name in answers(told)} == {"one"})
    one.space.cut()
    wait_until(lambda: {name for _, name in answers(told)} == {"one", "two"})
    ending.touch()
    asking.wait(timeout=60)
    one.space.mend()
    wait_until(lambda: one.lease()["holder"] == "two")
    found = answers(told)
    return min(at for at, name in found if name == "two") - max(at for at, name in found if name == "one")
