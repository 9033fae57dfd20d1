"""One connection to the PostgreSQL server of the site: by its Unix socket, or by TLS verified in full.

Whatever decides where we connect and how we trust is given explicitly, so that no variable of the environment and no
file of a home folder has a say (libpq reads many). A password comes as the credential ``database-ROLE`` or from a file
that only its owner reads, a certificate with its key as ``database-ROLE.pem``; never from the command line, the
environment, the site file, and never into an error.
Source: PostgreSQL documentation, "Database Connection Control Functions" and "SSL Support" of libpq.
"""

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from appliance.config import DatabaseSection, Places
from appliance.errors import DatabaseError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

# `owner` makes and changes schemas and is nobody's at run time; `ledger` appends, `state` projects, `reader` reads.
Role = Literal["owner", "ledger", "state", "reader"]
ROLES: Final[tuple[Role, ...]] = ("owner", "ledger", "state", "reader")
AUTHORITY: Final = "server-authority.pem"
# Debian 12's, which the tests run against.
LEAST_VERSION: Final = 150000
_PREFIX: Final = "sealift_"
_CONNECT_SECONDS: Final = 10
_MAX_PASSWORD_BYTES: Final = 1024
# Given where there is nothing to give: libpq would look in the home folder.
_NOWHERE: Final = "/dev/null/absent"
# After the last "failed: " libpq says why; what stands before names host, address and path.
_REASON = re.compile(r".*failed: (?:FATAL: +)?([^\n]{1,320})")
_FOLDER = re.compile(r'"/[^"\n]*/')
_PAGE: Final = "see docs/operator/postgresql.md"


class AwayError(DatabaseError):
    """Nobody answered, or the server let nobody in: another try may find it there."""


def role_name(role: Role) -> str:
    """Return the name of a role in the server: the same at every site, so that one page of commands fits all."""
    return _PREFIX + role


def connect(places: Places, role: Role) -> "Connection":
    """Return a connection in autocommit mode that passed every check of what the server promises.

    Raises:
        AwayError: The server did not answer or did not let us in.
        DatabaseError: The driver is absent, the server too old, a password file open to others, its text not
            UTF-8, or the role may more than it should.
    """
    try:
        import psycopg
    except ImportError as error:
        raise DatabaseError(
            what="this environment has no PostgreSQL driver",
            why="the release was built without it",
            fix="build the release with server-postgresql.txt as its locks.server; " + _PAGE,
        ) from error
    section = _section(places)
    try:
        connection = psycopg.connect(**_settings(places, section, role), autocommit=True)
    except psycopg.Error as error:
        raise AwayError(
            what="the PostgreSQL server does not let us in",
            why=f"as {role_name(role)}: {reason(error)}",
            fix=f"`sealift db check` tries every role; {_PAGE}",
        ) from error
    try:
        _require_fit(connection, role)
    except psycopg.Error as error:
        connection.close()
        raise AwayError(what="the PostgreSQL server went away", why=reason(error), fix=_PAGE) from error
    except DatabaseError:
        connection.close()
        raise
    return connection


def reason(error: Exception) -> str:
    """Return why, without host, path, statement or value: the server's code, or libpq's own words."""
    code = getattr(error, "sqlstate", None)
    if code:
        return f"SQLSTATE {code} ({type(error).__name__})"
    found = _REASON.search(str(error))
    return _FOLDER.sub('"', found[1].strip())[:160] if found else type(error).__name__


def _section(places: Places) -> DatabaseSection:
    if places.server is None:
        raise DatabaseError(
            what="this site keeps its records in files", why='database.kind is "sqlite"', fix="see the site file"
        )
    return places.server


def _settings(places: Places, section: DatabaseSection, role: Role) -> dict[str, Any]:
    common: dict[str, Any] = {
        "port": section.port,
        "dbname": section.name,
        "user": role_name(role),
        # Given also where there is none: libpq would ask the environment.
        "password": _password(places, role),
        "passfile": _NOWHERE,
        "options": "",
        "client_encoding": "UTF8",
        "application_name": f"sealift-{role}",
        "connect_timeout": _CONNECT_SECONDS,
        "target_session_attrs": "any",
        "gssencmode": "disable",
    }
    if section.socket:
        return {**common, "host": section.socket, "sslmode": "disable"}
    return {
        **common,
        "host": section.server,
        "hostaddr": section.address,
        "sslmode": "verify-full",
        "sslrootcert": str(_authority(places)),
        "sslcrl": _NOWHERE,
        **_client(places, section, role),
        "ssl_min_protocol_version": "TLSv1.2",
        # A password that is asked for is proven to this server's certificate, never sent.
        "channel_binding": "require",
        "keepalives_idle": 20,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }


def client_name(role: Role) -> str:
    """Return the name of the file with a role's certificate and its key."""
    return f"database-{role}.pem"


def _client(places: Places, section: DatabaseSection, role: Role) -> dict[str, str]:
    if not section.client:
        return {"sslcert": _NOWHERE, "sslkey": _NOWHERE}
    path = _place(places, client_name(role))
    if not os.access(path, os.R_OK):
        raise DatabaseError(
            what="the database server asks for a certificate, and there is none",
            why=f"{client_name(role)} is absent from /etc/sealift/database, or this user may not read it",
            fix=f"put the certificate of {role_name(role)} there with its key in one file, 0400; {_PAGE}",
        )
    return {"sslcert": str(path), "sslkey": str(path)}


def _place(places: Places, name: str) -> Path:
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    passed = Path(folder) / name
    return passed if folder and passed.is_file() else places.database_secrets / name


def _authority(places: Places) -> Path:
    path = _place(places, AUTHORITY)
    try:
        path.stat()
    except PermissionError as error:
        raise DatabaseError(
            what="the database server cannot be asked",
            why="this user may not look into /etc/sealift/database",
            fix="run it as root, with sudo",
        ) from error
    except OSError:
        pass  # said below
    if not os.access(path, os.R_OK):
        raise DatabaseError(
            what="the server's certificate cannot be verified",
            why=f"{AUTHORITY} is absent from /etc/sealift/database",
            fix="put the certificate of the authority that signed the server's there",
        )
    return path


def _password(places: Places, role: Role) -> str:
    """Return the role's password, or nothing where the server knows us by our user (peer)."""
    name = f"database-{role}"
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    # systemd lets a unit's user in by an access list, which shows as a right to read of the group.
    ways = [(Path(folder) / name, stat.S_IWGRP | stat.S_IRWXO)] if folder else []
    for path, open_to_others in (*ways, (places.database_secrets / name, stat.S_IRWXG | stat.S_IRWXO)):
        try:
            with path.open("rb") as stream:
                mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
                untrusted = stream.read(_MAX_PASSWORD_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as error:
            raise _bad_password(name, error.strerror or "") from error
        if mode & open_to_others:
            raise _bad_password(name, "others may read it")
        return _parsed(name, untrusted)
    return ""


def _parsed(name: str, untrusted: bytes) -> str:
    try:
        text = untrusted.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise _bad_password(name, "it is not UTF-8") from error
    if not text or len(untrusted) > _MAX_PASSWORD_BYTES or not text.isprintable():
        raise _bad_password(name, "expected one line of printable text")
    return text


def _bad_password(name: str, why: str) -> DatabaseError:
    return DatabaseError(what=f"the password file {name} cannot be used", why=why, fix="one line, owner's, mode 0400")


def _require_fit(connection: "Connection", role: Role) -> None:
    if connection.info.server_version < LEAST_VERSION:
        raise DatabaseError(
            what="the PostgreSQL server is too old",
            why=f"it is {connection.info.server_version // 10000}, and {LEAST_VERSION // 10000} is the oldest we know",
            fix="upgrade it",
        )
    if connection.info.parameter_status("server_encoding") != "UTF8":
        raise DatabaseError(
            what="the database cannot hold every text",
            why="its encoding is not UTF8",
            fix=f"create it with ENCODING 'UTF8'; {_PAGE}",
        )
    if role != "owner" and connection.info.parameter_status("is_superuser") == "on":
        raise DatabaseError(
            what=f"the role {role_name(role)} may do everything",
            why="a superuser is not held by append-only rights",
            fix=f"ALTER ROLE {role_name(role)} NOSUPERUSER",
        )
    # Names are looked up in our own schemas only: nobody puts a table of the same name in front of ours.
    connection.execute("SELECT set_config('search_path', 'pg_catalog', false)")
