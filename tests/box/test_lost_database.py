"""Two booted nodes with lists of names, until their PostgreSQL server is lost for good: up to both in service again.

Scenario: the list is on one node alone, then another one lies on the second, then the same; the server's disk is gone;
one node is restored from its newest backup into a file, answers, goes to a new server, and the second joins it anew.
Promise: no request is answered by a node that masks less than the other; what the pages and errors say is enough; an
answer of before the backup is proven afterwards, by both nodes.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from appliance.audit.socket_ledger import SocketLedger
from tests.box.checkout import SEALIFT, journal
from tests.box.standin import VERSION, lay_installed, receive
from tests.box.test_database_nodes import UNITS, approve, finding, socket_of
from tests.box.wired import NETWORK, SERVER, Node, nodes_booted, server, wait_until
from tests.interop.test_postgresql_tls import NAME, SECRET
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.signatories import signatories

__all__ = ["server"]  # a fixture
pytestmark = [pytest.mark.box, pytest.mark.timeout(1140)]

ANA, BEN, *_ = signatories()
SITE = "etc/sealift/sealift.toml"
BY = "--by 'Ann Old' --by 'Ben Young'"
BACKUPS = "root/backups"
ASK = json.dumps({"model": "production", "messages": [{"role": "user", "content": "Which?"}], "max_tokens": 4})


@pytest.fixture
def nodes(server: PostgresServer, tmp_path: Path) -> Iterator[dict[str, Node]]:
    section = (
        f'kind = "postgresql"\nserver = "{NAME}"\naddress = "{SERVER}"\nport = {server.port}\n'
        f'name = "{server.database()}"\n[backup]\nfolder = "/{BACKUPS}"\non_system_disk = true\n'
    )
    begin = 'format = 1\nsite = "demo"\n[engine]\nstart_seconds = 60\n[database]\n'
    with nodes_booted("sllo", lay_installed, lambda name: f'{begin}node = "{name}"\n{section}', tmp_path) as made:
        yield made


def answer(node: Node, key: str) -> dict[str, object]:
    """Ask a node as a caller does; return status and, of an answer, its request's id."""
    told = node.machine.shell(
        "curl -s -w '\\n%{http_code} %header{x-request-id}'"
        f" -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{ASK}'"
        " --unix-socket /run/sealift/gateway.sock http://x/v1/chat/completions"
    ).stdout
    body, _, tail = told.rpartition("\n")
    status, _, request = tail.partition(" ")
    return {"status": int(status or 0), "id": request, "body": body}


def says(node: Node, words: str) -> tuple[int, str]:
    """Type a command; return its exit code and what it says."""
    done = node.machine.shell(f"{SEALIFT} {words}")
    print(f"[{node.name}] sealift {words}\n  -> {done.returncode} {done.stdout[-1500:]}{done.stderr[-800:]}")
    return done.returncode, done.stdout


def serves(node: Node) -> bool:
    return node.asked("/readyz")[0] == 200


def serves_not(node: Node) -> bool:
    return not serves(node)


def begin_all(node: Node) -> None:
    node.begin()
    node.machine.run("systemctl", "start", *UNITS, shown=False)


def lists_differ_and_nobody_is_asked_by_who_masks_less(one: Node, two: Node, key: str) -> None:
    for node, names in ((one, "Jane Roe\nDoe, John\n"), (two, "Jane Roe\n")):
        (node.machine.root / "root/names.txt").write_text(names)
    assert says(one, f"census import /root/names.txt --as {ANA.id}")[0] == 0
    wait_until(lambda: "census" in two.asked("/readyz")[1], two.asked("/readyz")[1], 30)
    refused = answer(two, key)
    assert (refused["status"], "phi_unavailable" in str(refused["body"])) == (500, True), refused
    assert answer(one, key)["status"] == 200
    print("status:", says(two, "status")[1].count("census"), "doctor:", finding(two, "census"))

    assert says(two, f"census import /root/names.txt --as {ANA.id}")[0] != 0
    assert "census" in two.asked("/readyz")[1]
    shutil.copy(one.machine.root / "root/names.txt", two.machine.root / "root/names.txt")
    assert says(two, f"census import /root/names.txt --as {ANA.id}")[0] == 0
    wait_until(lambda: serves(two), two.asked("/readyz")[1], 30)
    assert answer(two, key)["status"] == 200

    # A new list: the second node is out until it has it.
    (one.machine.root / "root/names.txt").write_text("Jane Roe\nDoe, John\nPoe, Ann\n")
    assert says(one, f"census import /root/names.txt --as {ANA.id}")[0] == 0
    wait_until(lambda: not serves(two), "it serves by the list of before", 30)
    shutil.copy(one.machine.root / "root/names.txt", two.machine.root / "root/names.txt")
    assert says(two, f"census import /root/names.txt --as {ANA.id}")[0] == 0
    wait_until(lambda: serves(two), two.asked("/readyz")[1], 30)


def names_are_imported(node: Node) -> None:
    assert says(node, f"census import /root/names.txt --as {ANA.id}")[0] == 0


def backed_up(node: Node) -> str:
    """Make a key for backups and a backup, as the handbook says; return its file."""
    node.machine.shell(
        "cd /root && mkdir -m 700 key backups && gpg --batch --homedir key --passphrase '' --quick-gen-key"
        " 'Backups of demo' default default 20y && gpg --homedir key --export >backup-key.gpg"
        " && gpgconf --homedir key --kill all"
    )
    assert says(node, f"backup recipient /root/backup-key.gpg {BY}")[0] == 0
    code, told = says(node, "backup make")
    assert code == 0, told
    return f"/{BACKUPS}/{json.loads(told[told.index('{') :])['name']}"


@contextlib.contextmanager
def another(lost: PostgresServer) -> Iterator[PostgresServer]:
    """Lose a server with its disk, and yield a new one in its place, with its name and address."""
    issued = [Path(lost.settings[name]).read_bytes() for name in ("ssl_cert_file", "ssl_key_file")]
    lost.kill()
    shutil.rmtree(lost.data)
    with postgres_server() as made:
        made.network, made.port = NETWORK, lost.port
        files = [made.folder / "server.crt", made.folder / "server.key"]
        for file, content in zip(files, issued, strict=True):
            file.write_bytes(content)
        rule = "hostssl all all 10.78.0.0/24"
        made.serve_over_tls(*files, address=SERVER, rule=rule, password=SECRET)
        yield made


def test_nodes_with_lists_of_names_come_back_with_their_proofs_when_their_server_is_lost_for_good(
    nodes: dict[str, Node], server: PostgresServer
) -> None:
    one, two = nodes["one"], nodes["two"]
    assert one.sealift("db migrate up")["changes"]
    begin_all(one)
    wait_until(lambda: one.state() == "running", journal(one.machine, "sealift-ledger"))
    begin_all(two)
    wait_until(lambda: two.state() == "running", journal(two.machine, "sealift-ledger"))
    ledger = SocketLedger(socket_of(one, "ledger-actions"))
    (one.machine.root / "etc/sealift/ledger.pub").write_text(f"{ledger.vkey().to_text()}\n")  # as the install does
    ledger.close()
    assert "copy /etc/sealift/ledger.pub" in str(finding(two, "node ledger.pub")["fix"])
    shutil.copy(one.machine.root / "etc/sealift/ledger.pub", two.machine.root / "etc/sealift/ledger.pub")
    assert not finding(two, "node ledger.pub")
    key = str(one.sealift("keys create --department radiology --owner box --tier premium")["key"])
    for node in nodes.values():
        receive(node)
    approve(one)
    assert one.sealift(f"promote {VERSION.model_digest[:12]}")["step"] == "serving"
    for node in nodes.values():
        wait_until(partial(serves, node), journal(node.machine, "sealift-canary"), seconds=240)

    lists_differ_and_nobody_is_asked_by_who_masks_less(one, two, key)

    asked = [str(answer(node, key)["id"]) for node in nodes.values()]
    note = str(one.sealift("audit checkpoint")["note"])
    (one.machine.root / "root/printed.txt").write_text(note)
    for request in asked:
        print("proof before:", says(one, f"prove {request}"))
    backup = backed_up(one)
    lost = str(answer(two, key)["id"])
    print("stop:", says(one, f"stop --as {ANA.id} --reason 'to be sure'"))
    (one.machine.root / "root/printed.txt").write_text(str(two.sealift("audit checkpoint")["note"]))

    with another(server) as new:
        for node in nodes.values():
            wait_until(partial(serves_not, node), "it serves without its server", 60)
            print("without a server:", answer(node, key), says(node, "status")[1][:600])
        node_of_before, name = restore_one(one, two, backup), new.database()
        for request in asked:
            print("proof restored:", says(one, f"prove {request}"))
        print("lost:", says(one, f"prove {lost}"))
        print("verify:", says(one, "audit verify --checkpoint /root/printed.txt"))
        print("promote:", says(one, f"promote production --as {ANA.id}"))
        wait_until(lambda: serves(one), journal(one.machine, "sealift-gateway"), 120)
        refused = answer(one, key)  # the list lies here still, and what opened it is in no backup
        assert (refused["status"], "phi_unavailable" in str(refused["body"])) == (500, True), refused
        names_are_imported(one)
        wait_until(lambda: answer(one, key)["status"] == 200, "the list does not hold", 30)
        to_the_new_server(one, two, name, node_of_before)
        names_are_imported(two)
        for node in nodes.values():
            wait_until(partial(serves, node), node.asked("/readyz")[1], 240)
            assert answer(node, key)["status"] == 200
            for request in asked:
                print("proof at the end:", says(node, f"prove {request}"))
            assert says(node, "audit verify --checkpoint /root/printed.txt")[0] == 0


def restore_one(one: Node, two: Node, backup: str) -> str:
    """Do what the page says of a database server that is lost for good; return the site file of before."""
    for node in (one, two):
        node.machine.shell("systemctl stop sealift.target 'sealift-*'")
    site = one.machine.root / SITE
    before = site.read_text()
    what = f"backup restore {backup} --home /root/key {BY} --reason 'server lost' --checkpoint /root/printed.txt"
    print("as it is:", says(one, what))
    site.write_text(before.replace('node = "one"\n', "").replace('kind = "postgresql"', 'kind = "sqlite"'))
    print("without --replace:", says(one, what))
    assert says(one, f"{what} --replace --dry-run")[0] == 0
    assert says(one, f"{what} --replace")[0] == 0
    begin_all(one)
    wait_until(lambda: one.state() == "running", journal(one.machine, "sealift-ledger"), 60)
    return before


def to_the_new_server(one: Node, two: Node, name: str, before: str) -> None:
    """Move into the new server's database, name the node again, and let the second one join."""
    site = one.machine.root / SITE
    old = next(line for line in before.splitlines() if line.startswith("name = "))
    site.write_text(site.read_text().replace(old, f'name = "{name}"'))
    assert says(one, "db migrate up --on postgresql")[0] == 0
    assert says(one, "db move --to postgresql")[0] == 0
    site.write_text(site.read_text().replace("[database]\n", '[database]\nnode = "one"\n'))
    one.machine.shell("systemctl restart sealift-ledger sealift-gateway sealift-promoter sealift-jobs")
    wait_until(lambda: one.state() == "running" and serves(one), journal(one.machine, "sealift-ledger"), 120)
    second = two.machine.root / SITE
    second.write_text(second.read_text().replace(old, f'name = "{name}"'))
    two.begin()
    wait_until(lambda: two.state() == "failed", journal(two.machine, "sealift-ledger"), 120)
    print("second, as it is:", journal(two.machine, "sealift-ledger")[-1500:])
    two.machine.shell("systemctl stop 'sealift-*'")
    shutil.rmtree(two.machine.root / "etc/sealift/keys")
    shutil.copytree(one.machine.root / "etc/sealift/keys", two.machine.root / "etc/sealift/keys")
    two.machine.run("systemctl", "reset-failed", shown=False)
    two.begin()
    wait_until(lambda: two.state() == "failed", journal(two.machine, "sealift-ledger"), 120)
    print("second, with the keys:", journal(two.machine, "sealift-ledger")[-1500:])
    shutil.copy(one.machine.root / "etc/sealift/ledger.pub", two.machine.root / "etc/sealift/ledger.pub")
    two.machine.run("systemctl", "reset-failed", shown=False)
    begin_all(two)
    wait_until(lambda: two.state() == "running", journal(two.machine, "sealift-ledger"), 120)
    print("people:", says(two, "people list"), says(two, "models list"))
    time.sleep(5)
    print("promoter:", journal(two.machine, "sealift-promoter")[-1500:], journal(two.machine, "sealift-canary")[-1500:])
    two.machine.shell("systemctl stop 'sealift-*'")
    two.machine.shell(
        "mkdir /root/promoter-before && mv /var/lib/sealift/promoter/{people.json,promotions} /root/promoter-before/"
    )
    begin_all(two)
    wait_until(lambda: two.state() == "running", journal(two.machine, "sealift-ledger"), 120)
