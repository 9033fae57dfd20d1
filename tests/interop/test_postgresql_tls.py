"""A server that is reached over the network: TLS with its certificate verified in full, a password that nobody sees."""

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from appliance.actions.databases import migrating
from appliance.audit import postgres_opening
from appliance.config import DatabaseSection, Places
from appliance.errors import DatabaseError, LedgerUnavailableError
from appliance.postgres.connecting import AUTHORITY, ROLES, connect
from appliance.state.database import open_state
from tests.support.ledger import row
from tests.support.ports import held_port
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
NAME = "db1.hospital.internal"
SECRET = "correct horse battery staple 4711"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority of a test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "facility")])
        return cls(key=key, certificate=_certificate(name, name, key.public_key(), key, authority=True))

    def issue(self, name: str, folder: Path) -> tuple[Path, Path]:
        """Write a server's certificate and key for a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _certificate(subject, self.certificate.subject, key.public_key(), self.key, name=name)
        certificate, private = folder / "server.pem", folder / "server.key"
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def client(self, name: str) -> bytes:
        """Return certificate and key of a role in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _certificate(subject, self.certificate.subject, key.public_key(), self.key)
        return made.public_bytes(Encoding.PEM) + key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    name: str = "",
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if name:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    """A server on loopback that takes passwords over TLS only."""
    with postgres_server() as made:
        made.port = held_port()
        issued, rule = authority.issue(NAME, made.folder), "host all all 127.0.0.1/32"
        made.serve_over_tls(*issued, address="127.0.0.1", rule=rule, password=SECRET)
        yield made


@pytest.fixture
def places(server: PostgresServer, authority: Authority, tmp_path: Path) -> Places:
    section = DatabaseSection(
        kind="postgresql", server=NAME, address="127.0.0.1", port=server.port, name=server.database()
    )
    made = Places(root=tmp_path, run=tmp_path, server=section)
    made.database_secrets.mkdir(parents=True)
    (made.database_secrets / AUTHORITY).write_bytes(authority.pem())
    for role in ROLES:
        path = made.database_secrets / f"database-{role}"
        path.write_text(f"{SECRET}\n")
        path.chmod(0o400)
    return made


def test_ledger_and_state_over_verified_tls(places: Places) -> None:
    migrating.migrate(places, "up")

    with closing(postgres_opening.open_writer(places)) as backend:
        backend.append([row(0)], [])
        ((encrypted, version),) = backend._session.all(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
    assert encrypted
    assert version in {"TLSv1.2", "TLSv1.3"}
    open_state(places).dispose()


@pytest.fixture(scope="module")
def asking(authority: Authority) -> Iterator[PostgresServer]:
    """A server that asks for a certificate of the role besides."""
    with postgres_server() as made:
        made.port = held_port()
        issued = authority.issue(NAME, made.folder)
        known = made.folder / "clients.pem"
        known.write_bytes(authority.pem())
        made.settings["ssl_ca_file"] = str(known)
        rule, proof = "hostssl all all 127.0.0.1/32", "scram-sha-256 clientcert=verify-full"
        made.serve_over_tls(*issued, address="127.0.0.1", rule=rule, password=SECRET, proof=proof)
        yield made


def test_a_server_that_asks_for_a_certificate_is_shown_the_roles_own(
    asking: PostgresServer, authority: Authority, places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    section = DatabaseSection(
        kind="postgresql", server=NAME, address="127.0.0.1", port=asking.port, name=asking.database()
    )
    # What libpq would take from a home folder has no say, a good certificate least of all.
    home = tmp_path / "home/.postgresql"
    home.mkdir(parents=True)
    good = authority.client("sealift_ledger")
    for name in ("postgresql.crt", "postgresql.key"):
        (home / name).write_bytes(good)
        (home / name).chmod(0o400)
    monkeypatch.setenv("HOME", str(home.parent))
    with pytest.raises(DatabaseError, match="does not let us in"):
        connect(replace(places, server=section), "ledger")
    shown = replace(places, server=section.model_copy(update={"client": True}))
    with pytest.raises(DatabaseError, match="asks for a certificate"):
        connect(shown, "ledger")

    def show(certificate: bytes) -> None:
        path = places.database_secrets / "database-ledger.pem"
        path.unlink(missing_ok=True)
        path.write_bytes(certificate)
        path.chmod(0o400)

    for wrong in (Authority.make().client("sealift_ledger"), authority.client("sealift_reader")):
        show(wrong)
        with pytest.raises(DatabaseError, match="does not let us in"):
            connect(shown, "ledger")
    show(good[: good.index(b"-----BEGIN EC")] + authority.client("sealift_ledger").split(b"-----\n", 2)[2])
    with pytest.raises(DatabaseError) as refused:
        connect(shown, "ledger")
    assert ("database-ledger.pem" in refused.value.why, str(tmp_path) in refused.value.why) == (True, False)
    show(good)
    with closing(connect(shown, "ledger")) as connection:
        ((subject,),) = connection.execute("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchall()
    assert subject == "/CN=sealift_ledger"


def test_another_authority_is_not_believed(places: Places) -> None:
    (places.database_secrets / AUTHORITY).write_bytes(Authority.make().pem())

    with pytest.raises(DatabaseError) as caught:
        connect(places, "ledger")

    assert "SSL error" in caught.value.why


def test_no_authority_no_connection(places: Places) -> None:
    (places.database_secrets / AUTHORITY).unlink()

    with pytest.raises(DatabaseError, match="cannot be verified"):
        connect(places, "ledger")


def test_a_certificate_for_another_name_is_refused(places: Places) -> None:
    assert places.server is not None
    other = replace(places, server=places.server.model_copy(update={"server": "db2.hospital.internal"}))

    with pytest.raises(DatabaseError) as caught:
        connect(other, "ledger")

    assert "does not match" in caught.value.why


def test_a_server_without_tls_gets_no_password(places: Places) -> None:
    assert places.server is not None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        plain = replace(places, server=places.server.model_copy(update={"port": listener.getsockname()[1]}))
        listener.settimeout(60)
        heard: list[bytes] = []

        def answer() -> None:
            caller, _ = listener.accept()
            with caller:
                heard.append(caller.recv(64))
                caller.sendall(b"N")  # "no TLS here"
                heard.append(caller.recv(4096))

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DatabaseError) as caught:
            connect(plain, "ledger")
        thread.join()

    assert "does not support SSL" in caught.value.why
    assert heard[1] == b""
    assert SECRET.encode() not in b"".join(heard)


@pytest.mark.parametrize("content", [b"wrong\n", b"", b"two\nlines\n", b"\xff\xfe", b"x" * 5000])
def test_a_wrong_or_unreadable_password_is_named_without_it(places: Places, content: bytes) -> None:
    path = places.database_secrets / "database-ledger"
    path.chmod(0o600)
    path.write_bytes(content)

    with pytest.raises(LedgerUnavailableError) as caught:
        postgres_opening.open_writer(places)

    text = str(caught.value.to_json())
    assert "password" in text
    assert "wrong" not in text.replace("cannot be used", "")


def test_a_password_that_others_may_read_is_refused(places: Places) -> None:
    (places.database_secrets / "database-state").chmod(0o440)

    with pytest.raises(DatabaseError, match="database-state cannot be used") as caught:
        open_state(places)

    assert "others may read it" in caught.value.why


def test_a_credential_of_the_unit_comes_before_the_file(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    path = places.database_secrets / "database-ledger"
    path.rename(credentials / "database-ledger")
    (credentials / "database-ledger").chmod(0o440)  # as systemd makes it, with an access list
    with pytest.raises(DatabaseError):
        connect(places, "ledger")

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    connect(places, "ledger").close()
    (credentials / "database-ledger").chmod(0o444)
    with pytest.raises(DatabaseError, match="cannot be used"):
        connect(places, "ledger")


def test_variables_of_the_environment_have_no_say(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGHOST": "/nowhere",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
        "PGSSLMODE": "disable",
        "PGPASSWORD": "of somebody else",
        "PGOPTIONS": "-c synchronous_commit=off",
        "PGCLIENTENCODING": "LATIN1",
        "PGCHANNELBINDING": "disable",
        "PGCONNECT_TIMEOUT": "0",
    }.items():
        monkeypatch.setenv(name, value)

    with connect(places, "ledger") as connection:
        assert connection.info.user == "sealift_ledger"
        assert connection.info.encoding == "utf-8"
        assert connection.pgconn.ssl_in_use
        row_found = connection.execute(b"SHOW synchronous_commit").fetchone()
    assert row_found == ("on",)


def test_a_password_of_libpqs_own_has_no_say(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places.database_secrets / "database-ledger").unlink()
    own = tmp_path / "pgpass"
    own.write_text(f"*:*:*:*:{SECRET}\n")
    own.chmod(0o400)
    monkeypatch.setenv("PGPASSFILE", str(own))
    monkeypatch.setenv("PGPASSWORD", SECRET)

    with pytest.raises(DatabaseError) as caught:
        connect(places, "ledger")

    assert "no password" in caught.value.why


def test_the_password_is_in_no_argument_environment_log_or_error(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import sys; from pathlib import Path; from appliance.config import DatabaseSection, Places\n"
        "from appliance.postgres.connecting import connect\n"
        "section = DatabaseSection.model_validate_json(sys.argv[2])\n"
        "held = connect(Places(root=Path(sys.argv[1]), run=Path('/'), server=section), 'ledger')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
    )
    assert places.server is not None
    command = [sys.executable, "-c", code, str(places.root), places.server.model_dump_json()]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        shown = [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
        out, err = process.communicate(b"\n", timeout=60)
    assert all(SECRET.encode() not in each for each in (*shown, out, err))

    with caplog.at_level(logging.DEBUG):
        connection = connect(places, "ledger")
        assert SECRET not in repr(connection)
        assert SECRET not in str(connection.info.get_parameters())
        connection.close()
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(b"SELECT 1")
    assert SECRET not in caplog.text + str(caught.value)
