"""Records of an installed box go to a PostgreSQL server of the facility and back, as the handbook says.

The server is another machine of the facility's network. What the box needs to reach it comes by a release that brings
the driver, and by an install that two people approve.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.install.dropins import DATABASE
from appliance.postgres.connecting import AUTHORITY, ROLES
from tests.box import upgrade
from tests.box.box import serve
from tests.box.network import BOX_ADDRESS, FACILITY_ADDRESS
from tests.box.operators import as_person
from tests.box.run import ROOT, Run
from tests.box.sender import RECIPE
from tests.interop.test_postgresql_tls import NAME, SECRET, Authority
from tests.support.postgres import PostgresServer, postgres_server

_DRIVER = "server-postgresql.txt"
_PASSWORDS = "etc/sealift/database"
_PRINTED = "/root/printed.txt"
_PLANS = "var/lib/sealift/plans"
# Services that run all the time, each with the one role whose password it may have.
_RUNNING = {"sealift-ledger": "ledger", "sealift-gateway": "reader", "sealift-admin": "state"}


def all_of_it(run: Run, stack: ExitStack, key: str, medium: str) -> None:
    """There, by what two people approve and the handbook's commands; and back, until nothing of it is left."""
    server = stack.enter_context(_server(run))
    name = server.database()
    site_file = run.machine.root / upgrade.SITE_FILE
    alone = site_file.read_text()
    volume = upgrade.next_release(run, 2, recipe=_recipe(run), beside=[ROOT / "requirements" / _DRIVER])
    run.require("the release is on the medium", str(volume).endswith("volume-1"))
    outside = _Outside.keep(run, key)
    with run.stage.chapter("Two people approve a release with the driver, and the way to one server"):
        run.machine.run("sealift", "receive", medium)
        _lay_passwords(run)
        site_file.write_text(_naming(alone, server.port, name))
        _tells_the_way(run, upgrade.approve_next(run))
    upgrade.go_forward(run)
    _has_the_way(run, server.port)
    _there(run, server, name)
    outside.holds(run, key, "on the server")
    with run.stage.chapter("Back to the file"):
        moved = run.machine.result("sealift", "db", "move", "--to", "sqlite")
        run.require("the file has all that was recorded on the server", moved["size"] > outside.size, moved)
    outside.holds(run, key, "in the file again")
    site_file.write_text(alone)
    _let_go(run)
    outside.holds(run, key, "without a server")


@dataclass(slots=True, kw_only=True)
class _Outside:
    """What somebody outside keeps of a box: a printed checkpoint, and answers whose proofs have to hold for good."""

    requests: list[str]
    size: int

    @classmethod
    def keep(cls, run: Run, key: str) -> "_Outside":
        answer = serve(run, key, chapter="An answer, its record in the box's file")
        printed = run.machine.result("sealift", "audit", "checkpoint")
        (run.machine.root / _PRINTED.lstrip("/")).write_text(str(printed["note"]))
        return cls(requests=[answer["request_id"]], size=_records(run))

    def holds(self, run: Run, key: str, where: str) -> None:
        """Ask again, and prove all there ever was an answer to."""
        answer = serve(run, key, chapter=f"It answers, its records {where}")
        with run.stage.chapter(f"Every proof from before holds, records {where}"):
            for request in self.requests:
                proof = run.machine.result("sealift", "prove", request)
                run.require(f"an answer from before is proven, records {where}", proof["ok"] is True, proof)
            verified = run.machine.result("sealift", "audit", "verify", "--checkpoint", _PRINTED)
            run.require(f"the printed checkpoint is of these records, {where}", verified["ok"] is True, verified)
        self.requests.append(answer["request_id"])
        self.size = _records(run)


def _tells_the_way(run: Run, plan: str) -> None:
    difference = json.loads((run.machine.root / _PLANS / f"{plan}.json").read_text())["difference"]
    lines = [f"IPAddressAllow={FACILITY_ADDRESS}", *(f"LoadCredential=database-{role}:" for role in _RUNNING.values())]
    untold = [line for line in lines if line not in difference]
    run.require("the plan says who gets which password, and to what address", untold == [], (untold, difference))
    run.require("and no password", SECRET not in difference)


def _has_the_way(run: Run, port: int) -> None:
    with run.stage.chapter("What the install laid down: a password each, one address, one way through the filter"):
        for unit, role in _RUNNING.items():
            given = run.machine.run("ls", f"/run/credentials/{unit}.service", shown=False).stdout.split()
            database = [one for one in given if one.startswith("database-") or one == AUTHORITY]
            run.require("each service has its own password", sorted(database) == [f"database-{role}", AUTHORITY], given)
            allowed = run.machine.run("systemctl", "show", "-P", "IPAddressAllow", unit, shown=False).stdout
            run.require("and may send to the server", FACILITY_ADDRESS in allowed, (unit, allowed))
        rules = run.machine.run("nft", "list", "ruleset", shown=False).stdout
        ways = [line for line in rules.splitlines() if f"daddr {FACILITY_ADDRESS}" in line]
        run.require("the packet filter opens one way", len(ways) == 1 and f"tcp dport {port} " in ways[0], ways)


def _there(run: Run, server: PostgresServer, name: str) -> None:
    machine = run.machine
    with run.stage.chapter("The tables, by the owner's password, which goes again"):
        made = machine.result("sealift", "db", "migrate", "up", "--on", "postgresql")
        run.require("the tables are made", bool(made["changes"]), made)
        (machine.root / _PASSWORDS / "database-owner").unlink()
        looked = machine.result("sealift", "db", "move", "--to", "postgresql", "--dry-run")
        run.require("the preview moved nothing", _leaves(server, name) == 0, looked)
    with run.stage.chapter("All records go to the server"):
        before = _records(run)
        moved = machine.result("sealift", "db", "move", "--to", "postgresql")
        run.require("the server has every record", _leaves(server, name) >= before > 0, moved)
        again = machine.result("sealift", "db", "move", "--to", "postgresql")
        run.require("moving again changes nothing", again["needed"] is False, again)


def _let_go(run: Run) -> None:
    with run.stage.chapter("Two people approve that the server is named no more"):
        run.require("drop-ins led there", _drop_ins(run) != [])
        upgrade.approve_next(run)
        run.machine.result(*as_person("omar", "sealift", "install", "2"))
        run.require("no drop-in leads to a server", _drop_ins(run) == [], _drop_ins(run))
        filter_now = run.machine.run("nft", "list", "ruleset", shown=False).stdout
        run.require("and the packet filter opens no way", FACILITY_ADDRESS not in filter_now, filter_now)


@contextmanager
def _server(run: Run) -> Iterator[PostgresServer]:
    authority = Authority.make()
    with postgres_server() as server:
        server.network = run.facility.name
        issued = authority.issue(NAME, server.folder)
        rule = f"hostssl all all {BOX_ADDRESS}/32"
        server.serve_over_tls(*issued, address=FACILITY_ADDRESS, rule=rule, password=SECRET)
        (run.out / AUTHORITY).write_bytes(authority.pem())
        yield server


def _recipe(run: Run) -> Path:
    folder = run.out / "with-driver"
    shutil.copytree(RECIPE.parent / "evals", folder / "evals")
    recipe = folder / "recipe.toml"
    recipe.write_text(f'{RECIPE.read_text()}\n[locks]\nserver = "{_DRIVER}"\n')
    return recipe


def _lay_passwords(run: Run) -> None:
    folder = run.machine.root / _PASSWORDS
    folder.mkdir(mode=0o700)
    shutil.copy(run.out / AUTHORITY, folder)
    for role in ROLES:
        password = folder / f"database-{role}"
        password.write_text(f"{SECRET}\n")
        password.chmod(0o400)


def _naming(site: str, port: int, name: str) -> str:
    where = {"server": NAME, "address": FACILITY_ADDRESS, "port": port, "name": name}
    return f"{site}\n[database]\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in where.items())


def _drop_ins(run: Run) -> list[str]:
    units = run.machine.root / "etc/systemd/system"
    return sorted(path.parent.name for path in units.glob(f"*.d/{DATABASE}"))


def _records(run: Run) -> int:
    told = run.machine.run("sealift", "status", "--json", shown=False, may_fail=True).stdout
    return int(json.loads(told)["ledger"]["size"])


def _leaves(server: PostgresServer, name: str) -> int:
    return int(server.admin("SELECT count(*) FROM sealift_ledger.leaf", name)[0][0])
