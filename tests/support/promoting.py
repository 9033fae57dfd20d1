"""What two people do on a running site: enrol with keys of their own, bring a version and put it into production."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.receive import receive
from media import gpgagent, signers
from media.clock import SystemClock
from tests.support.commands import Run, as_json
from tests.support.medium import SimulatedMedium, make_medium
from tests.support.running_site import RunningSite, running_site
from tests.support.versions import short_folder, version_files

PEOPLE = {"eva-rossi": "Eva Rossi", "finn-olsen": "Finn Olsen"}


@contextmanager
def homes_of_people() -> Iterator[dict[str, Path]]:
    """Yield a GnuPG home with a key for each of the people."""
    with short_folder() as folder:
        made = {person: folder / person[:1] for person in PEOPLE}
        try:
            for person, home in made.items():
                signers.generate_key(home, PEOPLE[person], f"{person}@site.example")
            yield made
        finally:
            for home in made.values():
                gpgagent.stop_agents(home)


@pytest.fixture(scope="module")
def homes() -> Iterator[dict[str, Path]]:
    """The people's GnuPG homes."""
    with homes_of_people() as made:
        yield made


@pytest.fixture
def site() -> Iterator[RunningSite]:
    """A running site that the first medium is for."""
    with short_folder() as root, running_site(root, medium_of(1)) as running:
        yield running


@cache
def medium_of(serial: int) -> SimulatedMedium:
    """Return the medium of a serial, made once in this process; each carries a version of its own."""
    folder = Path(tempfile.mkdtemp(prefix="slf", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_medium(folder / "m", serial=serial, files=version_files(weights=f"GGUF weights {serial}".encode()))


def enrol_all(site: RunningSite, run: Run, homes: dict[str, Path]) -> None:
    """Enrol the people with their keys and the password that lies in the site's `password`."""
    password = site.root / "password"
    password.write_text("correct horse battery\n")
    codes = as_json(run, "people", "codes")["codes"]
    for code, (person, home) in zip(codes, homes.items(), strict=True):
        arguments = ("--code", code, "--name", PEOPLE[person], "--gnupg-home", str(home))
        made = as_json(run, "people", "enrol", *arguments, "--password-file", str(password))
        assert made["person"] == person


def bring(site: RunningSite, serial: int, *, medium: SimulatedMedium | None = None) -> str:
    """Receive a medium, by default the one of this serial, and register its version; return the digest."""
    receive(site.config, (medium or medium_of(serial)).volumes, clock=SystemClock(), progress=lambda *_: None)
    return site.register(serial)[0]


def serve(run: Run, digest: str, homes: dict[str, Path]) -> dict[str, Any]:
    """Validate a version, let everybody approve it and promote it; return what the promotion said."""
    assert as_json(run, "validate", digest)["passed"] is True
    assert as_json(run, "promote", digest, "--as", "eva-rossi")["step"] == "requested"
    for person, home in homes.items():
        as_json(run, "approve", digest, "--as", person, "--gnupg-home", str(home), "--yes")
    return as_json(run, "promote", digest)


def record_answer(site: RunningSite, digest: str, serial: int, request_id: str) -> None:
    """Record an answer as the gateway does."""
    ledger = site.gateway()
    try:
        intent = ledger.append(
            "request.intent",
            {
                "request_id": request_id,
                "at": datetime.now(tz=UTC).isoformat(),
                "endpoint": "chat",
                "key_id": "abcdefghij",
                "department": "radiology",
                "model": "tiny",
                "model_digest": digest,
                "serial": serial,
                "request_hmac": "0" * 64,
            },
        )
        ledger.append(
            "request.outcome",
            {
                "request_id": request_id,
                "intent_sequence": intent.sequence,
                "outcome": "ok",
                "status": 200,
                "completion_tokens": 3,
                "response_hmac": "1" * 64,
            },
        )
    finally:
        ledger.close()
