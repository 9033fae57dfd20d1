"""Debian's Alertmanager under our own configuration: an alert becomes a mail, a banner, and one line for a person."""

import json
import re
import shutil
import smtplib
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

import jinja2
import pytest

from appliance.actions import alerting, alerts, alertstrial
from appliance.actions.alerts import Alert
from appliance.config import AlertsSection, Config
from appliance.errors import UnitError
from appliance.observe.alerts import create_alerts_app
from media.clock import SystemClock
from tests.support import tls
from tests.support.mailrelay import NAME, certificate, certified, mail_relay
from tests.support.monitoring import FILES, MAILS, RULES, rules
from tests.support.ports import held_port

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("amtool") is None, reason="Debian's package prometheus-alertmanager is absent"),
    pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus is absent"),
]
_ROLES: Final = FILES.parents[1]
_SECONDS: Final = 30
_BOTH: Final = AlertsSection(
    mail_relay="127.0.0.1",
    mail_port=2525,
    mail_to=["it-duty@hospital.internal", "night@hospital.internal"],
    syslog="udp 127.0.0.1 514",
)
_SECURED: Final = AlertsSection(**{**_BOTH.model_dump(), "mail_server": NAME})
_IMPLICIT: Final = AlertsSection(**{**_SECURED.model_dump(), "mail_port": 465})
_IPV6: Final = AlertsSection(mail_relay="fd00::25", mail_to=["it-duty@hospital.internal"])


def rendered(
    name: str, given: AlertsSection, *, authority: Path = Path("/etc/sealift/mail-ca.pem"), gateways: int = 1
) -> str:
    """Render as Ansible does."""
    surroundings = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - YAML
    surroundings.filters["to_json"] = json.dumps
    template = surroundings.from_string(next(_ROLES.glob(f"monitoring*/templates/{name}")).read_text())
    return template.render(
        sealift_alerts=given.model_dump(),
        sealift_gateways=gateways,
        sealift_hostname="sealift.internal",
        sealift_mail_authority=str(authority),
        sealift_retention_days=90,
    )


@contextmanager
def webhook(folder: Path, heard: list[Alert]) -> Iterator[int]:
    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    app = create_alerts_app(folder, say=(heard.append,), clock=SystemClock())
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(folder: Path, text: str, port: int) -> Iterator[str]:
    """Run the real one on loopback; waits of its groups are cut short, nothing else is changed."""
    config = folder / "alertmanager.yml"
    config.write_text(
        re.sub(r"group_wait: \d+s", "group_wait: 0s", re.sub(r"group_interval: \d+m", "group_interval: 1s", text))
    )
    command = ["prometheus-alertmanager", f"--config.file={config}", f"--storage.path={folder / 'am'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with (folder / "am.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            wait(lambda: opened(f"{address}/-/ready"))
            yield address
        finally:
            process.terminate()
            process.wait(60)


def opened(address: str, content: Any = None) -> bool:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(until: Callable[[], Any]) -> None:
    end = time.monotonic() + _SECONDS
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_an_alert_arrives_as_mail_and_as_a_banner_and_leaves_when_it_ends(tmp_path: Path) -> None:
    heard: list[Alert] = []
    banner = tmp_path / "alerts"
    banner.mkdir()
    rule = next(one for one in rules() if one["alert"] == "BackupOld")
    alert = {
        "labels": {"alertname": rule["alert"], **rule["labels"]},
        "annotations": rule["annotations"],
        "generatorURL": "http://127.0.0.1/",
    }
    with mail_relay() as relay, webhook(banner, heard) as hook:
        text = rendered("alertmanager.yml.j2", _BOTH).replace("127.0.0.1:9095", f"127.0.0.1:{hook}")
        text = text.replace("127.0.0.1:2525", f"127.0.0.1:{relay.port}")
        with alertmanager(tmp_path, text, held_port()) as address:
            assert opened(f"{address}/api/v2/alerts", [alert])
            assert relay.arrived.wait(_SECONDS), (tmp_path / "am.log").read_text()[-2000:]
            wait(lambda: alerts.firing(banner, clock=SystemClock()))
            shown = alerts.firing(banner, clock=SystemClock())
            wait(lambda: len(relay.mails) == 2)

            ended = {**alert, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2026-01-01T00:00:01Z"}
            assert opened(f"{address}/api/v2/alerts", [ended])
            wait(lambda: not alerts.firing(banner, clock=SystemClock()))

    assert [one.name for one in shown] == ["BackupOld"] == [one.name for one in heard]
    assert shown[0].help == "sealift backup make"
    mail = relay.mails[0].replace("=\r\n", "")
    assert "Subject: [FIRING] BackupOld" in mail
    assert "What helps: sealift backup make" in mail
    assert "From: sealift@sealift.internal" in mail
    assert sorted(relay.receivers[:2]) == [
        "RCPT TO:<it-duty@hospital.internal>",
        "RCPT TO:<night@hospital.internal>",
    ]


def test_where_the_banner_cannot_be_written_all_else_is_told_and_once_however_often_it_is_repeated(
    tmp_path: Path,
) -> None:
    heard: list[Alert] = []
    banner = tmp_path / "not there"
    alert = {"labels": {"alertname": "DiskFull"}, "annotations": {"summary": "s", "description": "d", "runbook": "r"}}
    log = tmp_path / "am.log"
    with mail_relay() as relay, webhook(banner, heard) as hook:
        text = rendered("alertmanager.yml.j2", _BOTH).replace("127.0.0.1:9095", f"127.0.0.1:{hook}")
        text = text.replace("127.0.0.1:2525", f"127.0.0.1:{relay.port}")
        with alertmanager(tmp_path, text, held_port()) as address:
            assert opened(f"{address}/api/v2/alerts", [alert])
            wait(lambda: len(relay.mails) == 2)
            wait(lambda: log.read_text().count("unexpected status code 503") > 2)
            told = [one.name for one in heard]
            banner.mkdir()
            wait(lambda: alerts.firing(banner, clock=SystemClock()))

    assert told == ["DiskFull"] == [one.name for one in heard]
    assert len(relay.mails) == 2


def test_with_the_web_server_down_all_say_so_and_blame_nothing_that_is_read_through_it(tmp_path: Path) -> None:
    """Nothing listens at the web server's port here."""
    heard: list[Alert] = []
    banner = tmp_path / "alerts"
    banner.mkdir()
    names = ("WebServerDown", "GatewayDown", "FactsDown", "WatcherDown")
    told = [{"labels": {"alertname": one}, "annotations": {"summary": one, "description": "d"}} for one in names]
    told[-1]["labels"]["job"] = "node"
    relay_is_down = {"labels": {"alertname": "WatcherDown", "job": "alertmanager"}, "annotations": {"summary": "s"}}
    with mail_relay() as relay, webhook(banner, heard) as hook:
        text = rendered("alertmanager.yml.j2", _BOTH).replace("127.0.0.1:2525", f"127.0.0.1:{relay.port}")
        text = text.replace("127.0.0.1:9095", f"127.0.0.1:{hook}")
        with alertmanager(tmp_path, text, held_port()) as address:
            assert opened(f"{address}/api/v2/alerts", [told[0]])
            assert relay.arrived.wait(_SECONDS), (tmp_path / "am.log").read_text()[-2000:]
            assert opened(f"{address}/api/v2/alerts", [*told, relay_is_down])
            wait(lambda: len(relay.mails) == 4)
            wait(lambda: len(heard) >= 2)
            with urllib.request.urlopen(f"{address}/api/v2/alerts?inhibited=true", timeout=30) as answer:  # noqa: S310 - loopback
                inhibited = [one["labels"] for one in json.load(answer) if one["status"]["inhibitedBy"]]

    assert {mail.partition("Subject: [FIRING] ")[2].split()[0] for mail in relay.mails} == {names[0], names[3]}
    assert sorted(one.name for one in heard) == sorted([names[0], names[3]])
    assert sorted(one["alertname"] for one in inhibited) == sorted(names[1:])
    assert {one.get("job") for one in inhibited} == {None, "node"}


def counted(address: str) -> tuple[int, int]:
    """Return how many mails were tried and how many failed, as the rule MailNotTaken is told."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:  # noqa: S310 - loopback
        text = answer.read().decode()
    found = [re.search(rf'^{name}{{integration="email"}} (\d+)$', text, re.MULTILINE) for name in sorted(MAILS)]
    failed, tried = [int(one[1]) for one in found if one is not None]
    return tried, failed


def test_a_relay_with_a_certificate_takes_no_mail_without_tls(tmp_path: Path) -> None:
    offered = certified(certificate(tmp_path / "relay.pem", tls.authority()))
    with mail_relay(offered) as relay, smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as sender:
        sender.ehlo()
        with pytest.raises(smtplib.SMTPException, match="530"):
            sender.sendmail("a@hospital.internal", ["b@hospital.internal"], "no")

    assert relay.mails == []


@pytest.mark.parametrize("shown", ["what was asked for", "another authority's", "none"])
def test_where_the_relays_certificate_is_named_no_mail_leaves_without_it(tmp_path: Path, shown: str) -> None:
    trusted, other = tls.authority(), tls.authority("Somebody Else")
    (tmp_path / "ca.pem").write_bytes(tls.pem(trusted.certificate))
    of = trusted if shown == "what was asked for" else other
    offered = certified(certificate(tmp_path / "relay.pem", of))
    alert = {"labels": {"alertname": "BackupOld"}, "annotations": {"summary": "s", "description": "d", "runbook": "r"}}
    log = tmp_path / "am.log"
    with mail_relay(None if shown == "none" else offered) as relay:
        text = rendered("alertmanager.yml.j2", _SECURED, authority=tmp_path / "ca.pem")
        text = text.replace("127.0.0.1:2525", f"127.0.0.1:{relay.port}")
        with alertmanager(tmp_path, text, held_port()) as address:
            assert opened(f"{address}/api/v2/alerts", [alert])
            wait(lambda: len(relay.mails) == 2 or "receiver=mail" in log.read_text())
            wait(lambda: counted(address)[0] >= 2)
            tried, failed = counted(address)

    if shown == "what was asked for":
        assert relay.secured == [True, True]
        assert failed == 0
    else:
        assert relay.mails == []
        assert failed == tried
        said = "certificate signed by unknown authority" if shown == "another authority's" else "STARTTLS"
        assert said in log.read_text()


def trial_at(port: int, hook: int, config: Config, **more: Any) -> alertstrial.Trial:
    """Try how alerts are told, by the Alertmanager at a port, which posts to another one."""
    return alertstrial.trial(
        config,
        clock=SystemClock(),
        ask=lambda of, path: alerting.asked(hook if of == alerting.RECEIVER else port, path),
        tell=lambda _, path, body: alertstrial.told(port, path, body),
        **more,
    )


def watched(folder: Path, section: AlertsSection) -> Config:
    """Return a site below a folder that is watched and told so."""
    alerts_of = section.model_dump()
    found = Config.model_validate(
        {"site": "s", "places": {"root": str(folder)}, "monitoring": {"enabled": True}, "alerts": alerts_of}
    )
    found.at.alerts.mkdir(parents=True)
    return found


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_trial_says_whether_the_real_alertmanager_told_everybody(tmp_path: Path, *, is_trusted: bool) -> None:
    trusted, other = tls.authority(), tls.authority("Somebody Else")
    (tmp_path / "ca.pem").write_bytes(tls.pem(trusted.certificate))
    offered = certified(certificate(tmp_path / "relay.pem", trusted if is_trusted else other))
    config = watched(tmp_path, _SECURED)
    with mail_relay(offered) as relay, webhook(config.at.alerts, []) as hook:
        text = rendered("alertmanager.yml.j2", _SECURED, authority=tmp_path / "ca.pem")
        text = text.replace("127.0.0.1:9095", f"127.0.0.1:{hook}").replace("127.0.0.1:2525", f"127.0.0.1:{relay.port}")
        with alertmanager(tmp_path, text, port := held_port()):
            tried = partial(trial_at, port, hook, config)
            if is_trusted:
                assert tried().mailed == 2
            else:
                with pytest.raises(UnitError, match="did not reach everybody") as missed:
                    tried()
                assert missed.value.why == "the mail relay 127.0.0.1 took 0 of 2 mails"
            wait(lambda: not alerts.firing(config.at.alerts, clock=SystemClock()))

    assert all("TrialAlert" in one and "Nothing is wrong" in one for one in relay.mails)


@pytest.mark.parametrize(
    ("times", "is_whole"), [(1000, False), (1, True)], ids=["for good", "once, as one that makes strangers wait"]
)
def test_a_trial_names_who_is_refused_and_the_others_get_it(tmp_path: Path, times: int, *, is_whole: bool) -> None:
    config = watched(tmp_path, _BOTH)
    log = tmp_path / "am.log"
    refused, other = "it-duty@hospital.internal", "night@hospital.internal"
    with mail_relay(refuses={refused: times}) as relay, webhook(config.at.alerts, []) as hook:
        text = rendered("alertmanager.yml.j2", _BOTH)
        text = text.replace("127.0.0.1:9095", f"127.0.0.1:{hook}").replace("127.0.0.1:2525", f"127.0.0.1:{relay.port}")
        with alertmanager(tmp_path, text, port := held_port()):
            tried = partial(trial_at, port, hook, config, log=lambda _: log.read_text().splitlines())
            if is_whole:
                assert tried().mailed == 2
            else:
                with pytest.raises(UnitError, match="did not reach everybody") as missed:
                    tried()
                counted, named = missed.value.why.split("; ")
                assert counted == "the mail relay 127.0.0.1 took 1 of 2 mails"
                assert named.startswith(f"{refused} got none: ")
                assert "550 5.1.1" in named

    got = [re.findall(r"^To: (.*?)\r?$", one, re.MULTILINE) for one in relay.mails]
    assert [other] in got
    assert ([refused] in got) == is_whole


def can_listen(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not can_listen(465), reason="port 465, by which Alertmanager knows such a relay, takes root here")
@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_relay_at_port_465_is_spoken_to_over_tls_from_the_first_byte(tmp_path: Path, *, is_trusted: bool) -> None:
    trusted, other = tls.authority(), tls.authority("Somebody Else")
    (tmp_path / "ca.pem").write_bytes(tls.pem(trusted.certificate))
    offered = certified(certificate(tmp_path / "relay.pem", trusted if is_trusted else other))
    alert = {"labels": {"alertname": "BackupOld"}, "annotations": {"summary": "s", "description": "d", "runbook": "r"}}
    log = tmp_path / "am.log"
    with mail_relay(offered, at=("127.0.0.1", 465), is_implicit=True) as relay:
        text = rendered("alertmanager.yml.j2", _IMPLICIT, authority=tmp_path / "ca.pem")
        with alertmanager(tmp_path, text, held_port()) as address:
            assert opened(f"{address}/api/v2/alerts", [alert])
            wait(lambda: len(relay.mails) == 2 or "receiver=mail" in log.read_text())

    if is_trusted:
        assert relay.secured == [True, True], log.read_text()[-2000:]
    else:
        assert relay.receivers == []
        assert "certificate signed by unknown authority" in log.read_text()


@pytest.mark.parametrize("given", [AlertsSection(), _BOTH, _IPV6, _SECURED], ids=["page only", "all", "ipv6", "tls"])
def test_alertmanager_accepts_every_form_of_its_configuration(tmp_path: Path, given: AlertsSection) -> None:
    config = tmp_path / "alertmanager.yml"
    (tmp_path / "ca.pem").write_bytes(tls.pem(tls.authority().certificate))
    config.write_text(rendered("alertmanager.yml.j2", given, authority=tmp_path / "ca.pem"))

    done = subprocess.run(["amtool", "check-config", config], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("gateways", [1, 3])
def test_prometheus_accepts_its_configuration(tmp_path: Path, gateways: int) -> None:
    config = tmp_path / "prometheus.yml"
    text = rendered("prometheus.yml.j2", _BOTH, gateways=gateways)
    assert text.count("__metrics_path__: /metrics/gateway-") == gateways - 1
    config.write_text(text.replace("/etc/prometheus/sealift-rules.yml", str(RULES)))

    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["prometheus", "prometheus-alertmanager"])
def test_the_programs_know_every_option_that_they_are_given(name: str) -> None:
    options = re.findall(r"--([a-z.-]+)=", rendered(f"{name}.default.j2", _BOTH))

    done = subprocess.run([name, "--help"], capture_output=True, text=True, check=False)

    assert options
    assert [one for one in options if f"--{one}=" not in (done.stdout + done.stderr)] == []
