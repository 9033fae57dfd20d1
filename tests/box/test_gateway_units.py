"""Two gateways of one box under systemd, behind a real nginx: one is killed while callers ask, then one has to do.

Scenario: the site file says two, and the install's own run of the role of units starts the further one; callers ask
over TLS without a pause while that one is killed; then the site file says one. Promise: both answer and tell their
figures apart; no caller loses more than what was inside the killed one; it is back by itself within ten seconds and
answers again; what anybody got is recorded; the one that is too many is stopped, with its socket, and comes with no
boot. As in test_door_units, the box is a bare Debian 12 with this machine's /usr. In the engine's place is a program of
a few lines.
"""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.audit.facts import EVERY
from appliance.audit.socket_ledger import SocketLedger
from tests.box.checkout import CHECKOUT, booted, journal, lay_down, lay_program, require_debian, start
from tests.box.machine import Machine
from tests.box.oneroleplay import SITE_PACKAGES, play_of, site_packages
from tests.box.standin import VERSION, asks, lay_engine, receive
from tests.box.test_database_nodes import approve, socket_of
from tests.box.test_door_units import PLAYBOOK, RELEASES, install
from tests.box.test_tls_unit import by_the_role, lay_nginx
from tests.box.wired import Node, wait_until
from tests.support import nginx

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

HOST = "box.example"
SITE = (
    'format = 1\nsite = "demo"\n[engine]\nstart_seconds = 60\n'
    f'[service]\nhostname = "{HOST}"\ntls = true\ngateways = 2\n[network]\naddresses = ["10.0.0.7"]\n'
)
# Of the target what this needs: the rest of a box is not here.
TARGET = (
    "[Unit]\nWants=sealift-ledger.service sealift-promoter.service sealift-jobs.service sealift-gateway.service\n"
    "[Install]\nWantedBy=multi-user.target\n"
)
FURTHER = "sealift-gateway@2"
BACK_SECONDS = 10.0
CALLERS = 4
# Each caller with one question after another over a connection of its own, and what became of each.
ASKING = """
import http.client, json, pathlib, ssl, sys, threading, time
HOST, KEY, CALLERS = sys.argv[1:]
TRUST = ssl.create_default_context(cafile="/etc/sealift/tls/ca.crt")
HEAD = {"Authorization": "Bearer " + KEY, "Content-Type": "application/json"}
BODY = json.dumps({"model": "production", "messages": [{"role": "user", "content": "Which?"}], "max_tokens": 4})
ENOUGH, TOLD = pathlib.Path("/run/asked.enough"), open("/run/asked", "w", buffering=1)
def ask():
    line = http.client.HTTPSConnection(HOST, context=TRUST, timeout=60)
    try:
        line.request("POST", "/v1/chat/completions", BODY, HEAD)
        answer = line.getresponse()
        answer.read()
        return answer.status, answer.headers["x-request-id"]
    except (OSError, http.client.HTTPException) as error:
        return 0, type(error).__name__
    finally:
        line.close()
def go_on():
    while not ENOUGH.exists():
        began = time.time()
        status, request = ask()
        TOLD.write(f"{began} {time.time()} {status} {request}\\n")
        time.sleep(0.1)
callers = [threading.Thread(target=go_on) for _ in range(int(CALLERS))]
for one in callers:  # one after another, so that there is always a question inside
    one.start()
    time.sleep(0.4)
for one in callers:
    one.join()
pathlib.Path("/run/asked.ended").touch()
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: when it was asked and answered, the status of its answer and its id."""

    began: float
    ended: float
    status: int
    request: str


@pytest.fixture
def node() -> Iterator[Node]:
    require_debian()
    if (program := nginx.program()) is None:
        pytest.skip("neither nginx nor apt is here")
    media = {SITE_PACKAGES: site_packages(), "/srv/nginx": nginx.fetched(program).parent}
    with booted("slgate", lay, media=media) as machine:
        # The role makes the command a link; this machine's own /usr is read-only here.
        machine.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/bin", shown=False)
        yield Node(name="one", machine=machine)


def lay(root: Path) -> None:
    """Lay down an installation, the release that its units come from, and a web server that knows of two gateways."""
    lay_down(root, SITE)
    lay_program(root, "gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
    lay_engine(root, seconds=1.5)  # so that there is something inside a gateway that is killed
    lay_nginx(root, rendered(2))
    with (root / "etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {HOST}\n")
    (root / "asking.py").write_text(ASKING)
    release = root / RELEASES / "1"
    shutil.copytree(CHECKOUT / "systemd", release / "systemd")
    shutil.copytree(CHECKOUT / "ansible", release / "ansible")
    (release / "ansible/site.yml").write_text(play_of("units"))
    for units in (release / "systemd", root / "etc/systemd/system"):
        (units / "sealift.target").write_text(TARGET)
    playbook = root / RELEASES / "ansible-playbook"
    playbook.write_text(PLAYBOOK)
    playbook.chmod(0o755)


def rendered(gateways: int) -> str:
    """Return what the role of the web server writes, with the addresses at which figures are read."""
    return nginx.rendered(hostname=HOST, monitoring=True, gateways=gateways)


def serving(node: Node) -> str:
    """Bring a version to production and the web server up; return a caller's key."""
    box = node.machine
    receive(node)
    approve(node)
    promoted = node.sealift(f"promote {VERSION.model_digest[:12]}")
    assert promoted["step"] == "serving", promoted
    assert box.shell(by_the_role()).returncode == 0
    start(box, "nginx.service")
    key = str(node.sealift("keys create --department radiology --owner box --tier premium")["key"])
    wait_until(lambda: asks(node, key) == 200, journal(box, "sealift-gateway"))
    return key


def state(box: Machine, unit: str) -> tuple[str, str]:
    """Return whether a unit is active, and the number of its first process."""
    told = box.shell(f"systemctl show -p ActiveState -p MainPID {unit}").stdout.split()
    found = dict(line.split("=", 1) for line in told)
    return found["ActiveState"], found.get("MainPID", "0")


def counted(box: Machine, gateway: str, what: str = "llm_requests_total") -> int:
    """Return what one gateway counted, by what monitoring reads of it."""
    told = box.shell(f"curl -s http://127.0.0.1:9094/metrics/{gateway}").stdout
    return int(sum(float(one) for one in re.findall(rf"^{what}\{{.*\}} (\S+)$", told, re.MULTILINE)))


def asked(box: Machine) -> list[Asked]:
    """Return what became of every question so far."""
    told = [line.split() for line in box.shell("cat /run/asked").stdout.splitlines()]
    return [Asked(float(one[0]), float(one[1]), int(one[2]), one[3]) for one in told if len(one) == 4]


def recorded(node: Node) -> set[str]:
    """Return the ids of all requests whose outcome is recorded."""
    ledger = SocketLedger(socket_of(node, "ledger-actions"))
    try:
        return {leaf.body["request_id"] for leaf in ledger.find("request.outcome", limit=EVERY)}
    finally:
        ledger.close()


def test_a_killed_gateway_of_two_costs_what_was_inside_it_and_one_that_is_too_many_is_stopped(node: Node) -> None:
    box = node.machine
    assert install(box, 1) > 0
    assert state(box, f"{FURTHER}.socket")[0] == "active"
    key = serving(node)

    box.shell(f"nohup python3 -I /asking.py {HOST} {key} {CALLERS} </dev/null >/run/asking.log 2>&1 &")
    wait_until(lambda: counted(box, "gateway") > 2 and counted(box, "gateway-2") > 2, said(box))
    wait_until(lambda: counted(box, "gateway-2", "llm_active_requests") > 0, said(box))
    before = state(box, f"{FURTHER}.service")
    box.run("systemctl", "kill", "--signal=KILL", f"{FURTHER}.service", shown=False)
    killed = time.time()
    wait_until(lambda: state(box, f"{FURTHER}.service")[0] == "active" and is_another(box, before), said(box))
    wait_until(lambda: counted(box, "gateway-2") > 0, said(box))
    back = time.time() - killed
    time.sleep(1)
    box.shell("touch /run/asked.enough; while [ ! -e /run/asked.ended ]; do sleep 0.05; done")

    found = asked(box)
    lost = [one for one in found if one.status != 200]
    print(f"{len(found)} asked, {len(lost)} lost, back after {back:.1f} s, {lost}")
    assert back < BACK_SECONDS
    assert 1 <= len(lost) <= CALLERS
    assert all(one.began < killed and one.status == 502 for one in lost), lost
    assert any(one.began > killed for one in found)
    assert {one.request for one in found if one.status == 200} <= recorded(node)
    assert node.sealift("audit verify")["ok"] is True

    (box.root / "etc/sealift/sealift.toml").write_text(SITE.replace("gateways = 2", "gateways = 1"))
    assert install(box, 1) > 0
    (box.root / "etc/nginx/nginx.conf").write_text(rendered(1))
    box.run("systemctl", "reload", "nginx.service", shown=False)
    for kind in ("service", "socket"):
        assert state(box, f"{FURTHER}.{kind}")[0] == "inactive"
    left = box.shell("ls /run/sealift/gateway-2.sock /etc/systemd/system/sealift.target.wants/ | grep gateway.2")
    assert left.stdout.startswith("ls: cannot access '/run/sealift/gateway-2.sock'"), left.stdout
    assert "sealift-gateway@2" not in left.stdout
    wait_until(lambda: asks(node, key) == 200, journal(box, "sealift-gateway"))
    assert install(box, 1) == 0


def is_another(box: Machine, before: tuple[str, str]) -> bool:
    """Tell whether the further gateway is another process than before."""
    return state(box, f"{FURTHER}.service")[1] not in {before[1], "0"}


def said(box: Machine) -> str:
    """Return what callers and the further gateway said."""
    return box.shell("tail -5 /run/asked /run/asking.log").stdout + journal(box, f"{FURTHER}.service")
