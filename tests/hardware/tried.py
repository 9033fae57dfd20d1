"""A unit as it is, but for what it runs: shows what its lines let a process do on a kernel that enforces them."""

import re
from collections.abc import Sequence
from typing import Final

from tests.box.checkout import CHECKOUT
from tests.hardware.computer import Computer

# What says how a process runs and is watched; all else is what it may do.
_LEFT_OUT: Final = re.compile(r"(Exec|Type=|Watchdog|LoadCredential|Sockets=|Restart|NotifyAccess|RemainAfterExit)")


def lay(computer: Computer, unit: str, *run: str, added: Sequence[str] = (), kept: str = "") -> str:
    """Lay a copy of a unit down and return its name without an instance.

    Args:
        computer: Where.
        unit: Its file below systemd/.
        run: What its copy runs, one after another.
        added: Drop-ins that the install writes beside it.
        kept: How a setting begins that is kept though it says what runs.
    """
    own = (CHECKOUT / "systemd" / unit).read_text().partition("[Service]")[2].partition("[Install]")[0]
    lines = [line for text in (own, *added) for line in text.splitlines() if line and not line.startswith(("#", "["))]
    stay = [line for line in lines if not _LEFT_OUT.match(line) or (kept and line.startswith(kept))]
    text = "\n".join(["[Service]", *stay, "Type=oneshot", *(f"ExecStart={command}" for command in run)])
    name = f"tried-{unit.removesuffix('.service')}"
    computer.shell(f"cat > /etc/systemd/system/{name}.service <<'EOF'\n{text}\nEOF")
    return name


def start(computer: Computer, *names: str) -> int:
    """Run copies side by side until all have ended; return 0 when each succeeded."""
    return computer.shell(f"systemctl daemon-reload; systemctl start -- {' '.join(names)}").returncode


def said(computer: Computer, name: str) -> str:
    """Return what a copy wrote."""
    return computer.shell(f"journalctl -u '{name}' -o cat --no-pager").stdout
