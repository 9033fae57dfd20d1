"""The admin page's user, taken over, against the real promoter and the real launcher: what it can write counts nothing.

As on a box it may write `state.db` and speak at its own doors, and no more; a process with that user's rights tries.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import NotPromotedError
from appliance.promote.client import PromoterClient
from appliance.promote.desk import ACTIONS_DOOR
from appliance.promote.folder import PromoterFolder
from appliance.promote.standing import require_promoted
from appliance.wire import RemoteError
from media import canonical
from tests.support.promoting import bring, site
from tests.support.promotion import PASSWORD
from tests.support.running_site import RunningSite
from tests.support.signatories import signatories
from tests.unit.appliance.promote.test_old_formats import first_statement

__all__ = ["site"]  # a fixture
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user, which takes root"),
]
ADMIN = 64_101
"""A user and group of nobody here, in the place of sealift-admin."""
ROW = "INSERT INTO promotion (sequence, kind, model_digest, previous, at, people, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"
ANA, BEN, *_ = signatories()
SCRIPT = f"automation:nightly@{ANA.id}"

# Run as that user, with the standard library alone: what is tried, and how it ended.
ATTACK = """
import json, os, socket, sqlite3, sys
job = json.loads(sys.stdin.read())
# Once and for all: real, effective and saved.
os.setgroups([])
os.setresgid(job["user"], job["user"], job["user"])
os.setresuid(job["user"], job["user"], job["user"])
told = {"uid": os.getuid(), "files": {}, "doors": {}, "rows": 0}
base = sqlite3.connect(job["state"])
for statement, values in job["rows"]:
    told["rows"] += base.execute(statement, values).rowcount
base.commit()
for path in job["files"]:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(job["forged"].encode())
        told["files"][path] = "written"
    except OSError as error:
        told["files"][path] = type(error).__name__
for name, door, message in job["messages"]:
    try:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(60)
        line.connect(door)
        line.sendall(json.dumps(message).encode() + b"\\n")
        answer = json.loads(line.makefile().readline() or '{"error": {"code": "closed"}}')
        told["doors"][name] = answer["error"]["code"] if "error" in answer else "taken"
    except OSError as error:
        told["doors"][name] = type(error).__name__
print(json.dumps(told))
"""


@pytest.fixture
def version(site: RunningSite) -> str:
    """A version that is registered, and two people who approved nothing."""
    digest = bring(site, 1)
    promoter = PromoterClient.open(site.config, ACTIONS_DOOR)
    for code, person in zip(promoter.codes(2), (ANA, BEN), strict=True):
        promoter.enrol(code=code, name=person.name, certificate=person.certificate, password=PASSWORD)
    made, _ = promoter.make_automation_key(
        name="nightly", person=ANA.id, password=PASSWORD, scopes=["request", "hold"], days=1, purpose="", dry_run=False
    )
    assert made.actor == SCRIPT
    promoter.close()
    return digest


def as_on_a_box(site: RunningSite) -> None:
    """Give the files and sockets the owners and modes that the units give them."""
    places = site.config.at
    for folder in (places.root, places.root / "var", places.state.parent, places.state, places.run.parent, places.run):
        folder.chmod(0o755)
    places.promoter.chmod(0o750)
    for path in (places.registry, *places.registry.iterdir()):
        os.chown(path, 0, ADMIN)
        path.chmod(0o770 if path.is_dir() else 0o660)
    for door in ("promoter-admin", "ledger-admin"):
        os.chown(places.socket(door), 0, ADMIN)
        places.socket(door).chmod(0o660)
    for door in ("promoter-actions", "promoter-operator", "ledger-promoter", "ledger-actions"):
        places.socket(door).chmod(0o600)


def forged(version: str) -> dict[str, Any]:
    """A promotion such as the promoter writes, with approvals that nobody gave."""
    statement = canonical.loads(first_statement().to_bytes())
    raw = canonical.dumps({**statement, "model_digest": version, "site": "demo-clinic"})
    junk = base64.b64encode(b"\x88junk").decode()
    named = [
        {"person": one.id, "name": one.name, "fingerprint": one.fingerprint, "class": "openpgp", "signature": junk}
        for one in (ANA, BEN)
    ]
    return {
        "format": 1,
        "number": 1,
        "before": "",
        "kind": "made",
        "sequence": 40,
        "leaf_hash": "0" * 64,
        "at": "2026-11-20T08:00:00Z",
        "model_digest": version,
        "previous": None,
        "statement": raw.decode(),
        "approvals": named,
        "requested_by": ANA.id,
        "person": "",
        "class": "",
        "reason": "",
    }


def attack(site: RunningSite, version: str) -> dict[str, Any]:
    places, digest = site.config.at, "ab" * 32
    people = json.dumps([{"person": one.id, "name": one.name} for one in (ANA, BEN)])
    row = [900, "made", version, None, "2026-11-20T08:00:00Z", people, ""]
    admin = str(places.socket("promoter-admin"))
    signature = base64.b64encode(b"\x88junk").decode()
    assertion = base64.b64encode(canonical.dumps({"format": 1})).decode()
    vouchers = [{"person": one.id, "password": "guessed password"} for one in (ANA, BEN)]
    leaf = {"do": "append", "kind": "approval.given", "body": {"person": ANA.id}}
    messages: list[tuple[str, str, dict[str, Any]]] = [
        ("a signature of nobody's", admin, {"do": "approve", "statement_sha256": digest, "signature": signature}),
        (
            "an assertion of nobody's",
            admin,
            {"do": "approve", "statement_sha256": digest, "class": "webauthn", "signature": assertion},
        ),
        (
            "a guessed password",
            admin,
            {
                "do": "approve",
                "statement_sha256": digest,
                "class": "password-totp",
                "person": ANA.id,
                "password": "guessed password",
                "totp": "000000",
            },
        ),
        (
            "an approval in a key's name",
            admin,
            {
                "do": "approve",
                "statement_sha256": digest,
                "class": "password-totp",
                "person": SCRIPT,
                "password": PASSWORD,
                "totp": "000000",
            },
        ),
        ("a stop in a key's name", admin, {"do": "stop", "person": SCRIPT, "reason": "x"}),
        (
            "a key of its own",
            admin,
            {
                "do": "automation-make",
                "name": "mine",
                "person": ANA.id,
                "password": PASSWORD,
                "scopes": ["hold"],
                "days": 1,
                "purpose": "",
                "dry_run": False,
            },
        ),
        (
            "an enrolment of a key",
            admin,
            {"do": "enrol", "code": "AAAA", "name": SCRIPT, "password": "a long password"},
        ),
        ("a promotion", admin, {"do": "promote", "statement_sha256": digest}),
        ("a stop in someone's name", admin, {"do": "stop", "person": ANA.id, "reason": "x"}),
        ("codes", admin, {"do": "codes", "count": 2}),
        ("an invitation", admin, {"do": "invite", "vouchers": vouchers}),
        ("a reset", admin, {"do": "reset", "person": ANA.id, "vouchers": vouchers}),
        ("another role", admin, {"do": "roles", "person": ANA.id, "roles": ["admin"], "vouchers": vouchers}),
        ("an enrolment", admin, {"do": "enrol", "code": "AAAA", "name": "Eve", "password": "a long password"}),
        ("root's door", str(places.socket("promoter-actions")), {"do": "codes", "count": 2}),
        ("the promoter's ledger door", str(places.socket("ledger-promoter")), leaf),
        ("its own ledger door", str(places.socket("ledger-admin")), leaf),
    ]
    job = {
        "user": ADMIN,
        "state": str(places.registry / "state.db"),
        "rows": [
            (ROW, row),
        ],
        "forged": canonical.dumps(forged(version)).decode(),
        "files": [
            str(places.promoter / name)
            for name in ("people.json", "promotions/000001.json", f"requests/{digest}.json", "passwords.json")
        ],
        "messages": messages,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", ATTACK],
        input=json.dumps(job),
        cwd="/",
        text=True,
        check=True,
        capture_output=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def launch(site: RunningSite, version: str) -> subprocess.CompletedProcess[str]:
    """Start a production engine of a version as its unit does."""
    config = str(site.config.at.config_file)
    command = ["-I", "-m", "appliance.serve.launcher", "--config", config, "--instance", f"production-{version[:12]}"]
    return subprocess.run([sys.executable, *command], text=True, capture_output=True, check=False, timeout=100, cwd="/")


def test_what_the_page_s_user_forges_is_refused_by_promoter_and_launcher(site: RunningSite, version: str) -> None:
    as_on_a_box(site)
    told = attack(site, version)

    # Its own projection it can spoil: that is why nobody believes it.
    assert (told["uid"], told["rows"]) == (ADMIN, 1)
    assert set(told["files"].values()) == {"PermissionError"}
    assert "taken" not in told["doors"].values()
    assert told["doors"]["root's door"] == told["doors"]["the promoter's ledger door"] == "PermissionError"
    promoter = PromoterClient.open(site.config, ACTIONS_DOOR)
    assert promoter.current()["model_digest"] is None
    assert [one["roles"] for one in promoter.people()] == [["approver", "operator"]] * 2
    promoter.close()
    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, version)
    refused = launch(site, version)
    assert (refused.returncode, "may not serve production" in refused.stderr) == (NotPromotedError.exit_code, True)


def test_even_in_the_promoter_s_folder_a_forged_promotion_starts_no_engine(site: RunningSite, version: str) -> None:
    promotions = site.config.at.promoter / "promotions"
    promotions.mkdir(exist_ok=True)
    (promotions / "000001.json").write_bytes(canonical.dumps(forged(version)))

    assert PromoterFolder(site.config.at.promoter).production().current == version
    assert launch(site, version).returncode == NotPromotedError.exit_code
    for what in ("does not follow", "is not the ledger's"):  # at once, and after the promoter's next start
        promoter = PromoterClient.open(site.config, ACTIONS_DOOR)
        with pytest.raises(RemoteError, match=what):
            promoter.stop(person=ANA.id, reason="look again")
        promoter.close()
        site.end("promoter")
        site.start("promoter")


def test_the_attack_would_be_seen(site: RunningSite, version: str) -> None:
    """With the rights that it must not have, the same process does write: the test above can fail."""
    as_on_a_box(site)
    for path in (site.config.at.promoter, *site.config.at.promoter.iterdir()):
        if path.is_dir():
            path.chmod(0o777)

    assert Path(site.config.at.promoter / "promotions/000001.json").exists() is False
    assert "written" in attack(site, version)["files"].values()
