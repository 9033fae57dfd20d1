"""A pod's ledger and gateway as the chart starts them: TLS ended by the gateway, callers with a certificate only."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from pathlib import Path
from time import monotonic, sleep

import pytest

from appliance.actions.kubernetes import pod
from appliance.config import Config
from appliance.errors import EngineUnavailableError, LedgerUnavailableError
from appliance.install.sitefile import render
from tests.support.chart import promoted_site, tls_secret

pytestmark = pytest.mark.interop


@pytest.fixture
def config(tmp_path: Path) -> Config:
    site, _ = promoted_site(tmp_path / "b")
    found = site.config.model_copy(
        update={
            "places": site.config.places.model_copy(update={"run": str(tmp_path / "r")}),
            "service": site.config.service.model_copy(update={"metrics_port": 0}),
        }
    )
    found.at.etc.mkdir(parents=True, exist_ok=True)
    found.at.config_file.write_text(render(found))
    found.at.run.mkdir()
    pod.prepare(found.at.state)
    return found


@pytest.fixture
def services(tmp_path: Path, config: Config) -> Iterator[tuple[Config, int, Path]]:
    tls = tls_secret(tmp_path / "tls")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = config.at.state / "keys"
    environment = {**os.environ, "SEALIFT_CONFIG": str(config.at.config_file), "CREDENTIALS_DIRECTORY": str(keys)}
    gateway = [
        *(sys.executable, "-I", "-m", "gunicorn", "--config", "python:appliance.gateway.gunicorn_conf"),
        *(f"--bind=127.0.0.1:{port}", f"--certfile={tls / 'tls.crt'}", f"--keyfile={tls / 'tls.key'}"),
        *(f"--ca-certs={tls / 'ca.crt'}", "--cert-reqs=2", "appliance.gateway.wsgi:app"),
    ]
    ledger = [sys.executable, "-I", "-m", "appliance.audit.service", "--config", str(config.at.config_file)]
    log = (tmp_path / "log").open("wb")
    running = [subprocess.Popen(command, env=environment, stderr=log, cwd="/") for command in (ledger, gateway)]
    try:
        yield config, port, tls
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)
        log.close()


def _got(connection: HTTPSConnection, path: str) -> int:
    connection.request("GET", path)
    return connection.getresponse().status


def until(ask: Callable[[], int], *, seconds: float = 60) -> int:
    """Ask again until there is an answer, as the kubelet does."""
    end = monotonic() + seconds
    while True:
        try:
            return ask()
        except (EngineUnavailableError, LedgerUnavailableError):
            if monotonic() > end:
                raise
            sleep(0.1)


def test_the_kubelets_questions_are_answered_by_the_real_services(services: tuple[Config, int, Path]) -> None:
    config, port, tls = services

    assert until(lambda: pod.ask_gateway("/livez", port, tls=tls)) == 200
    assert until(lambda: pod.ask_ledger(config)) >= 1  # its own first records, perhaps one of the gateway's start
    with pytest.raises(EngineUnavailableError, match="not ready") as caught:
        pod.ask_gateway("/readyz", port, tls=tls)
    assert caught.value.why == "status 503"


def test_a_caller_without_a_certificate_is_refused(services: tuple[Config, int, Path]) -> None:
    _, port, tls = services
    until(lambda: pod.ask_gateway("/livez", port, tls=tls))
    context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
    context.check_hostname = False

    connection = HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _got(connection, "/livez")
    connection.close()


def test_a_ledger_that_is_gone_is_told(services: tuple[Config, int, Path], tmp_path: Path) -> None:
    config, _, _ = services
    elsewhere = config.model_copy(update={"places": config.places.model_copy(update={"run": str(tmp_path / "no")})})

    with pytest.raises(LedgerUnavailableError):
        pod.ask_ledger(elsewhere)
