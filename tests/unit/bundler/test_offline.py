"""Whether a machine is off every network."""

import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import CeremonyError
from bundler.offline import Links, links, require_offline

_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
_V4 = "wlan0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
_V4_NEAR = "eth9\t0010A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
_V6 = f"{'0' * 32} 00 {'0' * 32} 00 {'fe80':0<32} 00000400 00000001 00000000 00000003     wwan0\n"
_V6_REJECT = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200       lo\n"


def routes(folder: Path, *, v4: str = "", v6: str = "") -> tuple[str, ...]:
    (folder / "route").write_text(_HEAD + v4)
    (folder / "ipv6_route").write_text(v6)
    return links(folder).default_routes


def test_default_routes_are_found_and_others_are_not(tmp_path: Path) -> None:
    assert routes(tmp_path, v4=_V4_NEAR + _V4, v6=_V6_REJECT + _V6) == ("wlan0", "wwan0")
    assert routes(tmp_path, v4=_V4_NEAR, v6=_V6_REJECT) == ()


def test_a_kernel_without_a_protocol_has_no_routes_of_it(tmp_path: Path) -> None:
    assert links(tmp_path).default_routes == ()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Links(live=("eth0",), default_routes=()), "eth0 is up"),
        (Links(live=(), default_routes=("ppp0",)), "a default route leads to ppp0"),
    ],
)
def test_a_connected_machine_is_refused(found: Links, said: str) -> None:
    with pytest.raises(CeremonyError) as refused:
        require_offline(found)
    assert refused.value.why == said


def test_a_machine_without_links_passes() -> None:
    require_offline(Links(live=(), default_routes=()))


def alone(script: str, code: str) -> str:
    """Run Python in a network namespace of its own, after a shell script, and return what it printed."""
    root = Path(__file__).resolve().parents[3]
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f'{script} exec "$0" -c "$1"']
    try:
        done = subprocess.run([*command, sys.executable, code], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs util-linux")
    if done.returncode != 0:
        pytest.skip(f"this machine lends no network namespace with this link: {done.stderr[-200:]}")
    return done.stdout


def test_a_namespace_without_links_is_offline() -> None:
    assert alone("", "from bundler.offline import require_offline; print(require_offline())") == "None\n"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        # A cable is in on both ends; no route, no address.
        ("ip link set cable0 up && ip link set cable1 up &&", ["cable0", "cable1"]),
        # One end is down, so the other has no carrier.
        ("ip link set cable0 up &&", []),
    ],
)
def test_a_link_is_live_with_a_carrier_and_not_without(script: str, found: list[str]) -> None:
    made = f"ip link add name cable0 type veth peer name cable1 && ip link set lo up && {script}"

    # The kernel tells of a carrier a moment after the link is up.
    looked = (
        "import time\nfrom bundler.offline import links\nuntil = time.monotonic() + 5\n"
        f"while sorted(links().live) != {found} and time.monotonic() < until:\n    time.sleep(0.05)\n"
        "print(sorted(links().live))"
    )

    assert alone(made, looked) == f"{found}\n"
