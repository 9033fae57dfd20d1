"""Whether a machine is off every network."""

import shutil
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


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_the_kernel_is_asked_in_the_namespace_of_the_process() -> None:
    code = "from bundler.offline import require_offline; require_offline(); print('offline')"
    root = Path(__file__).resolve().parents[3]
    alone = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", code]
    done = subprocess.run(alone, cwd=root, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("this machine lends no network namespaces")

    assert done.stdout == "offline\n", done.stderr
    # A link that is up and has a carrier is seen, also without any route.
    linked = 'ip link add a type veth peer name b && ip link set a up && ip link set b up && exec "$0" -c "$1"'
    seen = "from bundler.offline import links; print(sorted(links().live))"
    joined = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", linked, sys.executable, seen]
    done = subprocess.run(joined, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        assert done.stdout == "['a', 'b']\n"
