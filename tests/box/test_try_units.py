"""What tries files of the web server and the packet filter, as it is, asked from inside the unit that installs.

As in test_tls_unit, the box is a bare Debian 12 with this machine's /usr, and a real nginx; rules are judged by
the kernel.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from appliance import config as configuration
from tests.box.checkout import SERVER, booted, journal, lay_down, require_debian, start
from tests.box.machine import Machine
from tests.support import nginx
from tests.support.debs import deb
from tests.support.packetfilter import rules

pytestmark = pytest.mark.box

SITE = (
    'format = 1\nsite = "demo"\n[service]\nhostname = "box.example"\ntls = true\n[network]\naddresses = ["10.0.0.7"]\n'
)
UNIT = "sealift-install@probe"
PYTHON = f"/{SERVER}/bin/python"
TRIED = f"{PYTHON} -I -m appliance.install.tried"
ROTATE = f"{PYTHON} -I -m appliance.cli.main --config /etc/sealift/sealift.toml --json tls rotate --no-reload"
ASKED = f"{PYTHON} -I -c 'import sys; from appliance.install import setid; sys.exit(not setid.is_forbidden())'"
FIRST_FREE_PORT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
PATH = "[Service]\nEnvironment=PATH=/srv/nginx:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    require_debian()
    if (program := nginx.program()) is None or shutil.which("nft") is None:
        pytest.skip("nginx or nft is not here")
    media = {"/srv/nginx": nginx.fetched(program).parent}
    with booted("sltry", lay, media=media) as machine:
        start(machine, "sealift-ledger.service")
        assert machine.shell(ROTATE).returncode == 0
        yield machine


def lay(root: Path) -> None:
    """Lay down an installation, and what a release's templates would write."""
    lay_down(root, SITE)
    for folder in ("var/log/nginx", "var/lib/nginx", "srv/files"):
        (root / folder).mkdir(parents=True)
    for unit in (UNIT.replace("@probe", "@"), "sealift-try-nginx@"):
        drop_in = root / f"etc/systemd/system/{unit}.service.d/path.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(PATH)
    # The environment of this box reads the checkout, which a release's does not.
    drop_in = root / "etc/systemd/system/sealift-try-nftables@.service.d/checkout.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nBindReadOnlyPaths=/srv/checkout /srv/packages\n")
    web, filtered = nginx.rendered(hostname="box.example"), rules(configuration.parse(SITE.encode()))
    files = {
        "nginx": web,
        "nginx-unknown": web.replace("server_tokens off;", "server_tokenz off;"),
        "nginx-key": web.replace("current/server.key", "current/other.key"),
        "nftables": filtered,
        "nftables-unknown": f"{filtered}\nnonsense",
        "nftables-kernel": filtered.replace("hook output priority filter", "hook ingress priority filter"),
    }
    assert len(set(files.values())) == len(files)
    for name, text in files.items():
        (root / "srv/files" / name).write_text(text)


def installing(box: Machine, *commands: str) -> tuple[bool, str]:
    """Carry commands out as the install unit does its own; tell whether it ended well, and what it said."""
    lines = ["[Service]", "ExecStart=", *(f"ExecStart={command}" for command in commands)]
    box.shell(f"mkdir -p /etc/systemd/system/{UNIT}.service.d; systemctl daemon-reload")
    (box.root / f"etc/systemd/system/{UNIT}.service.d/probe.conf").write_text("\n".join(lines) + "\n")
    began = box.shell("systemctl daemon-reload; date +%s.%N").stdout.strip()
    done = box.shell(f"systemctl start {UNIT}.service")
    return done.returncode == 0, box.shell(
        f"journalctl --sync; journalctl -u {UNIT} --since @{began} -o cat --no-pager"
    ).stdout


def trying(box: Machine, kind: str, file: str) -> tuple[bool, str]:
    """Have a file tried from inside the install unit, where Ansible would lay it down."""
    return installing(box, f"/usr/bin/cp /srv/files/{file} /tmp/file", f"{TRIED} {kind} /tmp/file")


def seen_by(box: Machine, kind: str, held: Sequence[str]) -> str:
    """Hold all of `held` (test(1)) in a trying unit, and that it writes to one folder; return its user and status."""
    folder, unit = f"/etc/systemd/system/sealift-try-{kind}@.service.d", f"sealift-try-{kind}@probe"
    written = ("! -w /run/sealift/tried", f"-w /run/sealift/tried/{kind}")
    tests = "".join(f"ExecStart=/usr/bin/test {one}\n" for one in (*held, *written))
    (box.root / folder.lstrip("/") / "z.conf").write_text(
        f"[Service]\nExecStart=\nExecStart=/usr/bin/id -un\n{tests}ExecStart=/usr/bin/cat /proc/self/status\n"
    )
    done = box.shell(f"systemctl daemon-reload; systemctl start {unit}")
    told = box.shell(f"journalctl --sync; journalctl -u {unit} -o cat --no-pager").stdout
    box.shell(f"rm {folder}/z.conf; systemctl daemon-reload")
    assert done.returncode == 0, told
    return told


@pytest.mark.parametrize("kind", ["nginx", "nftables"])
def test_what_the_roles_write_is_accepted(box: Machine, kind: str) -> None:
    is_good, told = trying(box, kind, kind)

    assert is_good, told + journal(box, f"sealift-try-{kind}@*")
    assert box.shell("find /run/sealift/tried -type f").stdout == ""
    assert "sealift-try" not in box.shell("systemctl list-units --all --plain --no-legend 'sealift-try*'").stdout


@pytest.mark.parametrize(
    ("kind", "file", "why"),
    [
        ("nginx", "nginx-unknown", "unknown directive"),
        ("nginx", "nginx-key", "other.key"),
        ("nftables", "nftables-unknown", "syntax error"),
        ("nftables", "nftables-kernel", "Error"),
    ],
)
def test_what_is_wrong_is_refused_with_the_programs_reason(box: Machine, kind: str, file: str, why: str) -> None:
    is_good, told = trying(box, kind, file)

    assert not is_good
    assert "is not put in place" in told
    assert why in told


def test_nothing_of_a_trial_is_in_force_afterwards(box: Machine) -> None:
    assert trying(box, "nftables", "nftables")[0]

    assert "sealift" not in box.run("nft", "list", "ruleset", shown=False).stdout
    assert box.shell("ls -d /run/nginx /var/lib/nginx/* 2>/dev/null; cat /var/log/nginx/*").stdout == ""


def test_the_web_servers_trial_is_no_root_and_reads_the_one_key_that_files_name_and_no_other(box: Machine) -> None:
    tls = "/etc/sealift/tls"

    told = seen_by(box, "nginx", (f"-r {tls}/current/server.key", f"! -r {tls}/ca.key", "! -r /etc/shadow"))

    assert "sealift-try-web" in told.split()
    for right in ("CapBnd", "CapEff", "CapAmb"):
        assert f"{right}:\t0000000000000000" in told, "the network lets any user open low ports"
    assert box.shell(f"cat {FIRST_FREE_PORT}").stdout.split() == ["1024"], "this one does not"


def test_low_ports_are_never_opened_in_the_machines_own_network(box: Machine) -> None:
    done = box.shell(f"{PYTHON} -I -m appliance.install.lowports")

    assert done.returncode != 0
    assert "machine's own network" in done.stdout + done.stderr
    assert box.shell(f"cat {FIRST_FREE_PORT}").stdout.split() == ["1024"]


def test_the_packet_filters_trial_is_no_root_and_sees_no_data_of_the_box(box: Machine) -> None:
    held = ("! -e /var/lib", "! -e /srv/files", "! -r /etc/shadow", "! -r /etc/sealift/keys")

    told = seen_by(box, "nftables", held)

    assert "sealift-try" in told.split()
    assert "CapBnd:\t0000000000001000" in told, "rules of a network, and nothing else"


def test_the_unit_that_installs_cannot_try_them_itself(box: Machine) -> None:
    for command in ("/srv/nginx/nginx -t -q -c /srv/files/nginx", "/usr/sbin/nft --check --file /srv/files/nftables"):
        is_good, told = installing(box, command)

        assert not is_good, told
    box.shell("rm -rf /var/log/nginx/* /var/lib/nginx/*")


def test_accounts_are_made_without_the_audit_log(box: Machine) -> None:
    is_good, told = installing(
        box,
        "/usr/sbin/groupadd --system probe",
        "/usr/sbin/useradd --system --gid probe probe",
        "/usr/sbin/userdel probe",
    )

    assert is_good, told


def test_a_package_is_put_in_and_a_program_with_the_set_user_id_bit_is_not(box: Machine) -> None:
    for name, is_setuid in (("plainly", False), ("asowner", True)):
        shutil.copy(deb(box.root / "srv" / name, name, is_setuid=is_setuid), box.root / f"srv/{name}.deb")
    # Below a folder, because this box has the machine's own /usr, to read.
    box.shell("cd /opt; mkdir -p below/var/lib/dpkg/info below/var/lib/dpkg/updates; touch below/var/lib/dpkg/status")

    is_good, told = installing(box, "/usr/bin/dpkg --root=/opt/below --install /srv/plainly.deb")
    is_found_out, why = installing(box, "-/usr/bin/dpkg --root=/opt/below --install /srv/asowner.deb", ASKED)

    assert is_good, told
    assert is_found_out, why
    assert "Operation not permitted" in why
    assert box.shell("ls /opt/below/usr/bin").stdout.split() == ["plainly"]


@pytest.mark.parametrize("kind", ["nginx", "nftables"])
def test_without_the_unit_or_with_one_that_hangs_or_says_nothing_no_file_passes(box: Machine, kind: str) -> None:
    folder = f"/etc/systemd/system/sealift-try-{kind}@.service.d"
    for lines in (
        "ExecStart=/usr/bin/true",
        "ExecStart=/usr/bin/sleep 60\\nTimeoutStartSec=2",
        "ExecStart=/usr/bin/false",
    ):
        box.shell(f"mkdir -p {folder}; printf '[Service]\\nExecStart=\\n{lines}\\n' > {folder}/z.conf")
        is_good, told = trying(box, kind, kind)
        assert not is_good, lines
        assert f"sealift-try-{kind}@" in told
    box.shell(f"rm {folder}/z.conf; mv /etc/systemd/system/sealift-try-{kind}@.service /root/")

    is_good, told = trying(box, kind, kind)

    assert not is_good, told
    box.shell(f"mv /root/sealift-try-{kind}@.service /etc/systemd/system/; systemctl daemon-reload")
    assert trying(box, kind, kind)[0]
