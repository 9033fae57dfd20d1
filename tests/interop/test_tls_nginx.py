"""The certificate-test matrix: a real nginx with the role's configuration on loopback, and callers of every kind."""

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.actions import tls, tls_authority, tls_clients, tls_facility
from appliance.actions.tls_placing import Here
from appliance.audit.memory import MemoryLedger
from appliance.config import TlsSection
from appliance.errors import ConflictError
from appliance.install import tlskey
from appliance.install.certificates import fingerprint
from appliance.install.revocation import Reason
from media.clock import FixedClock
from tests.support import nginx
from tests.support.nginx import Running
from tests.support.tls import HOST, Authority, authority, key_pem, pem, site

PROGRAM: Final = nginx.program()
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(PROGRAM is None, reason="neither nginx nor apt is here"),
]
NOW: Final = datetime.now(tz=UTC).replace(microsecond=0)


_COUNTING: Final = threading.Lock()


class Gateway(ThreadingUnixStreamServer):
    """Behind nginx: says what it was told of the caller, and streams as slowly as a test wants."""

    daemon_threads = True
    request_queue_size = 128
    go_on = threading.Event()
    heard: tuple[str, ...] = ()
    """The lines of the last request, as nginx sent them on."""
    ended = 0
    """How many streams were handed over to their end."""


class _Answer(StreamRequestHandler):
    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            lines.append(line.decode().strip())
        if not lines:
            return
        assert isinstance(self.server, Gateway)
        self.server.heard = tuple(lines)
        named = [line.partition(": ")[2] for line in lines if line.lower().startswith("x-sealift-client:")]
        if " /stream " not in lines[0]:
            body = (named[0] if named else "nobody").encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        self.wfile.write(b"data: 0\n\n")
        self.server.go_on.wait(60)
        for number in range(1, 200):
            self.wfile.write(b"data: %d\n\n" % number)
        self.wfile.write(b"data: [DONE]\n\n")
        with _COUNTING:
            self.server.ended += 1


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    server = Gateway(str(tmp_path / "gateway.sock"), _Answer)
    server.go_on = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join(timeout=30)
    server.server_close()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """What a test opens, closed also where it fails."""
    with contextlib.ExitStack() as opened:
        yield opened


Start = Callable[..., tuple[Here, Running]]


@pytest.fixture
def start(tmp_path: Path, gateway: Gateway) -> Iterator[Start]:
    """Start a box's nginx with its own authority; the clock is this machine's, stopped."""
    with contextlib.ExitStack() as stack:

        def begin(clients: str, *, elsewhere: str = "off") -> tuple[Here, Running]:
            clock = FixedClock(at=NOW)
            config = site(tmp_path / "box", clients=clients, management=elsewhere, monitoring=elsewhere)
            first = Here(config=config, ledger=MemoryLedger(clock), clock=clock)
            tls.rotate(first)
            folder = tmp_path / "nginx"
            folder.mkdir()
            assert PROGRAM is not None
            web = stack.enter_context(
                nginx.running(
                    folder,
                    PROGRAM,
                    tls=first.folder.path,
                    gateway=tmp_path / "gateway.sock",
                    hostname=HOST,
                    clients=clients,
                    elsewhere=elsewhere,
                )
            )
            return Here(config=config, ledger=first.ledger, clock=clock, server=web), web

        yield begin


def context(box: Here, *, identity: Path | None = None, authority: bytes | None = None) -> ssl.SSLContext:
    """Return what a careful caller uses: the box's authority and no other, names checked."""
    found = ssl.create_default_context(cadata=(authority or box.folder.authority_file.read_bytes()).decode())
    if identity is not None:
        found.load_cert_chain(identity)
    return found


def connect(web: Running, with_context: ssl.SSLContext, *, name: str = HOST, **more: Any) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", web.port), timeout=60)
    return with_context.wrap_socket(plain, server_hostname=name, **more)


def ask(web: Running, with_context: ssl.SSLContext, *, path: str = "/", head: str = "", **more: Any) -> tuple[int, str]:
    """Return status and body of one request; 0 and the reason when the connection was refused."""
    try:
        with connect(web, with_context, **more) as line:
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{head}\r\n".encode())
            told = read_all(line)
    except (ssl.SSLError, ConnectionError) as error:
        return 0, str(error)
    status, _, rest = told.partition(b"\r\n")
    return int(status.split()[1]), rest.partition(b"\r\n\r\n")[2].decode()


def identity(folder: Path, name: str, key: Any, *chain: x509.Certificate) -> Path:
    path = folder / f"{name}.pem"
    path.write_bytes(key_pem(key) + pem(*chain))
    return path


def issued(box: Here, folder: Path, name: str, **more: Any) -> Path:
    made = tls_clients.issue(box, name=name, **more)
    path = folder / f"{name}-{made.client.serial[:8]}.pem"
    path.write_bytes((made.key_pem or b"") + made.pem)
    return path


def own_authority(box: Here) -> Authority:
    found = box.folder.authority()
    assert found is not None
    return Authority(key=found.key, certificate=found.certificate)


@pytest.mark.parametrize(
    ("clients", "elsewhere"),
    [("off", "off"), ("optional", "off"), ("required", "off"), ("off", "optional"), ("required", "required")],
)
@pytest.mark.parametrize("monitoring", [False, True])
@pytest.mark.parametrize("gateways", [1, 3])
def test_nginx_accepts_what_the_role_writes(
    tmp_path: Path,
    clients: str,
    elsewhere: str,
    monitoring: bool,  # noqa: FBT001 - a parameter of the table
    gateways: int,
) -> None:
    assert PROGRAM is not None
    box = Here(config=site(tmp_path / "box"), ledger=MemoryLedger(FixedClock(at=NOW)), clock=FixedClock(at=NOW))
    tls.rotate(box)
    text = nginx.rendered(clients=clients, monitoring=monitoring, gateways=gateways, elsewhere=elsewhere)
    for old, new in (("/etc/sealift/tls", str(box.folder.path)), ("/run/nginx/nginx.pid", f"{tmp_path}/pid")):
        text = text.replace(old, new)
    text = text.replace("/var/log/nginx/error.log", f"{tmp_path}/error.log")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    text = text.replace("http {", "http {\n" + "\n".join(f"{one}_temp_path {tmp_path}/{one};" for one in kinds), 1)
    (tmp_path / "nginx.conf").write_text(text)

    done = nginx.tested(PROGRAM, tmp_path / "nginx.conf", user=None)

    assert done.returncode == 0, done.stderr
    # Anything that it warns of is a fault of the file.
    assert [line for line in done.stderr.splitlines() if "[warn]" in line or "[emerg]" in line] == []


def test_a_caller_that_trusts_the_boxes_authority_is_answered(start: Start) -> None:
    box, web = start("off")

    assert ask(web, context(box)) == (200, "nobody")


def test_who_asks_for_another_name_or_trusts_another_authority_connects_to_nobody(start: Start) -> None:
    box, web = start("off")
    assert ask(web, context(box), name="other.example")[0] == 0
    assert ask(web, context(box, authority=authority().pem))[0] == 0


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_of_tls_are_refused(start: Start, version: str) -> None:
    _, web = start("off")

    def said(option: str) -> str:
        # Level 0 lets the tool itself offer what is long broken: the refusal has to be the server's.
        command = ["openssl", "s_client", option, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{web.port}"]
        done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    assert "alert protocol version" in said(version)
    assert "Cipher is ECDHE-ECDSA-" in said("-tls1_2")


@pytest.mark.parametrize("suite", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "NULL"])
def test_suites_without_forward_secrecy_or_authentication_are_refused(start: Start, suite: str) -> None:
    box, web = start("off")
    offered = context(box)
    offered.maximum_version = ssl.TLSVersion.TLSv1_2
    offered.set_ciphers(f"{suite}:@SECLEVEL=0")

    assert ask(web, offered)[0] == 0


def test_every_answer_says_that_https_is_the_only_way(start: Start) -> None:
    box, web = start("off")
    with connect(web, context(box)) as line:
        line.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        told = read_all(line)

    assert b"Strict-Transport-Security: max-age=31536000" in told


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
        ("GET /nginx-answers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "not_found"),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "method_not_allowed"),
        ("POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 8388609\r\n\r\n", 413, "request_too_large"),
        ("POST /x.html HTTP/1.1\r\nHost: x\r\nContent-Length: 8388609\r\n\r\n", 413, "request_too_large"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800001\r\nx", 413, "request_too_large"),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: other\r\n\r\n", 501, "http_error"),
        (f"GET /{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n", 414, "http_error"),
        (f"GET / HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 9000}\r\n\r\n", 431, "http_error"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "http_error"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX\0: y\r\n\r\n", 400, "http_error"),
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505, "http_error"),
        ("what is this\r\n\r\n", 400, "http_error"),
    ],
)
def test_what_nginx_answers_by_itself_has_the_gateways_shape(start: Start, asked: str, status: int, code: str) -> None:
    box, web = start("off")
    with connect(web, context(box)) as line:
        line.sendall(asked.encode())
        told = read_all(line)
    head, _, body = told.decode().partition("\r\n\r\n")

    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"] == "server_error") is (status >= 500)
    assert (head.split()[1], error["code"]) == (str(status), code)
    assert "\r\nContent-Type: application/json\r\n" in head
    assert re.search(r"\r\nX-Request-Id: req_[0-9a-f]{32}(\r\n|$)", head)
    assert "\r\nStrict-Transport-Security: max-age=31536000" in head
    assert "Retry-After" not in head


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl to speak HTTP/2 with")
@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        (("--data-binary", "@large"), 413, "request_too_large"),  # its length is told
        (("--upload-file", "large", "--request", "POST", "--header", "Content-Length:"), 413, "request_too_large"),
        (("--request", "TRACE"), 405, "method_not_allowed"),
    ],
)
def test_what_nginx_answers_over_http2_has_the_gateways_shape_too(
    start: Start, tmp_path: Path, options: tuple[str, ...], status: int, code: str
) -> None:
    box, web = start("off")
    (tmp_path / "large").write_bytes(b" " * (8 * 2**20 + 1))
    place = ["--resolve", f"{HOST}:{web.port}:127.0.0.1", "--cacert", str(box.folder.authority_file)]
    command = ["curl", "--silent", "--show-error", "--include", "--http2", "--max-time", "60", *place, *options]

    done = subprocess.run(
        [*command, f"https://{HOST}:{web.port}/v1/files"], cwd=tmp_path, capture_output=True, check=False, timeout=90
    )

    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/2 {status} "), (head, done.stderr)
    assert "\r\ncontent-type: application/json\r\n" in head
    assert json.loads(body)["error"]["code"] == code


def test_who_speaks_without_tls_is_told_so_in_the_gateways_shape(start: Start) -> None:
    _, web = start("off")
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as line:
        line.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        told = read_all(line).decode()

    assert told.startswith("HTTP/1.1 400 ")
    assert json.loads(told.partition("\r\n\r\n")[2])["error"]["code"] == "http_error"


def test_a_caller_cannot_say_itself_who_it_is(start: Start) -> None:
    box, web = start("optional")
    lie = "X-Sealift-Client: 1 CN=root\r\n"

    assert ask(web, context(box), head=lie) == (200, "nobody")
    assert ask(web, context(box), path="/stream?", head=lie)[0] == 200


def test_what_a_caller_says_of_its_way_here_is_replaced_by_what_is_seen(start: Start, gateway: Gateway) -> None:
    box, web = start("off")
    lies = ("X-Forwarded-For: 10.9.9.9", "X-Real-IP: 10.9.9.9", "X-Forwarded-Proto: http", "Proxy: http://10.9.9.9")

    assert ask(web, context(box), head="".join(f"{lie}\r\n" for lie in lies))[0] == 200

    first, *rest = gateway.heard
    told = [line.split(": ", 1) for line in rest]
    named = {name.lower(): value for name, value in told}
    assert first == "GET / HTTP/1.1"
    assert len(named) == len(told), "each is said once"
    assert (named["x-forwarded-for"], named["x-real-ip"], named["x-forwarded-proto"]) == ("127.0.0.1",) * 2 + ("https",)
    assert named["host"] == HOST
    assert "proxy" not in named


def test_required_certificates_matrix(start: Start, tmp_path: Path) -> None:
    """Every kind of caller against one box that requires certificates: only the one that is right comes in."""
    box, web = start("required")
    ours, stranger = own_authority(box), authority("Sealift CA of ward-7")
    key = ec.generate_private_key(ec.SECP256R1())
    client = (ExtendedKeyUsageOID.CLIENT_AUTH,)

    def made(by: Authority, **changes: Any) -> x509.Certificate:
        given = {"subject": "emr-1", "names": (), "purposes": client, "begins": NOW - timedelta(days=2), **changes}
        return by.issue(key.public_key(), **given)

    below = Authority(key=key, certificate=made(ours, purposes=client))
    revoked = issued(box, tmp_path, "gone")
    tls_clients.revoke(box, "gone", Reason.KEY_COMPROMISE)
    callers = {
        "right": issued(box, tmp_path, "emr-1", key_id="ABCDEFGH23"),
        "expired": identity(tmp_path, "expired", key, made(ours, days=1)),
        "not yet valid": identity(tmp_path, "early", key, made(ours, begins=NOW + timedelta(days=1))),
        "another authority of the same name": identity(tmp_path, "other", key, made(stranger)),
        "signed by itself": identity(tmp_path, "self", stranger.key, stranger.certificate),
        "a server's": identity(tmp_path, "server", key, made(ours, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))),
        "a client's client": identity(tmp_path, "below", key, made(below), below.certificate),
        "revoked": revoked,
        "none": None,
    }
    assert settled(lambda: all(ask(web, context(box, identity=revoked))[0] != 200 for _ in range(5)))

    answers = {name: ask(web, context(box, identity=path)) for name, path in callers.items()}

    assert {name for name, (status, _) in answers.items() if status == 200} == {"right"}
    assert answers["right"][1].endswith(" UID=ABCDEFGH23,CN=emr-1")
    assert {answers[name][0] for name in callers if name != "right"} <= {0, 403}
    assert json.loads(answers["none"][1])["error"]["code"] == "certificate_refused"
    assert json.loads(answers["revoked"][1])["error"]["code"] == "certificate_refused"


def test_a_callers_weak_key_is_refused_also_where_our_authority_signed_it(start: Start, tmp_path: Path) -> None:
    box, web = start("required")
    weak, strong = (rsa.generate_private_key(public_exponent=65537, key_size=bits) for bits in (1024, 2048))

    def shows(key: rsa.RSAPrivateKey) -> int:
        made = own_authority(box).issue(
            key.public_key(), subject="emr-1", names=(), purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,), begins=NOW
        )
        careless = context(box)
        careless.set_ciphers("DEFAULT:@SECLEVEL=0")  # the caller's own library would not send it
        careless.load_cert_chain(identity(tmp_path, f"rsa-{key.key_size}", key, made))
        return ask(web, careless)[0]

    assert shows(strong) == 200
    assert shows(weak) != 200


def test_optional_certificates_are_judged_where_they_are_shown(start: Start, tmp_path: Path) -> None:
    box, web = start("optional")
    right, gone = issued(box, tmp_path, "emr-1"), issued(box, tmp_path, "gone")
    assert ask(web, context(box, identity=gone))[0] == 200

    tls_clients.revoke(box, "gone", Reason.KEY_COMPROMISE)

    assert ask(web, context(box)) == (200, "nobody")
    assert ask(web, context(box, identity=right))[1].endswith(" CN=emr-1")
    assert settled(lambda: all(ask(web, context(box, identity=gone))[0] != 200 for _ in range(5)))


@pytest.mark.parametrize("port", ["page_port", "numbers_port"])
def test_page_and_numbers_ask_for_certificates_where_the_site_says_so(start: Start, tmp_path: Path, port: str) -> None:
    """Behind both nobody answers here: 502 is of those whom nginx lets through."""
    box, web = start("off", elsewhere="required")
    door = replace(web, port=getattr(web, port))
    right, gone = issued(box, tmp_path, "ops-1"), issued(box, tmp_path, "gone")
    tls_clients.revoke(box, "gone", Reason.KEY_COMPROMISE)
    answers: list[tuple[int, str]] = []

    def is_refused() -> bool:
        answers.append(ask(door, context(box, identity=gone)))
        return answers[-1][0] == 403

    assert settled(is_refused)
    answers.append(ask(door, context(box)))

    assert ask(door, context(box, identity=right))[0] == 502
    told = [(status, json.loads(body)["error"]["code"]) for status, body in answers[-2:]]
    assert told == [(403, "certificate_refused")] * 2
    assert ask(web, context(box)) == (200, "nobody"), "callers of the API are asked for none"


def test_page_and_numbers_ask_nobody_where_only_callers_are_asked(start: Start) -> None:
    box, web = start("required")

    assert ask(replace(web, port=web.page_port), context(box))[0] == 502
    assert ask(web, context(box))[0] == 403


def test_page_and_numbers_judge_certificates_that_are_shown(start: Start, tmp_path: Path) -> None:
    box, web = start("off", elsewhere="optional")
    gone = issued(box, tmp_path, "gone")
    tls_clients.revoke(box, "gone", Reason.KEY_COMPROMISE)

    doors = [replace(web, port=port) for port in (web.page_port, web.numbers_port)]
    assert settled(lambda: all(ask(door, context(box, identity=gone))[0] == 403 for door in doors))
    assert [ask(door, context(box))[0] for door in doors] == [502, 502]


@pytest.mark.parametrize("elsewhere", ["optional", "required"])
def test_a_certificate_of_an_api_key_opens_the_apis_door_alone(start: Start, tmp_path: Path, elsewhere: str) -> None:
    box, web = start("required", elsewhere=elsewhere)
    of_a_key, of_a_person = issued(box, tmp_path, "emr-1", key_id="K3YID23456"), issued(box, tmp_path, "iris")

    assert ask(web, context(box, identity=of_a_key))[1].endswith("UID=K3YID23456,CN=emr-1")
    for door in (replace(web, port=port) for port in (web.page_port, web.numbers_port)):
        assert ask(door, context(box, identity=of_a_person))[0] == 502
        for path in ("/", "/login?next=/", "/nginx-answers%20", "/nginx-answers/"):
            status, body = ask(door, context(box, identity=of_a_key), path=path)
            assert (status, json.loads(body)["error"]["code"]) == (403, "certificate_refused"), path
        assert ask(door, context(box, identity=of_a_key), path="/nginx-answers")[0] in {403, 404}


def settled(holds: Callable[[], bool]) -> bool:
    """Ask until it holds: a reload is told at once and done a moment later."""
    until = time.monotonic() + 60
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_a_caller_that_was_taken_back_cannot_resume_a_session(start: Start, tmp_path: Path) -> None:
    box, web = start("required")
    mine = context(box, identity=issued(box, tmp_path, "gone"))
    mine.maximum_version = ssl.TLSVersion.TLSv1_2  # where a session can be kept by a caller of the standard library
    with connect(web, mine) as line:
        session = line.session

    tls_clients.revoke(box, "gone", Reason.KEY_COMPROMISE)

    # Five in a row: for a moment a worker from before still takes connections too.
    assert settled(lambda: all(ask(web, mine, session=session)[0] != 200 for _ in range(5)))


def test_a_revocation_list_past_its_end_lets_nobody_in(start: Start, tmp_path: Path) -> None:
    box, web = start("required")
    mine = context(box, identity=issued(box, tmp_path, "emr-1"))
    assert ask(web, mine)[0] == 200
    stale = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(own_authority(box).certificate.subject)
        .last_update(NOW - timedelta(days=31))
        .next_update(NOW - timedelta(days=1))
        .sign(own_authority(box).key, hashes.SHA384())
    )
    box.folder.crl_file.unlink()
    box.folder.crl_file.write_bytes(stale.public_bytes(serialization.Encoding.PEM))
    web.reload()
    assert settled(lambda: ask(web, mine)[0] != 200)

    assert "crl" in tls.rotate(box).made

    assert settled(lambda: ask(web, mine)[0] == 200)


def openssl_verifies(box: Here, certificate: Path, purpose: str) -> bool:
    """Ask OpenSSL's own tool, with the files that callers and nginx are given."""
    path = box.folder.path
    if purpose == "sslserver":
        known = ["-CAfile", str(path / "trust.crt")]
    else:
        known = ["-CAfile", str(path / "authorities.crt"), "-CRLfile", str(path / "crl.pem"), "-crl_check"]
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, *known, str(certificate)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def test_the_boxes_own_authority_is_replaced_while_nobody_loses_a_connection(start: Start, tmp_path: Path) -> None:
    box, web = start("required")
    trust, server = box.folder.path / "trust.crt", box.folder.path / "current/server.crt"
    old = issued(box, tmp_path, "emr-1")
    knows = {"old": trust.read_bytes()}

    def answers(mine: Path) -> dict[str, bool]:
        return {which: ask(web, context(box, identity=mine, authority=pems))[0] == 200 for which, pems in knows.items()}

    made = tls_authority.begin(box)
    knows["both"] = trust.read_bytes()
    knows["new"] = (box.folder.path / "next/ca.crt").read_bytes()
    announced = answers(old)
    with pytest.raises(ConflictError):
        tls_authority.begin(box)

    switched = tls_authority.switch(box)
    new = issued(box, tmp_path, "emr-2")
    shows_both = (openssl_verifies(box, server, "sslserver"), openssl_verifies(box, old, "sslclient"))
    assert settled(lambda: answers(old) == answers(new) == {"old": False, "both": True, "new": True})
    with pytest.raises(ConflictError, match="valid certificates of the former"):
        tls_authority.finish(box)
    tls_clients.revoke(box, "emr-1", Reason.SUPERSEDED)
    refused = context(box, identity=old, authority=knows["both"])
    assert settled(lambda: all(ask(web, refused)[0] != 200 for _ in range(5)))
    assert not openssl_verifies(box, old, "sslclient")

    finished = tls_authority.finish(box)

    assert announced == {"old": True, "both": True, "new": False}
    assert set(made.found) == {"signs", "next"}
    assert made.found["next"]["fingerprint"] == switched.found["signs"]["fingerprint"]
    assert made.found["signs"] == switched.found["former"]
    assert shows_both == (True, True)
    assert finished.found == {"signs": switched.found["signs"]}
    assert trust.read_bytes() == knows["new"]
    assert not list((box.folder.path / "former").iterdir())
    assert settled(lambda: ask(web, context(box, identity=new, authority=knows["new"]))[0] == 200)
    assert (openssl_verifies(box, server, "sslserver"), openssl_verifies(box, new, "sslclient")) == (True, True)


def test_a_certificate_of_the_former_authority_is_refused_once_it_is_finished(start: Start, tmp_path: Path) -> None:
    box, web = start("required")
    old = issued(box, tmp_path, "emr-1")
    tls_authority.begin(box)
    tls_authority.switch(box)
    both = (box.folder.path / "trust.crt").read_bytes()
    new = issued(box, tmp_path, "emr-2")
    assert settled(lambda: ask(web, context(box, identity=old, authority=both))[0] == 200)

    tls_authority.finish(box, drop_clients=True)

    refused = context(box, identity=old, authority=both)
    assert settled(lambda: all(ask(web, refused)[0] != 200 for _ in range(5)))
    assert ask(web, context(box, identity=new, authority=both))[0] == 200


def test_the_facilitys_chain_is_shown_to_callers_that_know_its_root_alone(start: Start) -> None:
    box, web = start("off")
    root = authority(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    issuing = root.below(begins=NOW - timedelta(days=9))
    facility = replace(box, config=box.config.model_copy(update={"tls": TlsSection(authority="facility")}))
    made = issuing.issue(tls_facility.request(facility).public_key(), begins=NOW - timedelta(days=1))
    assert ask(web, context(box, authority=root.pem))[0] == 0

    tls_facility.import_chain(facility, pem(made, issuing.certificate), untrusted_root=root.pem)

    assert web.shown() == fingerprint(made)
    assert settled(lambda: ask(web, context(box, authority=root.pem))[0] == 200)
    trusted = (box.folder.path / "trust.crt").read_bytes()
    assert all(ask(web, context(box, authority=trusted))[0] == 200 for _ in range(5))


def test_a_caller_that_streams_through_a_rotation_loses_nothing(
    start: Start, gateway: Gateway, stack: contextlib.ExitStack
) -> None:
    box, web = start("off")
    before = web.shown()
    streams = [stack.enter_context(connect(web, context(box))) for _ in range(8)]
    for line in streams:
        line.sendall(f"GET /stream HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    told = [read_until(line, b"data: 0\n\n") for line in streams]

    done = tls.rotate(box, at_once="asked")

    assert done.is_seen
    assert done.fingerprint != before
    assert settled(lambda: web.shown() == done.fingerprint)  # a worker of before may answer once more
    assert [ask(web, context(box))[0] for _ in range(8)] == [200] * 8
    gateway.go_on.set()
    for line, head in zip(streams, told, strict=True):
        rest = head + read_stream(line, gateway, web)
        assert [f"data: {number}\n\n".encode() in rest for number in range(200)] == [True] * 200
        assert b"data: [DONE]" in rest


def read_all(line: socket.socket) -> bytes:
    return b"".join(iter(lambda: line.recv(65536), b""))


def read_stream(line: ssl.SSLSocket, gateway: Gateway, web: Running) -> bytes:
    """Return all that comes until its end; one that does not end says what came, and who still has the rest."""
    found = b""
    try:
        while part := line.recv(65536):
            found += part
    except TimeoutError:
        pytest.fail(f"no end after {found[-200:]!r}; the gateway ended {gateway.ended}; nginx: {web.log[-4000:]}")
    return found


def read_until(line: ssl.SSLSocket, wanted: bytes) -> bytes:
    """Return what came up to a text: it left before the rest was made, so nothing is buffered on the way."""
    found = b""
    while wanted not in found:
        part = line.recv(65536)
        assert part, found
        found += part
    return found


def test_callers_go_on_with_new_connections_while_certificates_change(start: Start) -> None:
    box, web = start("off")
    answers: list[tuple[int, str]] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            answers.append(ask(web, context(box)))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for one in callers:
        one.start()
    for _ in range(3):
        assert tls.rotate(box, at_once="asked").is_seen
    is_over.set()
    for one in callers:
        one.join(timeout=60)

    assert answers
    assert {status for status, _ in answers} == {200}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a key to the web server's group")
def test_a_web_server_that_is_no_root_reads_its_key_at_the_start_and_anew_at_a_rotation(
    stack: contextlib.ExitStack,
) -> None:
    """Scenario: as on a box, root makes the keys, and nginx is www-data from its first process."""
    assert PROGRAM is not None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    folder.chmod(0o755)  # pytest's own folders are root's alone
    program = folder / "program"
    shutil.copy(nginx.fetched(PROGRAM), program)
    box = Here(config=site(folder / "box"), ledger=MemoryLedger(FixedClock(at=NOW)), clock=FixedClock(at=NOW))
    tls.rotate(box)
    (folder / "web").mkdir()
    shutil.chown(folder / "web", tlskey.GROUP)

    with nginx.running(
        folder / "web",
        program,
        tls=box.folder.path,
        gateway=folder / "gateway.sock",
        hostname=HOST,
        clients="off",
        user=tlskey.GROUP,
    ) as web:
        process = web.process.pid
        assert f"Uid:\t{pwd.getpwnam(tlskey.GROUP).pw_uid}\t" in Path(f"/proc/{process}/status").read_text()
        before = web.shown()
        done = tls.rotate(replace(box, server=web), at_once="leaked")

        assert done.is_seen
        assert web.shown() == done.fingerprint != before
        for hidden in ("ca.key", "pending/server.key"):
            tls_facility.request(box)
            words = ["setpriv", f"--reuid={tlskey.GROUP}", f"--regid={tlskey.GROUP}", "--clear-groups"]
            read = subprocess.run([*words, "cat", str(box.folder.path / hidden)], capture_output=True, check=False)
            assert b"Permission denied" in read.stderr


def test_a_pair_that_nginx_refuses_changes_nothing(start: Start) -> None:
    box, web = start("off")
    before = web.shown()
    key = box.folder.path / "current/server.key"
    kept = key.read_bytes()
    key.unlink()
    key.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))

    assert web.test().returncode != 0
    web.process.send_signal(1)

    assert settled(lambda: "key values mismatch" in web.log)
    assert web.shown() == before
    key.write_bytes(kept)


class _Echo(StreamRequestHandler):
    def handle(self) -> None:
        asked = self.rfile.readline().decode().split()
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        body = f"test stage {asked[1]}".encode() if asked else b""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/test/v1/chat/completions", (200, "test stage /v1/chat/completions")),
        ("//test//v1/models?x=/test/", (200, "test stage /v1/models?x=/test/")),
        ("/v1/models", (200, "nobody")),
        ("/tests/v1/models", (200, "nobody")),
        ("/TEST/v1/models", (200, "nobody")),
        ("/test/../v1/models", (200, "nobody")),
        ("/v1/../test/v1/models", (200, "test stage /v1/models")),
        ("/test/metrics", (404, None)),
        ("/test/%6detrics", (404, None)),
        ("/test/../metrics", (404, None)),
        ("/test/x/../../metrics", (404, None)),
    ],
)
def test_the_address_alone_says_which_stages_gateway_is_asked(
    start: Start, tmp_path: Path, path: str, answer: tuple[int, str | None]
) -> None:
    box, web = start("off")
    stage = Gateway(str(tmp_path / "gateway-test.sock"), _Echo)
    thread = threading.Thread(target=stage.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    status, body = ask(web, context(box), path=path)

    stage.shutdown()
    thread.join(timeout=30)
    stage.server_close()
    assert (status, body if answer[1] else None) == answer
