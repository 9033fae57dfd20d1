"""The forwarder and a real rsyslog over TLS: each record once, in every format, also after it was away; alerts."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance import config as configuration
from appliance.actions.alerts import Alert
from appliance.audit.memory import MemoryLedger
from appliance.errors import CollectorError
from appliance.observe.alerts import Certified, to_syslog
from appliance.observe.siem import Forwarder, sender
from appliance.observe.siemformats import FORMATS
from tests.support.tls import key_pem, name_of, pem

RSYSLOGD = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not Path(RSYSLOGD).exists(), reason="rsyslog is absent"),
]
NAME = "siem.hospital.example"
CONFIG = """
global(workDirectory="{folder}" maxMessageSize="64k"
  defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{folder}/ca.pem"
  defaultNetstreamDriverCertFile="{folder}/cert.pem" defaultNetstreamDriverKeyFile="{folder}/key.pem")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="raw" type="string" string="%rawmsg%\\n")
template(name="parsed" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
}}
ruleset(name="kept") {{
  action(type="omfile" file="{folder}/raw.log" template="raw" flushOnTXEnd="on")
  action(type="omfile" file="{folder}/parsed.log" template="parsed" flushOnTXEnd="on")
}}
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/port" ruleset="kept")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _of_itself(key)
    for name, data in (("ca.pem", pem(certificate)), ("cert.pem", pem(certificate)), ("key.pem", key_pem(key))):
        (tmp_path / name).write_bytes(data)
    return tmp_path


def _of_itself(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.now(tz=UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(NAME))
        .issuer_name(name_of(NAME))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


@contextmanager
def collector(folder: Path, *, asks: bool = False) -> Iterator[int]:
    """Run rsyslog in the foreground; the port it took is in a file of its own. It may ask for certificates."""
    (folder / "port").unlink(missing_ok=True)
    config = CONFIG.format(folder=folder)
    (folder / "rsyslog.conf").write_text(config.replace('"anon"', '"x509/certvalid"') if asks else config)
    command = [RSYSLOGD, "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
    with (folder / "out.log").open("ab") as out:
        running = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for(lambda: (folder / "port").exists() and (folder / "port").read_text().strip() != "", running)
        yield int((folder / "port").read_text())
    finally:
        running.terminate()
        running.wait(30)


def wait_for(holds: object, running: subprocess.Popen[bytes] | None = None) -> None:
    ends = time.monotonic() + 60
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < ends
        assert running is None or running.poll() is None
        threading.Event().wait(0.05)


def forwarder(
    ledger: MemoryLedger,
    folder: Path,
    port: int,
    name: str = "rfc5424",
    server: str = NAME,
    client: Path | None = None,
) -> Forwarder:
    text = f'site = "s"\n[siem]\nserver = "{server}"\naddress = "127.0.0.1"\nport = {port}\nformat = "{name}"\n'
    config = configuration.parse(text.encode())
    send = sender(config, authority=folder / "ca.pem", client=client)
    state = folder / "state"
    state.mkdir(exist_ok=True)
    return Forwarder(ledger, state, encode=FORMATS[name], host="llm.hospital.example", send=send)


def lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def grow(ledger: MemoryLedger, count: int) -> None:
    for number in range(count):
        ledger.append("request.outcome", {"request_id": f"req_{number}", "outcome": "ok", "prompt": "secret words"})


def sequences(folder: Path) -> list[int]:
    return [int(found[1]) for line in lines(folder, "raw.log") if (found := re.search(r'sequence="([0-9]+)"', line))]


def test_every_record_arrives_once_and_in_order_also_after_the_collector_was_away(folder: Path) -> None:
    ledger = MemoryLedger()
    grow(ledger, 700)
    with collector(folder) as port:
        one = forwarder(ledger, folder, port)
        while one.turn():
            pass
        wait_for(lambda: len(sequences(folder)) == 701)
    grow(ledger, 300)
    with pytest.raises(CollectorError):
        forwarder(ledger, folder, port).turn()
    with collector(folder) as port:
        again = forwarder(ledger, folder, port)
        while again.turn():
            pass
        wait_for(lambda: len(sequences(folder)) == 1001)

    assert sequences(folder) == list(range(1001))
    parsed = [json.loads(line) for line in lines(folder, "parsed.log")]
    assert {(each["app"], each["msgid"]) for each in parsed} == {
        ("sealift", "ledger.opened"),
        ("sealift", "request.outcome"),
    }
    assert all(each["data"].startswith("[sealift@32473 sequence=") for each in parsed)
    assert "secret words" not in (folder / "raw.log").read_text()


@pytest.mark.parametrize("name", ["json", "cef"])
def test_the_other_formats_arrive_as_they_were_written(folder: Path, name: str) -> None:
    ledger = MemoryLedger()
    grow(ledger, 5)
    with collector(folder) as port:
        assert forwarder(ledger, folder, port, name).turn() == 6
        wait_for(lambda: len(lines(folder, "raw.log")) == 6)

    found = lines(folder, "raw.log")
    if name == "json":
        assert [json.loads(line)["sequence"] for line in found] == list(range(6))
    else:
        assert [int(re.search(r"externalId=([0-9]+)", line)[1]) for line in found] == list(range(6))  # type: ignore[index]


def test_a_collector_with_another_name_or_of_another_authority_gets_nothing(folder: Path) -> None:
    ledger = MemoryLedger()
    grow(ledger, 3)
    with collector(folder) as port:
        with pytest.raises(CollectorError, match="collector"):
            forwarder(ledger, folder, port, server="other.hospital.example").turn()
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", folder / "public.pem")
        config = configuration.parse(
            f'site = "s"\n[siem]\nserver = "{NAME}"\naddress = "127.0.0.1"\nport = {port}\n'.encode()
        )
        with pytest.raises(CollectorError):
            sender(config, authority=folder / "public.pem")(b"5 hello")

    assert lines(folder, "raw.log") == []


def test_a_collector_that_waits_for_this_side_to_end_the_connection_took_the_records(folder: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    taken = []

    def take(listening: socket.socket) -> None:
        with listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as line:
            while data := line.recv(4096):
                taken.append(data)
            ended = line.unwrap()
            while ended.recv(4096):  # until the other side ends it, as this protocol has it
                pass
            ended.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = configuration.parse(
            f'site = "s"\n[siem]\nserver = "{NAME}"\naddress = "127.0.0.1"\nport = {port}\n'.encode()
        )
        taking = threading.Thread(target=take, args=(listening,), daemon=True)
        taking.start()
        sender(config, authority=folder / "ca.pem")(b"5 hello")
        taking.join(60)

    assert b"".join(taken) == b"5 hello"


def client_of(folder: Path, name: str, *, authority: bytes, key: bytes) -> Path:
    """Return a file with a certificate of this authority, and its key."""
    issuer, signer = x509.load_pem_x509_certificate(authority), serialization.load_pem_private_key(key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name_of("llm.hospital.example"))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    path = folder / name
    path.write_bytes(pem(certificate) + key_pem(own))
    return path


def test_a_collector_that_asks_for_a_certificate_takes_records_of_a_box_that_has_one_and_no_others(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = MemoryLedger()
    grow(ledger, 3)
    own = client_of(
        folder, "client.pem", authority=(folder / "ca.pem").read_bytes(), key=(folder / "key.pem").read_bytes()
    )
    strange = ec.generate_private_key(ec.SECP256R1())
    forged = client_of(
        tmp_path_factory.mktemp("strange"),
        "client.pem",
        authority=(folder / "ca.pem").read_bytes(),
        key=key_pem(strange),
    )
    with collector(folder, asks=True) as port:
        for client in (None, forged):
            with pytest.raises(CollectorError):
                forwarder(ledger, folder, port, client=client).turn()
        assert lines(folder, "raw.log") == []

        assert forwarder(ledger, folder, port, client=own).turn() == 4
        wait_for(lambda: len(sequences(folder)) == 4)


ALERT = Alert(
    name="BackupOld",
    severity="critical",
    summary="the newest backup is 3 days old",
    help="sealift backup make",
    instance="",
    until=datetime(2026, 11, 25, tzinfo=UTC),
)


def tell(folder: Path, port: int, *, server: str = NAME, authority: str = "ca.pem") -> None:
    certified = Certified(server=server, authority=folder / authority)
    to_syslog(f"tcp 127.0.0.1 {port}", host="box", certified=certified)(ALERT)


def test_an_alert_reaches_the_collector_over_tls(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with collector(folder) as port:
        tell(folder, port)
        wait_for(lambda: lines(folder, "parsed.log"))

    found = json.loads(lines(folder, "parsed.log")[0])
    assert (found["pri"], found["app"], found["msgid"]) == ("130", "sealift", "BackupOld")
    assert ALERT.line in lines(folder, "raw.log")[0]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("server", "authority", "why"),
    [
        ("other.hospital.example", "ca.pem", "Hostname mismatch"),
        (NAME, "other.pem", "self-signed certificate"),
        (NAME, "absent.pem", "authority for it does not read"),
        (NAME, "key.pem", "authority for it does not read"),
    ],
)
def test_no_alert_leaves_for_a_collector_that_nobody_vouches_for(
    folder: Path, capsys: pytest.CaptureFixture[str], server: str, authority: str, why: str
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "other.pem").write_bytes(pem(_of_itself(key)))
    with collector(folder) as port:
        tell(folder, port, server=server, authority=authority)
        tell(folder, port)
        wait_for(lambda: lines(folder, "raw.log"))

    said = capsys.readouterr().err
    assert said.startswith("<4>the syslog collector did not take an alert: ")
    assert why in said
    assert str(folder) not in said
    assert len(lines(folder, "raw.log")) == 1


def test_no_alert_is_told_in_the_clear_to_a_collector_that_speaks_no_tls(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen(1)
        plain.settimeout(10)
        heard: list[bytes] = []

        def refuse() -> None:
            line, _ = plain.accept()
            with line:
                heard.append(line.recv(4096))
                line.sendall(b"what?\n")

        listening = threading.Thread(target=refuse)
        listening.start()
        tell(folder, plain.getsockname()[1])
        listening.join(10)

    assert b"BackupOld" not in heard[0]
    assert "did not take an alert" in capsys.readouterr().err
