"""The unit that rotates certificates, as it is, beside a real nginx under the role's own hardening and configuration.

As in test_backup_units, the box is a bare Debian 12 with this machine's /usr: what is tested is whether the sandbox
lets the unit do all of its work: keys, ledger, reload, looking at what is shown.
"""

import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.keys.files import create_missing
from tests.box.machine import Machine, base_image, install_tools
from tests.support import nginx

pytestmark = pytest.mark.box

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
SERVER = "opt/sealift/current/server"
PACKAGES = Path(pytest.__file__).resolve().parents[1]
HOST = "box.example"
SITE = (
    'format = 1\nsite = "demo"\n[service]\nhostname = "box.example"\ntls = true\n[tls]\nclients = "optional"\n'
    '[network]\naddresses = ["10.0.0.7"]\n'
)
SEALIFT = f"/{SERVER}/bin/sealift --config /etc/sealift/sealift.toml --json"
UNIT = """[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStart=/srv/nginx/nginx -c /etc/nginx/nginx.conf
ExecReload=/srv/nginx/nginx -c /etc/nginx/nginx.conf -s reload
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    if not PYTHON.exists() or not Path("/etc/debian_version").read_text().startswith("12."):
        pytest.skip("this machine is no Debian 12 with its own Python")
    if (program := nginx.program()) is None:
        pytest.skip("neither nginx nor apt is here")
    install_tools()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sltls"))) / "root"
        machine = Machine(root=root, name="sltls", media={}, log=root.parent / "console")
        machine.create(base_image())
        machine.media = {
            "/usr": Path("/usr"),
            "/srv/checkout": CHECKOUT,
            "/srv/packages": PACKAGES,
            "/srv/nginx": nginx.fetched(program).parent,
        }
        for point in machine.media:
            (root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        furnish(root)
        machine.boot()
        stack.callback(machine.stop)
        machine.run("systemd-sysusers", "sealift.conf", shown=False)
        machine.run("systemd-tmpfiles", "--create", "sealift.conf", shown=False)
        machine.run("systemctl", "daemon-reload", shown=False)
        yield machine


def furnish(root: Path) -> None:
    """Lay down what an installation leaves: units, accounts, an environment, the site file, the web server's files."""
    for source, place in (
        (CHECKOUT / "systemd", "etc/systemd/system"),
        (CHECKOUT / "systemd/sysusers.d", "etc/sysusers.d"),
        (CHECKOUT / "systemd/tmpfiles.d", "etc/tmpfiles.d"),
    ):
        (root / place).mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copy(path, root / place)
    server = root / SERVER
    packages = server / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for folder in (server / "bin", packages, root / "etc/nginx", root / "var/log/nginx"):
        folder.mkdir(parents=True)
    (root / "var/lib/nginx").mkdir(parents=True)
    (server / "bin/python").symlink_to(PYTHON)
    (packages / "checkout.pth").write_text("/srv/checkout\n/srv/packages\n")
    (server / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    script = server / "bin/sealift"
    script.write_text(f"#!/{SERVER}/bin/python -I\nfrom appliance.cli.main import main\nmain()\n")
    script.chmod(0o755)
    create_missing(root / "etc/sealift/keys")
    (root / "etc/sealift/sealift.toml").write_text(SITE)
    (root / "etc/nginx/nginx.conf").write_text(nginx.rendered(hostname=HOST, clients="optional"))
    units = root / "etc/systemd/system"
    (units / "nginx.service").write_text(UNIT)
    (units / "nginx.service.d").mkdir()
    shutil.copy(CHECKOUT / "ansible/roles/nginx/files/hardening.conf", units / "nginx.service.d/sealift.conf")


def by_the_role() -> str:
    """Return the command that the playbook runs, with the values that it gives."""
    lines = (CHECKOUT / "ansible/roles/tls/tasks/main.yml").read_text().splitlines()
    words = [line.strip().removeprefix("- ").strip('"') for line in lines if line.startswith("      - ")]
    values = {"{{ sealift_python }}": f"/{SERVER}/bin/python", "{{ sealift_config_file }}": "/etc/sealift/sealift.toml"}
    return shlex.join(values.get(word, word) for word in words)


def told(box: Machine, unit: str) -> str:
    return box.shell(f"journalctl -u {unit} -n 40 --no-pager -o cat").stdout


def start(box: Machine, unit: str) -> None:
    assert box.shell(f"systemctl start {unit}").returncode == 0, told(box, unit)


def shown(box: Machine) -> str:
    """Return the fingerprint that a caller in the box is shown."""
    done = box.shell(
        f"openssl s_client -connect 127.0.0.1:443 -servername {HOST} -CAfile /etc/sealift/tls/ca.crt"
        " -verify_return_error </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
    )
    return done.stdout.strip().rpartition("=")[2].replace(":", "").lower()


def test_the_unit_rotates_behind_a_hardened_nginx_and_records_it(box: Machine) -> None:
    start(box, "sealift-ledger.service")
    first = json.loads(box.shell(by_the_role()).stdout)
    assert first["made"] == ["ca", "server", "crl"]
    start(box, "nginx.service")
    assert shown(box) == first["fingerprint"]

    start(box, "sealift-tls@due.service")
    assert "nothing is due" in told(box, "sealift-tls@due")
    assert shown(box) == first["fingerprint"]

    box.shell("sed -i s/10.0.0.7/10.0.0.8/ /etc/sealift/sealift.toml")
    start(box, "sealift-tls@due.service")

    assert "made server; callers are shown" in told(box, "sealift-tls@due")
    assert shown(box) not in {"", first["fingerprint"]}
    records = json.loads(box.shell(f"{SEALIFT} audit list --kind tls.certificate-made").stdout)
    assert shown(box) in json.dumps(records)
    modes = box.shell("stat -c '%a %U' /etc/sealift/tls/ca.key /etc/sealift/tls/current/server.key").stdout
    assert modes.split("\n")[:2] == ["400 root", "400 root"]


def test_an_operator_has_the_certificate_replaced_by_a_job_that_names_it(box: Machine) -> None:
    box.run("useradd", "--groups", "sealift-operators", "iris", shown=False)
    start(box, "sealift-jobs.service")
    before = shown(box)

    done = box.shell(f"runuser -u iris -- {SEALIFT} tls rotate --now leaked")

    assert done.returncode == 0, done.stdout + told(box, f"sealift-tls@{before}")
    assert shown(box) not in {"", before}
    asked = json.loads(box.shell(f"{SEALIFT} audit list --kind job.asked").stdout)["leaves"]
    assert [(one["body"]["kind"], one["body"]["digest"], one["body"]["account"]) for one in asked] == [
        ("rotate-certificate", before, "iris")
    ]
    assert box.shell(f"runuser -u iris -- {SEALIFT} tls rotate").returncode == 56  # keys are root's


def test_nginx_refused_the_new_pair_and_callers_are_shown_the_old_one(box: Machine) -> None:
    before = shown(box)
    box.shell("sed -i s/10.0.0.8/10.0.0.9/ /etc/sealift/sealift.toml; echo nonsense >> /etc/nginx/nginx.conf")

    done = box.shell("systemctl start sealift-tls@due.service")

    assert done.returncode != 0
    assert shown(box) == before
    assert "did not read its files again" in told(box, "sealift-tls@due")
