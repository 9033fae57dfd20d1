"""When the end of a line to a collector says that it has read all, and when it does not."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.observe import sealed
from tests.support.tls import key_pem, name_of, pem

BATCH = b"x" * 300_000
Serve = Callable[[ssl.SSLSocket], None]


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name_of("collector"))
        .issuer_name(name_of("collector"))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(pem(certificate))
    (tmp_path / "both.pem").write_bytes(pem(certificate) + key_pem(key))
    return tmp_path / "ca.pem"


@contextmanager
def line_to(serve: Serve, authority: Path) -> Iterator[ssl.SSLSocket]:
    """Lend a line to a collector that does as it is told with its end, in a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.with_name("both.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def run() -> None:
            plain, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as end:
                serve(end)

        thread = threading.Thread(target=run)
        thread.start()
        plain = socket.create_connection(listener.getsockname(), timeout=5)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        try:
            with sealed.vouched_by(authority).wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as line:
                yield line
        finally:
            thread.join()


def read_all(end: ssl.SSLSocket) -> int:
    count = 0
    with suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
        while part := end.recv(2**16):
            count += len(part)
    return count


def in_order(end: ssl.SSLSocket) -> None:
    read_all(end)
    end.unwrap().close()


def without_a_word(end: ssl.SSLSocket) -> None:
    read_all(end)
    end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("serve", [in_order, without_a_word])
def test_a_collector_that_has_read_all_ends_the_line_at_once(authority: Path, serve: Serve) -> None:
    with line_to(serve, authority) as line:
        line.sendall(BATCH)
        sealed.end(line)


def test_the_end_of_a_collector_that_has_not_read_all_says_nothing(authority: Path) -> None:
    """Scenario: it goes down while the batch is on its way: its good-bye is here before the reset that answers that."""
    ended = threading.Event()

    def serve(end: ssl.SSLSocket) -> None:
        socket.socket.shutdown(end, socket.SHUT_WR)
        ended.wait(10)

    with line_to(serve, authority) as line:
        line.sendall(BATCH)
        line.settimeout(0.3)
        try:
            with pytest.raises(OSError, match="did not read all"):
                sealed.end(line)
        finally:
            ended.set()


def test_one_that_goes_on_reading_after_its_own_end_has_read_all(authority: Path) -> None:
    counts: list[int] = []

    def serve(end: ssl.SSLSocket) -> None:
        socket.socket.shutdown(end, socket.SHUT_WR)
        counts.append(read_all(end))

    with line_to(serve, authority) as line:
        line.sendall(BATCH)
        sealed.end(line)
    assert counts == [len(BATCH)]


def test_a_reset_that_comes_after_the_end_is_seen(authority: Path) -> None:
    may_go = threading.Event()

    def serve(end: ssl.SSLSocket) -> None:
        socket.socket.shutdown(end, socket.SHUT_WR)
        may_go.wait(10)  # and closed with all of it unread

    with line_to(serve, authority) as line:
        line.sendall(BATCH)
        threading.Timer(0.2, may_go.set).start()
        with pytest.raises(ConnectionResetError):
            sealed.end(line)
