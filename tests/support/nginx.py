"""A real nginx on loopback with the configuration that the role writes: this machine's, or Debian's package unpacked.

Only what lies elsewhere on a test machine is replaced: folders, ports, sockets, the user.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from jinja2 import Environment, StrictUndefined

from appliance.install.webserver import shown_at

TEMPLATE: Final = Path(__file__).resolve().parents[2] / "ansible/roles/nginx/templates/nginx.conf.j2"
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sealift/tools"
_UNPACKED: Final = _CACHE / "nginx-bookworm/usr/sbin/nginx"
_PATIENCE_SECONDS: Final = 60


def program() -> Path | None:
    """Return where nginx is, or will be once `fetched`; nothing where it can be neither. Fetches nothing by itself."""
    if (found := shutil.which("nginx")) is not None:
        return Path(found)
    return _UNPACKED if _UNPACKED.exists() or shutil.which("apt-get") is not None else None


def fetched(nginx: Path) -> Path:
    """Return the program, unpacked from Debian's package first where the machine has none; else skip the test."""
    if not nginx.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / "nginx.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not nginx.exists():
                _unpack(_CACHE / "nginx-bookworm")
    if not nginx.exists():
        pytest.skip("there is no nginx, and apt does not fetch Debian's")
    return nginx


def _unpack(folder: Path) -> None:
    beside = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    # Fresh lists only where the ones at hand do not lead to the package.
    for words in (["download", "nginx"], ["update"], ["download", "nginx"]):
        if not list(beside.glob("nginx_*.deb")):
            command = ["apt-get", "-qq", *words]
            subprocess.run(command, cwd=beside, capture_output=True, check=False, timeout=300)
    for file in beside.glob("nginx_*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(file), str(beside)], check=True, timeout=60)
        beside.rename(folder)


def listener() -> socket.socket:
    """Return a listening socket on a port of loopback that nobody else has; nginx inherits it, so none is lost."""
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen(128)
    # nginx leaves an inherited one as it is: two workers at once, as while it reads its files again, would both go for
    # one caller, and the one that comes late would wait in accept() for the next, deaf to all that it has.
    found.setblocking(False)
    return found


def rendered(
    *,
    hostname: str = "llm.hospital.example",
    clients: str = "off",
    monitoring: bool = False,
    gateways: int = 1,
    elsewhere: str = "off",
) -> str:
    """Return what the role writes; `elsewhere` is what the ports of the page and of numbers ask for."""
    given = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701 - not HTML
    template = given.from_string(TEMPLATE.read_text())
    return template.render(
        sealift_hostname=hostname,
        sealift_client_certificates="none" if clients == "off" else clients,
        sealift_management_certificates="none" if elsewhere == "off" else elsewhere,
        sealift_monitoring_certificates="none" if elsewhere == "off" else elsewhere,
        sealift_monitoring=monitoring,
        sealift_gateways=gateways,
        nginx_ipv6={"stat": {"exists": False}},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One nginx, told as systemd's unit tells it."""

    program: Path
    folder: Path
    hostname: str
    port: int
    process: subprocess.Popen[bytes]
    page_port: int = 0
    numbers_port: int = 0
    """Where numbers are read, where `elsewhere` is not off: nothing answers behind it."""
    user: str | None = None
    """Whom root started it as; nobody else than who runs the test."""

    @property
    def configuration(self) -> Path:
        return self.folder / "nginx.conf"

    @property
    def log(self) -> str:
        return (self.folder / "error.log").read_text()

    def test(self) -> subprocess.CompletedProcess[str]:
        return tested(self.program, self.configuration, user=self.user)

    def reload(self) -> bool:
        """Do as `WebServer.reload`: nginx's own test, then its signal."""
        assert self.test().returncode == 0
        self.process.send_signal(1)
        return True

    def shown(self) -> str:
        return shown_at("127.0.0.1", self.port, self.hostname)


def tested(nginx: Path, configuration: Path, *, user: str | None) -> subprocess.CompletedProcess[str]:
    """Return what `nginx -t` says, where root asks as another user."""
    command = [str(fetched(nginx)), "-t", "-c", str(configuration), "-p", str(configuration.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **_as(user))


def _as(user: str | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def configure(  # one place where a test machine differs from a box
    folder: Path,
    *,
    tls: Path,
    gateway: Path,
    hostname: str,
    clients: str,
    ports: Sequence[int],
    gateways: int = 1,
    elsewhere: str = "off",
    user: str | None = None,
    workers: int = 1,
) -> Path:
    """Write the role's configuration for this machine; with four ports also what monitoring has."""
    port, admin_port, *watched = ports
    text = rendered(
        hostname=hostname, clients=clients, gateways=gateways, elsewhere=elsewhere, monitoring=bool(watched)
    )
    # A box's unit starts it as www-data; here it stays who runs the test.
    text = ("user root;\n" if os.geteuid() == 0 and user is None else "") + text
    for old, new in (
        ("worker_processes auto;", f"worker_processes {workers};\ndaemon off;\nlock_file {folder}/lock;"),
        ("pid /run/nginx/nginx.pid;", f"pid {folder}/nginx.pid;"),
        ("/var/log/nginx/error.log crit", f"{folder}/error.log info"),
        ("/etc/sealift/tls", str(tls)),
        ("/run/sealift/gateway", str(gateway.with_suffix(""))),
        ("/run/sealift/admin.sock", str(folder / "admin.sock")),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("listen 8443 ", f"listen 127.0.0.1:{admin_port} "),
        *zip(("listen 9090 ", "listen 127.0.0.1:9094"), (f"listen 127.0.0.1:{one} " for one in watched), strict=False),
    ):
        assert old in text, old
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in kinds)
    text = re.sub(r"^http \{$", f"http {{\n{places}", text, count=1, flags=re.MULTILINE)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


@contextmanager
def running(
    folder: Path,
    nginx: Path,
    *,
    tls: Path,
    gateway: Path,
    hostname: str,
    clients: str,
    gateways: int = 1,
    elsewhere: str = "off",
    user: str | None = None,
    workers: int = 1,
) -> Iterator[Running]:
    """Start nginx, yield it when it answers, and end it with its workers; root may start it as another user."""
    sockets = [listener() for _ in range(2 if elsewhere == "off" else 4)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    configuration = configure(
        folder,
        tls=tls,
        gateway=gateway,
        hostname=hostname,
        clients=clients,
        ports=ports,
        gateways=gateways,
        elsewhere=elsewhere,
        user=user,
        workers=workers,
    )
    numbers = [one.fileno() for one in sockets]
    command = [str(fetched(nginx)), "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")]
    inherited = {**os.environ, "NGINX": "".join(f"{number};" for number in numbers)}
    with (folder / "said.log").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, pass_fds=numbers, env=inherited, **_as(user))
    for one in sockets:
        one.close()
    found = Running(
        program=nginx,
        folder=folder,
        hostname=hostname,
        port=ports[0],
        process=process,
        page_port=ports[1],
        numbers_port=ports[2] if elsewhere != "off" else 0,
        user=user,
    )
    try:
        ends = time.monotonic() + _PATIENCE_SECONDS
        while not found.shown():
            assert process.poll() is None, (folder / "said.log").read_text()
            assert time.monotonic() < ends, "nginx does not answer"
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)
