"""A real PostgreSQL server in a throwaway folder, on a Unix socket, run by an unprivileged user; databases on demand.

It syncs as in production, because the code under test refuses a server that does not.
"""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from appliance.config import DatabaseSection, Places
from appliance.postgres.connecting import ROLES, role_name

ADMIN = "admin"
_NUMBERS = itertools.count()
_START_SECONDS = 60
_ROOM = 2 * 2**30
_SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "logging_collector": "off",
    "log_min_messages": "fatal",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
}


def binaries() -> Path:
    """Return the folder of the server's programs; Debian keeps them off the PATH.

    Raises:
        AssertionError: The package postgresql is absent: the tests that need it fail, they are not skipped.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[4]))
    assert found, "no PostgreSQL server: apt-get install postgresql"
    return found[-1].parent


_EMPTY = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
SET session_replication_role = replica;
TRUNCATE sealift_ledger.leaf, sealift_ledger.node, sealift_ledger.checkpoint;
UPDATE sealift_ledger.writer SET token = 0, moved = NULL;
TRUNCATE sealift_state.release, sealift_state.model_version, sealift_state.gate_result, sealift_state.promotion,
  sealift_state.api_key, sealift_state.rollout, sealift_state.key_rule, sealift_state.caller_stop;
UPDATE sealift_state.applied SET sequence = -1;
TRUNCATE sealift_limits.bucket, sealift_limits.spent, sealift_held.held;
"""


@dataclass(slots=True, kw_only=True)
class PostgresServer:
    """One cluster. `kill` ends it as a power cut of its process would; `start` brings it back.

    `network` names the name space in which it listens from its next start on; for root only.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=lambda: dict(_SETTINGS))
    port: int = 5432
    network: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "run"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        """Make the cluster and its roles."""
        self.socket.mkdir()
        if os.geteuid() == 0:
            user = _user()
            shutil.chown(self.folder, user.pw_uid, user.pw_gid)
            shutil.chown(self.socket, user.pw_uid, user.pw_gid)
        options = ["-U", ADMIN, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        command = [str(binaries() / "initdb"), "-D", str(self.data), *options]
        subprocess.run(command, check=True, capture_output=True, **_as_user())
        self.start()
        for role in ROLES:
            self.admin(f"CREATE ROLE {role_name(role)} LOGIN")

    def repeat(self, primary: "PostgresServer") -> None:
        """Make this cluster a standby of another one, by a copy of its files and its stream of changes."""
        self.socket.mkdir()
        if os.geteuid() == 0:
            user = _user()
            shutil.chown(self.folder, user.pw_uid, user.pw_gid)
            shutil.chown(self.socket, user.pw_uid, user.pw_gid)
        options = ["-h", str(primary.socket), "-p", str(primary.port), "-U", ADMIN, "-R", "-c", "fast", "--no-sync"]
        command = [str(binaries() / "pg_basebackup"), "-D", str(self.data), *options]
        subprocess.run(command, check=True, capture_output=True, **_as_user())
        self.start()

    def start(self) -> None:
        """Start it and wait until it lets somebody in."""
        settings = {**self.settings, "unix_socket_directories": f"'{self.socket}'", "port": str(self.port)}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value.strip(chr(39))}")]
        log = (self.folder / "log").open("ab")
        with log:
            program = [str(binaries() / "postgres"), "-D", str(self.data), *given]
            self._process = subprocess.Popen(
                [*_into(self.network), *program],
                stdout=log,
                stderr=log,
                **({"cwd": "/"} if self.network else _as_user()),
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.admin("SELECT 1")
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """SIGKILL every process of the cluster at once: nothing is flushed, nobody says goodbye."""
        assert self._process is not None
        children = [int(pid) for pid in _children(self._process.pid)]
        for pid in (self._process.pid, *children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pid in children:  # they hold the shared memory that the next start refuses to meet
            while Path(f"/proc/{pid}").exists() and not _is_zombie(pid):
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop it in good order (SIGINT: fast shutdown)."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def serve_over_tls(
        self, certificate: Path, private: Path, *, address: str, rule: str, password: str, proof: str = "scram-sha-256"
    ) -> None:
        """Start it anew so that it listens at an address too, where the rule lets roles in with this password."""
        owner = self.data.stat()
        for path in (certificate, private):
            path.chmod(0o600)
            os.chown(path, owner.st_uid, owner.st_gid)
        self.stop()
        (self.data / "pg_hba.conf").write_text(f"local all all trust\n{rule} {proof}\n")
        self.settings |= {
            "listen_addresses": address,
            "ssl": "on",
            "ssl_cert_file": str(certificate),
            "ssl_key_file": str(private),
        }
        self.start()
        for role in ROLES:
            self.admin(f"ALTER ROLE {role_name(role)} PASSWORD '{password}'")

    def admin(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser."""
        with psycopg.connect(
            host=str(self.socket), port=self.port, user=ADMIN, dbname=database, autocommit=True, passfile="/dev/null/x"
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def database(self, template: str = "template0") -> str:
        """Create a database that the owner may make schemas in, and return its name."""
        name = f"t{next(_NUMBERS)}"
        statement = sql.SQL("CREATE DATABASE {} OWNER sealift_owner ENCODING 'UTF8' TEMPLATE {}")
        self.admin(statement.format(sql.Identifier(name), sql.Identifier(template)).as_string())
        return name

    def empty(self, name: str) -> None:
        """Empty our tables in a database, as only a superuser without triggers can, and end who is connected to it."""
        self.admin(_EMPTY, name)

    def section(self, database: str) -> DatabaseSection:
        return DatabaseSection(kind="postgresql", socket=str(self.socket), port=self.port, name=database)

    def places(self, root: Path, database: str) -> Places:
        return Places(root=root, run=root / "run", server=self.section(database))


@contextmanager
def postgres_server(
    settings: Mapping[str, str] | None = None, *, of: PostgresServer | None = None
) -> Iterator[PostgresServer]:
    """Lend a running server, or a standby of another; its folder is short, as paths of sockets have to be."""
    # In memory where there is room: a killed process loses what it had not handed to the kernel, here as on a disk.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM
    folder = Path(tempfile.mkdtemp(prefix="sealift-pg-", dir=memory if roomy else None))
    server = PostgresServer(folder=folder, settings={**_SETTINGS, **(settings or {})})
    try:
        if of is None:
            server.create()
        else:
            server.repeat(of)
        yield server
    finally:  # an orderly end would sync every database that is thrown away here
        if server._process is not None and server._process.poll() is None:
            server.kill()
        shutil.rmtree(folder)


def _user() -> pwd.struct_passwd:
    names: Sequence[str] = ("postgres", "nobody")
    return next(entry for name in names for entry in pwd.getpwall() if entry.pw_name == name)


def _into(network: str) -> list[str]:
    """Return what runs a program in a name space as the server's user; it is replaced by the program."""
    if not network:
        return []
    user = _user()
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["nsenter", f"--net=/run/netns/{network}", *become]


def _as_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {"cwd": "/"}
    user = _user()
    return {"cwd": "/", "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
