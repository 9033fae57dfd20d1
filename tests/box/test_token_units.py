"""Ledger and gateway under systemd with keys on a token: units as they are, with the drop-ins that the install writes.

As in test_standby_units, the box is a bare Debian 12 with this machine's /usr. What is tested is whether the sandbox
lets a PKCS#11 module do its work for a user that only a group lets at the token, and where the PIN is.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit import note
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from tests.box.checkout import SEALIFT, SERVER, booted, lay_down, lay_drop_ins, lay_program, start
from tests.box.machine import Machine
from tests.support.softhsm import MODULE, PIN

pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]

TOKENS = "var/lib/softhsm/tokens"
SITE = (
    'format = 1\nsite = "demo"\n[keys]\nprovider = "token"\n'
    f'module = "{MODULE}"\ntoken = "ward-7"\nfolder = "/{TOKENS}"\ngroup = "softhsm"\n'
)
MAKE_KEYS = (
    "from pathlib import Path; from appliance.config import load; from appliance.keys.opening import open_keys; "
    "print(*open_keys(load(Path('/etc/sealift/sealift.toml'))).create_missing())"
)


@pytest.fixture
def box() -> Iterator[Machine]:
    if not Path(MODULE).exists():
        pytest.skip("this machine has no SoftHSM2")
    with booted("sltok", lay, accounts=("sealift.conf", "softhsm.conf")) as machine:
        yield machine


def lay(root: Path) -> None:
    """Lay down a site that chose a token: no key file, the drop-ins, a token with a PIN and no key."""
    lay_down(root, SITE, has_keys=False)
    lay_drop_ins(root, SITE)
    lay_program(root, "gunicorn", "from gunicorn.app.wsgiapp import run\nrun()\n")
    (root / "etc/sysusers.d/softhsm.conf").write_text("g softhsm -\n")
    (root / TOKENS).mkdir(parents=True)
    (root / "etc/softhsm").mkdir()
    (root / "etc/softhsm/softhsm2.conf").write_text(f"directories.tokendir = /{TOKENS}\n")
    here = root.parent / "softhsm2.conf"
    here.write_text(f"directories.tokendir = {root}/{TOKENS}\n")
    init = ["softhsm2-util", "--init-token", "--free", "--label", "ward-7", "--pin", PIN, "--so-pin", "31415926"]
    subprocess.run(init, check=True, capture_output=True, env={**os.environ, "SOFTHSM2_CONF": str(here)})


def test_the_units_use_a_token_and_the_pin_is_in_their_credentials_alone(box: Machine) -> None:
    placed = box.shell(f"{SEALIFT} box-keys pin", feed=f"{PIN}\n")
    assert placed.returncode == 0, placed.stdout + placed.stderr
    made = box.shell(f'/{SERVER}/bin/python -I -c "{MAKE_KEYS}"')
    assert "ledger-checkpoint" in made.stdout, made.stderr
    box.run("chgrp", "-R", "softhsm", f"/{TOKENS}", shown=False)
    box.run("chmod", "-R", "g+rwX", f"/{TOKENS}", shown=False)

    for unit in ("sealift-ledger.service", "sealift-gateway.service"):
        start(box, unit)

    ledger = SocketLedger(Path(f"/proc/{box.leader}/root/run/sealift") / f"{ACTIONS}.sock", timeout_seconds=60)
    signed = note.verify_checkpoint(ledger.checkpoint(), [ledger.vkey()])
    ledger.close()
    assert signed.size > 0
    assert [path.name for path in (box.root / "etc/sealift/keys").iterdir()] == ["token-pin"]
    lives = box.shell("curl -s -o /dev/null -w '%{http_code}' --unix-socket /run/sealift/gateway.sock http://x/livez")
    assert lives.stdout == "200"
    seen = box.shell(
        "journalctl --no-pager -o cat; systemctl show sealift-ledger sealift-gateway;"
        " for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; tr '\\0' ' ' <$p/environ; done 2>/dev/null"
    ).stdout
    assert len(seen) > 10_000
    assert PIN not in seen
    held = box.shell("grep -l . /run/credentials/*/token-pin").stdout.split()
    assert held == [f"/run/credentials/sealift-{name}.service/token-pin" for name in ("gateway", "ledger")]
