"""An engine of the test stage as a unit of a bare box: its environment, its socket, its processes."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.serve.client import EngineClient
from media.errors import SealiftError
from tests.box.checkout import PYTHON, journal
from tests.box.machine import Machine

LIBRARIES = "/srv/engine"
"""Where the packages of another's engine are plugged in."""
USER = "sealift-engine-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUnit:
    """The unit of a version in test."""

    box: Machine
    digest12: str
    patience_seconds: float

    @property
    def unit(self) -> str:
        """Its name."""
        return f"sealift-engine-test@{self.digest12}.service"

    @property
    def main(self) -> str:
        """The number of its first process, 0 where it has none."""
        return self.box.shell(f"systemctl show -P MainPID {self.unit}").stdout.strip()

    def client(self) -> EngineClient:
        """Reach the unit's socket, which lies in the box."""
        socket = Path(f"/proc/{self.box.leader}/root/run/sealift/engine-test-{self.digest12}.sock")
        return EngineClient(socket, read_seconds=self.patience_seconds)

    def ask(self, question: dict[str, Any], *, tokens: int) -> dict[str, Any]:
        """Return its whole answer."""
        with self.client() as client:
            return client.chat({**question, "max_tokens": tokens})

    def killed_is_back(self, question: dict[str, Any], *, within_seconds: float) -> float:
        """Kill all of its processes; return after how many seconds systemd had started it anew and it answered."""
        main = self.main
        self.box.shell(f"systemctl kill --signal=KILL {self.unit}")
        began = time.monotonic()
        # Before anybody connects: systemd would start what lies behind the socket.
        while self.main in {main, "0"}:
            assert time.monotonic() - began < self.patience_seconds, journal(self.box, self.unit)
            time.sleep(0.2)
        while not self.answers(question):
            assert time.monotonic() - began < within_seconds, journal(self.box, self.unit)
            time.sleep(0.2)
        return time.monotonic() - began

    def stops_and_leaves_nothing(self) -> None:
        """Fail where it does not end well when it is stopped, or a process of its user stays."""
        stopped = self.box.shell(f"systemctl stop {self.unit}")
        assert stopped.returncode == 0, stopped.stdout
        result = self.box.shell(f"systemctl show -P Result {self.unit}").stdout.strip()
        assert result == "success", journal(self.box, self.unit)
        assert self.box.shell(f"pgrep -u {USER}").stdout == ""

    def answers(self, question: dict[str, Any]) -> bool:
        """Return whether it answers now."""
        with suppress(SealiftError):
            return bool(self.ask(question, tokens=1))
        return False


def lay_environment(root: Path, digest12: str, *folders: str) -> Path:
    """Lay down an environment of a version's engine that finds packages in folders of the box; return it."""
    environment = root / "opt/sealift/engines" / digest12
    packages = environment / f"lib/{PYTHON.name}/site-packages"
    for folder in (environment / "bin", packages):
        folder.mkdir(parents=True)
    (environment / "bin/python").symlink_to(PYTHON)
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (packages / "checkout.pth").write_text("".join(f"{folder}\n" for folder in folders))
    return environment
