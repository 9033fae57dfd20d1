"""A database server of two nodes is lost for good: its page's steps lead back to both, with old answers proven."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.actions.databases import migrating
from appliance.actions.receive import receive
from appliance.cli import audit, backup, db
from appliance.errors import ConflictError, KeyMissingError, LedgerDamagedError, ProofError
from media.clock import SystemClock
from tests.support.backups import Recipient, offline, with_backups
from tests.support.postgres import PostgresServer
from tests.support.promoting import PEOPLE, bring, enrol_all, homes, medium_of, record_answer, serve
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder

__all__ = ["homes", "offline"]  # fixtures
pytestmark = pytest.mark.fault
TWO = ("--by", "Eva Rossi", "--by", "Finn Olsen")


@pytest.fixture
def nodes(postgres: PostgresServer, offline: Recipient, tmp_path: Path) -> Iterator[tuple[RunningSite, RunningSite]]:
    """Two nodes of one site: the second has the keys and the ledger's public key of the first."""
    name = postgres.database()
    migrating.migrate(postgres.places(tmp_path / "owner", name), "up")
    disk = f'[backup]\nfolder = "{tmp_path / "disk"}"\non_system_disk = true\n'
    server = f'[database]\nkind = "postgresql"\nsocket = "{postgres.socket}"\nport = {postgres.port}\nname = "{name}"\n'
    with ExitStack() as stack:
        made: list[RunningSite] = []
        for node in ("a", "b"):
            root = stack.enter_context(short_folder())
            if made:
                etc = root / "etc/sealift"
                shutil.copytree(made[0].config.at.key_files, etc / "keys")
                shutil.copy(made[0].config.at.etc / "ledger.pub", etc)
            more = f'{disk}{server}node = "{node}"\n'
            site = stack.enter_context(running_site(root, medium_of(1), more=more))
            site.config = with_backups(site.config, tmp_path / "disk", offline.certificate())
            made.append(site)
        yield made[0], made[1]


def change(site: RunningSite, *changes: tuple[str, str]) -> None:
    """Edit a site file."""
    file = site.config.at.config_file
    text = file.read_text()
    for before, after in changes:
        text, found = re.subn(before, after, text)
        assert found == 1, before
    file.write_text(text)


def refused(site: RunningSite) -> int:
    """Start a node's ledger, which does not start; return its exit code."""
    command = [sys.executable, "-I", "-m", "appliance.audit.service", "--config", str(site.config.at.config_file)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=100, check=False).returncode


def take(site: RunningSite, serial: int) -> None:
    """Receive a medium by what the site file says now."""
    config = configuration.load(site.config.at.config_file)
    receive(config, medium_of(serial).volumes, clock=SystemClock(), progress=lambda *_: None)


def begin(site: RunningSite) -> None:
    site.start("ledger")
    site.start("promoter")


def end(site: RunningSite) -> None:
    for name in list(site.processes):
        site.end(name)


def proves(sealift: Run, request: str) -> bool:
    done = sealift("--json", "prove", request)
    return done.code == 0 and done.facts["ok"] is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What is known when the server is lost: the version in production, a backup, and what was printed after it."""

    digest: str
    backup: str
    printed: Path


def until_it_is_lost(
    nodes: tuple[RunningSite, RunningSite], run: tuple[Run, Run], homes: dict[str, Path], folder: Path
) -> Lost:
    """Let both nodes answer, one back up, and more happen after it: an answer, a release, a stop."""
    (a, b), (first, second) = nodes, run
    enrol_all(a, first, homes)
    # The second one's medium is received while it has no way to the server yet, as before its first install.
    end(b)
    change(b, ('kind = "postgresql"', 'kind = "sqlite"'), ('node = "b"\n', ""))
    take(b, 1)
    change(b, ('kind = "sqlite"', 'kind = "postgresql"\nnode = "b"'))
    digest = bring(a, 1)
    begin(b)
    serve(first, digest, homes)
    record_answer(a, digest, 1, "req-a")
    record_answer(b, digest, 1, "req-b")
    made = as_json(first, "backup", "make")
    record_answer(b, digest, 1, "req-lost")
    take(b, 2)
    as_json(first, "stop", "--as", "eva-rossi", "--reason", "to be sure")
    assert as_json(second, "canary", "judge")
    printed = folder / "printed.txt"
    printed.write_text(as_json(first, "audit", "checkpoint")["note"])
    done = second("--json", "prove", "req-a")
    assert (done.code, "node a ran the gates" in done.out) == (ProofError.exit_code, True)
    there, here = (site.config.at.registry / "evidence" for site in nodes)
    shutil.copytree(there, here, dirs_exist_ok=True)
    assert proves(second, "req-a")
    return Lost(digest=digest, backup=str(folder / "disk" / made["name"]), printed=printed)


def restore(a: RunningSite, first: Run, lost: Lost, home: Path) -> None:
    """Take steps 2 to 4 of the page, and what is refused before each."""
    words = ["backup", "restore", lost.backup, "--home", str(home), *TWO, "--reason", "server lost"]
    words += ["--checkpoint", str(lost.printed)]
    done = first("--json", *words)
    assert (done.code, "take database.node out" in done.out) == (ConflictError.exit_code, True)
    change(a, ('kind = "postgresql"', 'kind = "sqlite"'), ('node = "a"\n', ""))
    done = first("--json", *words)
    assert (done.code, "--replace" in done.out) == (ConflictError.exit_code, True)
    assert as_json(first, *words, "--replace", "--dry-run")["dry_run"] is True
    restored = as_json(first, *words, "--replace")
    assert (restored["people"], restored["production"]) == (sorted(PEOPLE), lost.digest)
    assert restored["lost"] > 0
    begin(a)
    assert first("--json", "audit", "verify", "--checkpoint", str(lost.printed)).code == 0
    assert as_json(first, "promote", lost.digest, "--as", "eva-rossi")["step"] == "serving"
    assert (proves(first, "req-a"), proves(first, "req-b"), proves(first, "req-lost")) == (True, True, False)
    end(a)


def join_again(a: RunningSite, b: RunningSite, second: Run, before: Path) -> None:
    """Take step 6 on the other node, and what it says before each part of it."""
    assert refused(b) == KeyMissingError.exit_code
    shutil.rmtree(b.config.at.key_files)
    shutil.copytree(a.config.at.key_files, b.config.at.key_files)
    assert refused(b) == KeyMissingError.exit_code
    shutil.copy(a.config.at.etc / "ledger.pub", b.config.at.etc)
    begin(b)
    done = second("--json", "canary", "judge")
    assert (done.code, "a lost server" in done.out) == (LedgerDamagedError.exit_code, True)
    end(b)
    before.mkdir()
    for each in ("people.json", "promotions"):
        shutil.move(b.config.at.promoter / each, before)
    begin(b)


def test_nodes_whose_server_is_lost_for_good_come_back_by_the_page(
    nodes: tuple[RunningSite, RunningSite],
    homes: dict[str, Path],
    postgres: PostgresServer,
    offline: Recipient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b = nodes
    first, second = (runner(site, capsys, more=(audit, backup, db)) for site in nodes)
    lost = until_it_is_lost(nodes, (first, second), homes, tmp_path)
    for site in nodes:
        end(site)
    old, new = a.config.database.name, postgres.database()
    postgres.admin(f"DROP DATABASE {old} WITH (FORCE)")

    restore(a, first, lost, offline.home)
    change(a, (f'name = "{old}"', f'name = "{new}"'))
    as_json(first, "db", "migrate", "up", "--on", "postgresql")
    as_json(first, "db", "copy", "--to", "postgresql")
    change(a, ('kind = "sqlite"', 'kind = "postgresql"\nnode = "a"'))
    begin(a)
    record_answer(a, lost.digest, 1, "req-new")
    change(b, (f'name = "{old}"', f'name = "{new}"'))
    join_again(a, b, second, tmp_path / "before")

    record_answer(b, lost.digest, 1, "req-newest")
    take(b, 3)
    assert as_json(second, "canary", "judge")
    as_json(first, "audit", "checkpoint")
    for sealift in (first, second):
        assert all(proves(sealift, request) for request in ("req-a", "req-b", "req-new", "req-newest"))
        assert sealift("--json", "audit", "verify", "--checkpoint", str(lost.printed)).code == 0
    assert sorted(one["person"] for one in as_json(second, "people", "list")["people"]) == sorted(PEOPLE)
