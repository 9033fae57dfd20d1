"""The unit that rotates certificates, as it is, beside a real nginx under the role's own hardening and configuration.

As in test_backup_units, the box is a bare Debian 12 with this machine's /usr: what is tested is whether the sandbox
lets the unit do all of its work: keys, ledger, reload, looking at what is shown.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.checkout import CHECKOUT, SEALIFT, SERVER, booted, journal, lay_down, require_debian, start
from tests.box.machine import Machine
from tests.support import nginx, others_units

pytestmark = pytest.mark.box

HOST = "box.example"
SITE = (
    'format = 1\nsite = "demo"\n[service]\nhostname = "box.example"\ntls = true\n[tls]\nclients = "optional"\n'
    '[network]\naddresses = ["10.0.0.7"]\n'
)
UNIT = """[Service]
Type=forking
PIDFile=/run/nginx.pid
ExecStart=/srv/nginx/nginx -c /etc/nginx/nginx.conf
ExecReload=/srv/nginx/nginx -c /etc/nginx/nginx.conf -s reload
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    require_debian()
    if (program := nginx.program()) is None:
        pytest.skip("neither nginx nor apt is here")
    media = {"/srv/nginx": nginx.fetched(program).parent}
    with booted("sltls", lay, media=media) as machine:
        yield machine


def lay(root: Path) -> None:
    """Lay down an installation with the web server's files."""
    lay_down(root, SITE)
    lay_nginx(root, nginx.rendered(hostname=HOST, clients="optional"))


def lay_nginx(root: Path, configuration: str) -> None:
    """Lay down the web server's unit under the role's hardening, with a configuration."""
    for folder in ("etc/nginx", "var/log/nginx", "var/lib/nginx"):
        (root / folder).mkdir(parents=True)
    (root / "etc/nginx/nginx.conf").write_text(configuration)
    units = root / "etc/systemd/system"
    (units / "nginx.service").write_text(UNIT)
    (units / "nginx.service.d").mkdir()
    (units / "nginx.service.d/sealift.conf").write_text(others_units.drop_in("nginx"))


def by_the_role() -> str:
    """Return the command that the playbook runs, with the values that it gives."""
    lines = (CHECKOUT / "ansible/roles/tls/tasks/main.yml").read_text().splitlines()
    words = [line.strip().removeprefix("- ").strip('"') for line in lines if line.startswith("      - ")]
    values = {"{{ sealift_python }}": f"/{SERVER}/bin/python", "{{ sealift_config_file }}": "/etc/sealift/sealift.toml"}
    return shlex.join(values.get(word, word) for word in words)


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
    assert "nothing is due" in journal(box, "sealift-tls@due")
    assert shown(box) == first["fingerprint"]

    box.shell("sed -i s/10.0.0.7/10.0.0.8/ /etc/sealift/sealift.toml")
    start(box, "sealift-tls@due.service")

    assert "made server; callers are shown" in journal(box, "sealift-tls@due")
    assert shown(box) not in {"", first["fingerprint"]}
    records = json.loads(box.shell(f"{SEALIFT} audit list --kind tls.certificate-made").stdout)
    assert shown(box) in json.dumps(records)
    # The first one was made by root with its rights, as an install does; this one by the unit.
    keys = "/etc/sealift/tls/ca.key /etc/sealift/tls/kept/*/server.key"
    modes = box.shell(f"stat -c '%a %U:%G' {keys}").stdout
    assert modes.split("\n")[:3] == ["400 root:root", *["640 root:www-data"] * 2]
    assert box.shell("stat -c '%U' /proc/$(systemctl show -P MainPID nginx)").stdout == "www-data\n"


def test_keys_that_a_release_before_left_to_root_alone_are_given_before_nginx_starts_anew(box: Machine) -> None:
    box.shell("chown root:root /etc/sealift/tls/kept/*/server.key; chmod 0400 /etc/sealift/tls/kept/*/server.key")
    assert box.shell("systemctl restart nginx.service").returncode != 0, "it is no root, which could read it"

    box.shell("systemctl stop nginx.service; systemctl reset-failed nginx.service")
    done = json.loads(box.shell(by_the_role()).stdout)

    assert (done["changed"], done["is_given"], done["made"]) == (True, True, [])
    start(box, "nginx.service")
    assert shown(box) == done["fingerprint"]


def test_an_operator_has_the_certificate_replaced_by_a_job_that_names_it(box: Machine) -> None:
    box.run("useradd", "--groups", "sealift-operators", "iris", shown=False)
    start(box, "sealift-jobs.service")
    before = shown(box)

    done = box.shell(f"runuser -u iris -- {SEALIFT} tls rotate --now leaked")

    assert done.returncode == 0, done.stdout + journal(box, f"sealift-tls@{before}")
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
    assert "did not read its files again" in journal(box, "sealift-tls@due")
