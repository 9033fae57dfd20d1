"""Two booted nodes of one site, each with an address of its own, answer at once over one PostgreSQL server, by TLS.

Scenario: a node comes with another key than the first; two people promote a version on the first node, while the second
lacks its release, and gets it later; a caller spends what one key may use on one and goes to the other; then the first
loses its power, comes back and is retired by the two people. Promise: the key is refused by its name; the second node
says what it lacks and, once it has it, serves the version without a person; the key has one allowance for both; both
record in one tree, which verifies; the one that is left goes on, and the retired one answers and starts no more. The
units are as they are. In the engine's place is a program of a few lines.
"""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit.socket_ledger import SocketLedger
from appliance.promote.client import PromoterClient
from appliance.promote.policy import packaged
from appliance.promote.validated import require_validated
from tests.box.allowance import LIMITS, what_a_key_may_use_is_counted_on_the_server
from tests.box.checkout import SEALIFT, journal
from tests.box.checkout import SERVER as ENVIRONMENT
from tests.box.standin import VERSION, asks, lay_installed, receive
from tests.box.wired import SECRETS, SERVER, Node, nodes_booted, server, wait_until, wire
from tests.interop.test_postgresql_tls import NAME
from tests.support.postgres import PostgresServer
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories

__all__ = ["server"]  # a fixture
pytestmark = [pytest.mark.box, pytest.mark.timeout(1140)]

# What receiving does with a release's versions, on the node itself.
REGISTER = """
from appliance import config
from appliance.audit.client import open_ledger
from appliance.registry import catalog
from appliance.state.database import open_state
from appliance.store.content import ContentStore, StoredRelease
here = config.load(config.DEFAULT_PATH)
stored = StoredRelease.load(ContentStore(here.at.store), 1)
catalog.register(open_ledger(here, "ledger-actions"), open_state(here.at, read_only=False), stored)
"""
ENGINE_UNIT = f"sealift-engine-production@{VERSION.model_digest[:12]}.service"
UNITS = ("sealift-promoter.service", "sealift-jobs.service", "sealift-canary.timer")


@pytest.fixture
def database(server: PostgresServer) -> str:
    return server.database()


@pytest.fixture
def nodes(server: PostgresServer, database: str, tmp_path: Path) -> Iterator[dict[str, Node]]:
    section = (
        f'kind = "postgresql"\nserver = "{NAME}"\naddress = "{SERVER}"\n'
        f'port = {server.port}\nname = "{database}"\n{LIMITS}'
    )
    begin = 'format = 1\nsite = "demo"\n[engine]\nstart_seconds = 60\n[database]\n'
    with nodes_booted("slno", lay_installed, lambda name: f'{begin}node = "{name}"\n{section}', tmp_path) as made:
        yield made


def socket_of(node: Node, name: str) -> Path:
    return Path(f"/proc/{node.machine.leader}/root/run/sealift/{name}.sock")


def approve(node: Node) -> None:
    """Enrol two people on a node, register a version there whose gates passed, and let both approve it."""
    node.machine.run(f"/{ENVIRONMENT}/bin/python", "-I", "-c", REGISTER, shown=False)
    ana, ben, *_ = signatories()
    with contextlib.ExitStack() as stack:
        promoter = PromoterClient.at(socket_of(node, "promoter-actions"))
        ledger = SocketLedger(socket_of(node, "ledger-actions"))
        stack.callback(promoter.close)
        stack.callback(ledger.close)
        for code, person in zip(promoter.codes(2), (ana, ben), strict=True):
            promoter.enrol(code=code, name=person.name, certificate=person.certificate, password=PASSWORD)
        for gate in packaged().gates:
            figures = {"policy_digest": packaged().digest}
            result = {"model_digest": VERSION.model_digest, "gate": gate, "passed": True, "evidence_digest": "e" * 64}
            ledger.append("gate.result", {**result, "figures": figures})
        validated = require_validated(ledger, VERSION.model_digest, packaged())
        request = promoter.request(validated, meaning="serve it", requested_by=ana.id)
        for person in (ana, ben):
            promoter.approve(request.statement.sha256, person.sign(request.statement.to_bytes()))


def finding(node: Node, name: str) -> dict[str, object]:
    """Return one finding of the doctor, which ends with an error where one is wrong."""
    told = node.machine.shell(f"/{ENVIRONMENT}/bin/sealift --config /etc/sealift/sealift.toml --json doctor").stdout
    found = json.loads(told[told.index("{") :])
    return next((one for one in found["findings"] if one["name"] == name), {})


def test_two_booted_nodes_answer_at_once_follow_a_promotion_count_a_key_together_and_go_on_without_one_of_them(
    nodes: dict[str, Node], server: PostgresServer, database: str
) -> None:
    one, two = nodes["one"], nodes["two"]
    assert one.sealift("db migrate up")["changes"]
    for node in nodes.values():
        (node.machine.root / SECRETS / "database-owner").unlink()
    one.begin()
    wait_until(lambda: one.state() == "running", journal(one.machine, "sealift-ledger"))

    another_key_is_refused_by_its_name(one, two)
    two.machine.run("systemctl", "reset-failed", "sealift-ledger.service", shown=False)
    two.begin()
    wait_until(lambda: not two.lacks_ledger() and two.state() == "running", journal(two.machine, "sealift-ledger"))
    for node in nodes.values():
        node.machine.run("systemctl", "start", *UNITS, shown=False)

    key = str(one.sealift("keys create --department radiology --owner box --tier premium")["key"])
    receive(one)
    approve(one)
    promoted = one.sealift(f"promote {VERSION.model_digest[:12]}")
    assert promoted["step"] == "serving", promoted
    wait_until(lambda: one.asked("/readyz")[0] == 200, journal(one.machine, "sealift-gateway"))

    # Fail closed: callers are sent to the version, and this node does not hold it.
    wait_until(lambda: "engine" in two.asked("/readyz")[1], two.asked("/readyz")[1])
    assert asks(two, key) >= 500
    wait_until(lambda: bool(finding(two, "node versions")), journal(two.machine, "sealift-canary"), seconds=240)
    assert VERSION.model_digest[:12] in str(finding(two, "node versions")["text"])

    receive(two)
    wait_until(lambda: two.asked("/readyz")[0] == 200, journal(two.machine, "sealift-canary"), seconds=240)
    assert not finding(two, "node versions")
    for node in nodes.values():
        assert asks(node, key) == 200, journal(node.machine, "sealift-gateway")
    ledger = SocketLedger(socket_of(two, "ledger-actions"))
    answered = {leaf.via.node for leaf in ledger.find("request.outcome", limit=50) if leaf.body["outcome"] == "ok"}
    asked = [leaf for leaf in ledger.find("job.asked") if leaf.body["kind"] == "start-production-engine"]
    (made,) = ledger.find("promotion.made")
    ledger.close()
    assert answered == {"one", "two"}
    assert made.via.node == "one"
    # The one is asked for by whoever promoted there, the other by nobody.
    assert {leaf.body["account"] for leaf in asked if leaf.via.node == "two"} == {"sealift-switch"}

    what_a_key_may_use_is_counted_on_the_server(one, two, server, database)

    one.machine.cut_power()
    # A machine that is gone in the middle of a batch holds the others up until the server ends its session.
    wait_until(lambda: asks(two, key) == 200, "nobody answers", seconds=60)
    wait_until(lambda: "two leads" in str(two.sealift("status")["ledger"]), "nobody leads", seconds=120)
    assert two.sealift("audit verify")["ok"] is True

    one.machine.boot()
    wire(one.machine, "one")
    one.begin()
    one.machine.run("systemctl", "start", *UNITS, ENGINE_UNIT, shown=False)
    wait_until(lambda: asks(one, key) == 200, journal(one.machine, "sealift-gateway"))
    one_goes_for_good_and_the_other_goes_on(one, two, key)


def another_key_is_refused_by_its_name(one: Node, two: Node) -> None:
    """Let the second node begin with another key than the first, see it refused and named, and put the key right."""
    path = two.machine.root / "etc/sealift/keys/identity-hmac.v1"
    path.write_bytes(b"another key of thirty-two bytes!")
    two.begin()
    wait_until(lambda: two.state() == "failed", journal(two.machine, "sealift-ledger"))
    told = journal(two.machine, "sealift-ledger")
    assert "other keys than those of node one: identity-hmac.v1" in told
    assert two.lacks_ledger()
    assert "identity-hmac.v1 is another key than that of node one" in str(two.sealift("status")["ledger"])
    assert "copy identity-hmac.v1" in str(finding(two, "node keys")["fix"])
    assert finding(one, "node keys")["is_good"] is True
    shutil.copy(one.machine.root / "etc/sealift/keys/identity-hmac.v1", path)


def retire(node: Node, words: str, *, password: str = PASSWORD) -> "subprocess.CompletedProcess[str]":
    """Let the two people who were enrolled on the first node retire what the words say."""
    (node.machine.root / "root/password").write_text(f"{password}\n")
    people = " ".join(f"--by {person.id} --password-file /root/password" for person in signatories()[:2])
    what = f"{people} --reason replaced --disk 'SSD, S/N 1' --certificate /root/c.html"
    return node.machine.shell(f"{SEALIFT} retire --site demo {what} {words}")


def one_goes_for_good_and_the_other_goes_on(one: Node, two: Node, key: str) -> None:
    """Retire a node as the handbook says, and see what is left of it, and what the other one has of it."""
    done = retire(one, "")
    assert (done.returncode, "other nodes of this site have the same keys: two" in done.stdout) == (47, True)
    keys = {node.name: node.machine.root / "etc/sealift/keys" for node in (one, two)}
    had = {path.name for path in keys["one"].iterdir()}
    assert {path.name for path in keys["two"].iterdir()} == had
    assert retire(one, "--node one", password="another's").returncode == 45
    assert {path.name for path in keys["one"].iterdir()} == had

    done = retire(one, "--node one")
    assert done.returncode == 0, done.stdout
    one.machine.run("systemctl", "disable", "--now", "sealift.target", shown=False)
    wait_until(lambda: one.state() in {"dead", "failed"}, "the retired node's ledger runs on", seconds=60)
    assert asks(one, key) == 0
    assert list(keys["one"].iterdir()) == []
    assert "demo, node one" in (one.machine.root / "root/c.html").read_text()
    for unit in ("sealift-ledger.service", "sealift-gateway.service"):
        assert one.machine.shell(f"systemctl start {unit}").returncode != 0
        assert "Failed at step CREDENTIALS" in journal(one.machine, unit)

    assert asks(two, key) == 200, journal(two.machine, "sealift-gateway")
    assert {path.name for path in keys["two"].iterdir()} == had
    ledger = SocketLedger(socket_of(two, "ledger-actions"))
    told = ledger.find("retire.", limit=100, newest_first=False)
    destroyed = ledger.find("key.destroyed")
    ledger.close()
    assert {leaf.via.node for leaf in told} == {"one"}
    assert (told[0].kind, told[-1].kind) == ("retire.node-begun", "retire.node-done")
    names = [leaf.body["name"] for leaf in told if leaf.kind == "retire.node-key"]
    assert names == [each["name"] for each in told[-1].body["keys"]]
    assert {"api-key-pepper", "identity-hmac", "phi-map", "password hashes"} <= set(names)
    assert {each["person"] for each in told[-1].body["by"]} == {person.id for person in signatories()[:2]}
    assert not destroyed
    assert finding(two, "node keys")["is_good"] is True
    assert two.sealift("audit verify")["ok"] is True
    done = retire(two, "--node two --dry-run")
    assert (done.returncode, "two is the last node" in done.stdout) == (47, True)
