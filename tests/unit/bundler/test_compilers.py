"""A release whose engine builds kernels on the box is refused where no compiler would be there."""

from pathlib import Path

import pytest

from bundler.compilers import require_compiler
from bundler.errors import SourceError
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from tests.support.payload import sha256, wheel

GPU = Target(profile="gpu-server", gpu="NVIDIA L4", driver="580.65.06", python="3.11")
BASE = {"bash", "libc6"}


def chosen(folder: Path, *names: str) -> list[ChosenWheel]:
    made = []
    for name in names:
        bare, _, version = name.partition("==")
        file = wheel(folder, bare, version or "1.0")
        made.append(ChosenWheel(name=bare, version=version or "1.0", file=file, sha256=sha256(file)))
    return made


@pytest.mark.parametrize(
    ("has", "missing"),
    [
        (set(), "gcc, libpython3.11-dev"),
        ({"gcc"}, "libpython3.11-dev"),
        ({"python3-dev"}, "gcc"),
        ({"gcc-12", "libpython3.12-dev"}, "gcc, libpython3.11-dev"),
    ],
)
def test_what_triton_would_miss_is_named_with_the_packages_that_bring_it(
    tmp_path: Path, has: set[str], missing: str
) -> None:
    wheels = chosen(tmp_path, "vllm", "triton", "nvidia-cuda-runtime==13.0.96")

    with pytest.raises(SourceError, match="engine-vllm would not start on gpu-server") as caught:
        require_compiler(wheels, GPU, BASE | has, label="engine-vllm")

    assert caught.value.fix == f"add {missing} to debs.packages"


@pytest.mark.parametrize("has", [{"gcc", "libpython3.11-dev"}, {"clang", "python3.11-dev"}, {"gcc", "python3-dev"}])
def test_a_machine_with_both_is_fit(tmp_path: Path, has: set[str]) -> None:
    wheels = chosen(tmp_path, "vllm", "triton", "nvidia-cuda-runtime==13.0.96")

    require_compiler(wheels, GPU, BASE | has, label="engine-vllm")


@pytest.mark.parametrize("names", [("triton", "torch==2.11.0+cpu"), ("nvidia-cuda-runtime==13.0.96", "other")])
def test_nothing_is_asked_where_nothing_is_built_there(tmp_path: Path, names: tuple[str, ...]) -> None:
    require_compiler(chosen(tmp_path, *names), GPU, BASE, label="engine-vllm")


def test_of_a_machine_of_which_no_package_is_known_nothing_is_said(tmp_path: Path) -> None:
    require_compiler(chosen(tmp_path, "triton", "nvidia-cuda-runtime==13.0.96"), GPU, (), label="engine-vllm")
