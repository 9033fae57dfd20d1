"""A box that serves gets the page's sockets by an upgrade, and loses them again when the box goes back.

As in test_token_units, the box is a bare Debian 12 with this machine's /usr; what changes its units is the install's
own run of a playbook, cut to the role that has them. systemd refuses to start a socket whose service runs already, so
the restart has to stop the gateways before it starts their new sockets; and a release that has none of these sockets
leaves none behind, while callers are answered.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.checkout import CHECKOUT, PYTHON, SERVER, booted, journal, lay_down, lay_program, start
from tests.box.machine import Machine
from tests.box.oneroleplay import MAIN, SITE_PACKAGES, play_of, site_packages

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

UNITS = "etc/systemd/system"
GATEWAYS = ("sealift-gateway", "sealift-gateway-test")
RELEASES = "srv/releases"
PLAYBOOK = f"#!{PYTHON} -I\n{MAIN}\n"
INSTALL = f"""
import sys
from pathlib import Path
from appliance import config
from appliance.install.playbook import Play
place, folder = Path("/etc/sealift/sealift.toml"), Path("/{RELEASES}") / sys.argv[1]
serial = int(sys.argv[1])
play = Play(config=config.load(place), config_file=place, source=folder, folder=folder, serial=serial, environments=())
print(play.run(Path("/{RELEASES}/ansible-playbook")).changed)
"""
# What else a release may bring: something that is made many times, runs, and comes with a boot.
LATER = "sealift-later@.service"
LATER_UNIT = """[Service]
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=sealift.target
"""
# One question after another, each in the words of its status: what waits in a socket is answered later.
ASKING = (
    "while [ ! -e /run/asked.enough ]; do "
    "curl -s -o /dev/null -w '%{http_code}\\n' --unix-socket /run/sealift/gateway.sock http://x/livez; "
    "done >/run/asked 2>&1; touch /run/asked.ended"
)


@pytest.fixture
def box() -> Iterator[Machine]:
    with booted("sldoor", lay, media={SITE_PACKAGES: site_packages()}) as machine:
        # The role makes the command a link; this machine's own /usr is read-only here.
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/bin", shown=False)
        yield machine


def lay(root: Path) -> None:
    """Lay down two releases, the first without sockets for the page, and of the first what an installation leaves."""
    lay_down(root, 'format = 1\nsite = "demo"\n')
    lay_program(root, "gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
    for serial in ("1", "2"):
        release = root / RELEASES / serial
        shutil.copytree(CHECKOUT / "systemd", release / "systemd")
        shutil.copytree(CHECKOUT / "ansible", release / "ansible")
        (release / "ansible/site.yml").write_text(play_of("units"))
    playbook = root / RELEASES / "ansible-playbook"
    playbook.write_text(PLAYBOOK)
    playbook.chmod(0o755)
    (root / RELEASES / "2/systemd" / LATER).write_text(LATER_UNIT)
    of_before = root / RELEASES / "1/systemd"
    take_sockets_away(of_before)
    for gateway in GATEWAYS:
        (root / UNITS / f"{gateway}-admin.socket").unlink()
        shutil.copy(of_before / f"{gateway}.service", root / UNITS)
    shutil.copy(of_before / "sealift.target", root / UNITS)


def take_sockets_away(units: Path) -> None:
    """Make of a release's units those of one whose gateways have no sockets for the page."""
    for gateway in GATEWAYS:
        (units / f"{gateway}-admin.socket").unlink()
        service = units / f"{gateway}.service"
        service.write_text(service.read_text().replace(f" {gateway}-admin.socket", ""))
    target = units / "sealift.target"
    lines = target.read_text().splitlines(keepends=True)
    few = "Wants=sealift-ledger.service sealift-gateway.service sealift-gateway-test.service\n"
    target.write_text("[Unit]\n" + few + "".join(one for one in lines[-3:]))


def test_an_upgrade_brings_the_pages_sockets_and_going_back_leaves_none(box: Machine) -> None:
    start(box, "sealift.target")
    assert statuses(box) == ["200", "200", "000", "000"], journal(box, "sealift-gateway")

    assert install(box, 2) > 0
    assert statuses(box) == ["200"] * 4, journal(box, "sealift-gateway-admin.socket")

    assert box.shell(f"systemctl enable --now {LATER.replace('@', '@1')}").returncode == 0
    assert len(left(box)) == 9, left(box)  # sockets, units and links

    box.shell(f"nohup sh -c {ASKING!r} </dev/null >/dev/null 2>&1 &")
    assert install(box, 1) > 0
    box.shell("touch /run/asked.enough; while [ ! -e /run/asked.ended ]; do sleep 0.05; done")
    assert statuses(box) == ["200", "200", "000", "000"], journal(box, "sealift-gateway")
    assert left(box) == []
    asked = box.shell("cat /run/asked").stdout.split()
    assert set(asked) == {"200"}, asked
    assert install(box, 1) == 0


def install(box: Machine, serial: int) -> int:
    """Let the install's playbook put the units of a release in place; return how many tasks changed something."""
    return int(box.run(f"/{SERVER}/bin/python", "-I", "-c", INSTALL, str(serial), shown=False).stdout)


def left(box: Machine) -> list[str]:
    """Return what there is of the second release's own units: files, links, names that systemd knows, and doors."""
    files = "cd /etc/systemd/system; ls -d *gateway*-admin* *later* *.wants/*later* /run/sealift/gateway*-admin.sock"
    known = "systemctl list-units --all --plain --no-legend 'sealift-gateway*-admin*' 'sealift-later*'"
    return box.shell(f"({files}) 2>/dev/null; {known}").stdout.splitlines()


def statuses(box: Machine) -> list[str]:
    """Return what each gateway answers with, over its own socket and then over the page's; 000 where nothing does."""
    return [lives(box, f"{gateway}{page}") for page in ("", "-admin") for gateway in GATEWAYS]


def lives(box: Machine, gateway: str) -> str:
    """Return the status that a gateway answers with over one of its sockets; 000 where nothing listens."""
    socket = f"/run/sealift/{gateway.removeprefix('sealift-')}.sock"
    asked = f"for i in $(seq 50); do [ -S {socket} ] && break; sleep 0.02; done; "
    return box.shell(f"{asked}curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {socket} http://x/livez").stdout
