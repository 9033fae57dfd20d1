"""A ledger whose key is to be renewed, and its own process under strace, which ends it at one of its system calls."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from appliance.audit import note, pin
from appliance.audit.rotating import ASKED, KEY_NAME
from appliance.keys.files import FileKeys
from tests.support.ledger import ROOT, LedgerSite, intent


def renewal_asked(site: LedgerSite, *, records: int) -> tuple[note.VerifierKey, str]:
    """Let a ledger have a past, a print and a record that asks for a new key; return its key and the print."""
    with site.process(), closing(site.door("ledger-gateway")) as door, closing(site.door("ledger-actions")) as actions:
        for number in range(records):
            door.append("request.intent", intent(f"req_{number}"))
        printed = actions.checkpoint()
        version = FileKeys(site.places.key_files).create(KEY_NAME)
        actions.append(ASKED, {"name": KEY_NAME, "version": version, "reason": "yearly"})
    pinned = pin.read_pin(site.places)
    assert pinned is not None
    return pinned, printed


def traced(site: LedgerSite, log: Path, options: Sequence[str]) -> bool:
    """Start the service and end it once it is ready; return whether strace, as the options say, killed it before."""
    notices = site.places.run / "notify"
    notices.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(notices))
        supervisor.settimeout(0.2)
        service = [sys.executable, "-m", "appliance.audit.service", "--config", str(site.config_file)]
        started = subprocess.Popen(
            ["strace", "-f", "-q", "-o", str(log), *options, *service],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(notices)},
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            while started.poll() is None:
                try:
                    if b"READY=1" in supervisor.recv(4096):
                        return False
                except TimeoutError:
                    continue
            return True
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
