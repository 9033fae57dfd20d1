"""Builders for ledger tests: right bodies, a site's whole history, and a ledger that runs over a folder."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from appliance import config as configuration
from appliance.audit import tree
from appliance.audit.backend import Row
from appliance.audit.client import Ledger, SocketLedger
from appliance.audit.doors import Doors
from appliance.audit.log import Log
from appliance.audit.opening import open_log
from appliance.audit.rights import DOORS
from appliance.audit.writer import Writer
from appliance.config import Config, DatabaseSection, Places
from appliance.keys.files import FileKeys, create_missing
from appliance.state import projection
from media.clock import Clock, SystemClock

ROOT = Path(__file__).resolve().parents[2]

DIGEST_A = "a" * 64
DIGEST_B = "b" * 64


def approval(person: str) -> dict[str, str]:
    return {
        "person": person,
        "name": person.title(),
        "fingerprint": "F" * 40,
        "class": "openpgp",
        "signature": "c2ln",
    }


def bodies(digest: str = DIGEST_A) -> dict[str, dict[str, Any]]:
    """Return a right body for every projected kind."""
    return {
        "release.received": {"serial": 7, "release": "2026.11", "code": "c" * 64, "site": "demo", "files": 3},
        "install.done": {"serial": 7, "release": "2026.11", "environments": {"server": DIGEST_A}},
        "model.registered": {
            "model_digest": digest,
            "name": "smol",
            "version": "1",
            "weights_digest": DIGEST_B,
            "serial": 7,
            "descriptor": {"format": 1, "runtime": {"defaults": {"temperature": 0.2}}},
        },
        "model.deleted": {"model_digest": "f" * 64, "person": "iris", "reason": "superseded"},
        "gate.result": {
            "model_digest": digest,
            "gate": "smoke",
            "passed": True,
            "evidence_digest": "e" * 64,
            "figures": {"accuracy": 0.75, "count": 40},
        },
        "promotion.made": {
            "model_digest": digest,
            "previous": None,
            "statement": "{}",
            "approvals": [approval("ada"), approval("bo")],
            "requested_by": "cy",
        },
        "promotion.rolled-back": {"model_digest": digest, "previous": DIGEST_B, "person": "ada", "reason": "worse"},
        "promotion.stopped": {"previous": digest, "person": "bo", "reason": "fire"},
        "key.created": {
            "key_id": "abcdefghij",
            "secret_hmac": "d" * 64,
            "key_version": 1,
            "department": "radiology",
            "phi_mode": "tokenise",
            "tier": "basic",
            "owner": "ada",
            "stage": None,
            "expires_at": None,
        },
        "key.revoked": {"key_id": "abcdefghij", "reason": "left"},
        "stage.loaded": {"model_digest": digest, "person": "ada", "evidence_digest": None},
        "stage.unloaded": {"model_digest": digest, "person": "ada"},
        **rollout_bodies(digest),
    }


def rollout_bodies(digest: str = DIGEST_A) -> dict[str, dict[str, Any]]:
    """Return a right body for every projected kind of rollouts and stops, in an order that can happen."""
    terms = {"version": DIGEST_B, "percent": 20, "hours": 48, "watch_hours": 48}
    alone = {"model_digest": digest, "previous": digest, "person": "ada", "reason": "so", "terms": terms}
    caller = {"what": "key", "name": "abcdefghij", "person": "ada", "reason": "leaks"}
    return {
        "promotion.canary-started": {**alone, "approvals": [approval("ada"), approval("bo")]},
        "promotion.canary-held": alone,
        "promotion.canary-resumed": alone,
        "promotion.canary-aborted": alone,
        "promotion.cut-over": {**alone, "model_digest": DIGEST_B},
        "promotion.retired": {**alone, "model_digest": None},
        "stop.made": caller,
        "stop.lifted": {**caller, "person": "bo"},
        "key.ruled": {"key_id": "abcdefghij", "rule": "kept-out", "model_digest": None},
    }


def row(sequence: int, *, size: int = 10, term: str = "", retry: str = "") -> Row:
    raw = b"%d" % sequence + bytes(size)
    return Row(sequence, "a.b", raw, tree.leaf_hash(raw), bytes(32), term, retry)


def intent(request_id: str, **more: Any) -> Mapping[str, Any]:
    return {"request_id": request_id, "endpoint": "chat.completions", "model_digest": DIGEST_A, **more}


def tell_all(state: Engine, ledger: projection.Source) -> None:
    """Bring the state up, and let callers be sent by all of it, as who carries a decision out does."""
    projection.tell(state, ledger, through=ledger.head().size - 1)


def write_history(ledger: Ledger) -> None:
    """Append one leaf of each projected kind in a sensible order, with requests between them."""
    for number, (kind, body) in enumerate(bodies().items()):
        ledger.append("request.intent", intent(f"req_{number}"))
        ledger.append(kind, body)
        ledger.append("request.outcome", {"request_id": f"req_{number}", "outcome": "ok"})
    ledger.append("promotion.made", bodies(DIGEST_B)["promotion.made"])


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSite:
    """A site's configuration and keys in a folder, with the ledger to be run over them in this process or another."""

    config: Config
    config_file: Path

    @property
    def places(self) -> Places:
        return self.config.at

    @contextmanager
    def running(self, clock: Clock | None = None) -> Iterator[Log]:
        """Run the ledger in this process."""
        keys = FileKeys(self.places.key_files)
        with open_log(self.config, keys=keys, clock=clock or SystemClock()) as log:
            writer = Writer(log, on_failure=lambda: None)
            doors = Doors(listen(self.places), log=log, writer=writer)
            writer.start()
            doors.start()
            try:
                yield log
            finally:
                doors.stop()
                writer.stop()

    @contextmanager
    def process(self, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service as a process of its own and wait until it is ready; it is killed at the end."""
        notices = self.places.run / "notify"
        notices.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(str(notices))
            supervisor.settimeout(20)
            started = self.start(NOTIFY_SOCKET=str(notices), **environment)
            try:
                while b"READY=1" not in supervisor.recv(4096):
                    pass
                yield started
            finally:
                started.kill()
                started.wait()

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the service and return at once."""
        command = [sys.executable, "-m", "appliance.audit.service", "--config", str(self.config_file)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return subprocess.Popen(command, cwd=ROOT, env={**kept, "PYTHONPATH": str(ROOT), **environment})

    def door(self, name: str) -> SocketLedger:
        return SocketLedger(self.places.socket(name), timeout_seconds=10)


def toml_of(database: DatabaseSection | None) -> str:
    """Return the part of a site file that names a database."""
    if database is None:
        return ""
    return "[database]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in database.model_dump().items())


def listen(places: Places) -> dict[str, socket.socket]:
    """Bind every door at its place."""
    found = {}
    for door in DOORS:
        places.socket(door).unlink(missing_ok=True)
        found[door] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found[door].bind(str(places.socket(door)))
        found[door].listen(128)
    return found


@contextmanager
def ledger_site(
    folder: Path, site: str = "demo", *, database: DatabaseSection | None = None, reserve_mib: int = 1
) -> Iterator[LedgerSite]:
    """Make a site below a folder; its sockets get a short path of their own, as the kernel demands."""
    run = Path(tempfile.mkdtemp(prefix="sealift-"))
    root = folder / "box"
    root.mkdir(parents=True, exist_ok=True)
    config_file = root / "sealift.toml"
    config_file.write_text(
        f'format = 1\nsite = "{site}"\n[places]\nroot = "{root}"\nrun = "{run}"\n'
        f"[ledger]\nreserve_mib = {reserve_mib}\n{toml_of(database)}"
    )
    config = configuration.load(config_file)
    create_missing(config.at.key_files)
    try:
        yield LedgerSite(config=config, config_file=config_file)
    finally:
        shutil.rmtree(run)
