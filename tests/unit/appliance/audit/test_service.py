"""The process: what systemd tells it, how it ends, and what it never acknowledges."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from appliance.audit import exclusive
from appliance.audit.client import SocketLedger, open_ledger
from appliance.audit.note import VerifierKey, verify_checkpoint
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.audit.verify import verify
from appliance.errors import LedgerUnavailableError
from tests.support.ledger import ROOT, LedgerSite, intent

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each


def test_it_says_when_it_is_ready_and_ends_cleanly_on_sigterm(site: LedgerSite) -> None:
    with site.process() as running:
        gateway = site.door("ledger-gateway")
        last = gateway.append("request.intent", intent("a"))
        gateway.close()
        running.terminate()
        assert running.wait(20) == 0

    ledger = open_ledger(site.config, "ledger-gateway")
    assert not (site.places.ledger / f"{FILE_NAME}-wal").exists()
    key = VerifierKey.from_text(str(ledger.leaf(0).body["vkey"]))
    assert verify_checkpoint(ledger.checkpoint(), [key]).size == last.sequence + 1


def test_what_was_read_before_sigterm_is_acknowledged(site: LedgerSite) -> None:
    with site.process() as running:
        gateway = site.door("ledger-gateway")
        acknowledged: list[int] = []

        def write() -> None:
            with suppress(LedgerUnavailableError):
                acknowledged.extend(gateway.append("request.intent", intent(f"req_{n}")).sequence for n in count())

        writer = threading.Thread(target=write)
        writer.start()
        while len(acknowledged) < 20:
            time.sleep(0.005)
        running.terminate()
        assert running.wait(20) == 0
        writer.join()
        gateway.close()

    ledger = open_ledger(site.config, "ledger-gateway")
    assert ledger.head().size >= acknowledged[-1] + 1
    assert verify(ledger).ok


def test_sockets_come_from_the_supervisor_by_name(site: LedgerSite, tmp_path: Path) -> None:
    path = site.places.run / "given.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        code = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.executable, [sys.executable, '-m', 'appliance.audit.service', '--config', sys.argv[2]])"
        )
        environment = {"PYTHONPATH": str(ROOT), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "ledger-admin"}
        environment["CREDENTIALS_DIRECTORY"] = str(tmp_path / "credentials")
        credential = tmp_path / "credentials/ledger-checkpoint"
        credential.parent.mkdir()
        credential.write_bytes((site.places.key_files / "ledger-checkpoint.v1").read_bytes())
        credential.chmod(0o400)
        running = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno()), str(site.config_file)],
            pass_fds=[listener.fileno()],
            env=environment,
        )
        try:
            ledger = SocketLedger(path, timeout_seconds=20)
            assert ledger.append("admin.login", {"person": "ada"}).sequence == 2
            assert ledger.leaf(2).via.door == "ledger-admin"
            assert ledger.leaf(2).via.uid == os.getuid()
            ledger.close()
            assert not site.places.socket("ledger-gateway").exists()
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0


def test_a_wrong_site_file_or_key_ends_it_with_the_code_that_says_so(site: LedgerSite) -> None:
    (site.places.key_files / "ledger-checkpoint.v1").unlink()
    assert site.start().wait(20) == 56

    site.config_file.write_text("nonsense = 1\n")
    assert site.start().wait(20) == 50


def test_a_damaged_file_ends_it_with_the_code_that_nobody_restarts(site: LedgerSite) -> None:
    with site.running():
        pass
    path = site.places.ledger / FILE_NAME
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    assert site.start().wait(20) == 91


def test_a_reader_that_is_slow_only_delays_the_start(site: LedgerSite) -> None:
    with site.running():
        pass
    holder = exclusive.take(site.places.ledger, shared=True)
    letting_go = threading.Timer(0.3, holder.close)
    letting_go.start()

    with site.process():
        gateway = site.door("ledger-gateway")
        assert gateway.head().size == 5
        gateway.close()
    letting_go.join()


def test_a_disk_that_fails_ends_it_and_nothing_was_acknowledged(site: LedgerSite) -> None:
    with site.process() as running:
        gateway = site.door("ledger-gateway")
        first = gateway.append("request.intent", intent("a"))
        size = (site.places.ledger / f"{FILE_NAME}-wal").stat().st_size
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (size, size))
        with pytest.raises(LedgerUnavailableError):
            gateway.append("request.intent", intent("b", text="x" * 100_000), key="b")
        assert running.wait(20) == LedgerUnavailableError.exit_code
        gateway.close()

    with site.process():
        gateway = site.door("ledger-gateway")
        again = gateway.append("request.intent", intent("b", text="x" * 100_000), key="b")
        assert again.sequence > first.sequence
        assert len(gateway.find(field="request_id", value="b", limit=9)) == 1
        assert verify(gateway).ok
        gateway.close()
