"""Processor and GPU driver: what wheels need against what the target has."""

from pathlib import Path

import pytest

from bundler import cuda, processor
from bundler.errors import SourceError
from bundler.needs import Needs
from bundler.processor import V2, VARIANTS, best_variant
from bundler.sources.wheels import ChosenWheel
from bundler.target import Target
from bundler.wheelneeds import require_fit
from media import cudadrivers
from tests.support.payload import sha256, wheel

PLAIN = Target(profile="plain")
MODERN = Target(profile="modern", cpu_flags=tuple(sorted(V2 | VARIANTS["haswell"])), probed=True)
GPU = Target(profile="gpu", gpu="NVIDIA L40S", driver="550.54.14", cuda="12.4", cpu_flags=MODERN.cpu_flags)


def chosen(folder: Path, name: str, version: str = "1.0", *, members: tuple[str, ...] = ()) -> ChosenWheel:
    file = wheel(
        folder, name, version, files={f"{name.replace('-', '_')}/{member}": b"x" for member in members or ("a.py",)}
    )
    return ChosenWheel(name=name, version=version, file=file, sha256=sha256(file))


def llama(folder: Path, *variants: str) -> ChosenWheel:
    return chosen(folder, "engine", members=tuple(f"bin/libggml-cpu-{name}.so" for name in variants))


def test_an_engine_with_a_library_for_every_processor_asks_nothing(tmp_path: Path) -> None:
    assert processor.needed([llama(tmp_path, *VARIANTS)], PLAIN) == frozenset()


def test_the_least_demanding_library_that_runs_there_is_what_a_machine_must_have(tmp_path: Path) -> None:
    found = processor.needed([llama(tmp_path, "sandybridge", "haswell", "skylakex")], MODERN)

    assert found == {"sse4_2", "avx"}


@pytest.mark.parametrize("target", [PLAIN, MODERN])
def test_an_engine_for_avx512_only_is_refused_on_a_target_without_it(tmp_path: Path, target: Target) -> None:
    with pytest.raises(SourceError, match=f"more than the processor of {target.profile}") as caught:
        processor.needed([llama(tmp_path, "skylakex", "zen4")], target)

    assert "avx512f" in caught.value.why
    assert "avx512_bf16" not in caught.value.why


@pytest.mark.parametrize("members", [("lib/libggml-cpu.so",), ("bin/libggml-cpu-future.so",)])
def test_an_engine_that_says_nothing_of_its_processor_is_refused(tmp_path: Path, members: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match="nothing says which processors"):
        processor.needed([chosen(tmp_path, "engine", members=members)], MODERN)


def test_a_published_baseline_is_demanded_of_every_machine(tmp_path: Path) -> None:
    numpy = chosen(tmp_path, "numpy", "2.4.6")
    old = Target(profile="old", cpu_flags=("sse4_2",), probed=True)

    assert processor.needed([numpy], PLAIN) == V2
    assert processor.needed([chosen(tmp_path, "numpy", "2.2.0")], PLAIN) == frozenset()
    with pytest.raises(SourceError, match=r"numpy 2\.4\.6 needs more"):
        processor.needed([numpy], old)


def test_the_most_able_library_is_the_one_an_engine_would_choose() -> None:
    assert best_variant(PLAIN.cpu_flags) == "x64"
    assert best_variant(MODERN.cpu_flags) == "haswell"


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        ("torch", "2.9.0+cu128", (12, 8)),
        ("vllm", "0.6.0+cu118", (11, 8)),
        ("nvidia-cuda-runtime-cu12", "12.4.127", (12, 4)),
        ("nvidia-cuda-runtime", "13.0.48", (13, 0)),
        ("torch", "2.9.0+cpu", None),
        ("cupboard", "1.0", None),
    ],
)
def test_the_cuda_of_an_environment_is_read_from_its_versions(
    tmp_path: Path, name: str, version: str, found: cudadrivers.Cuda | None
) -> None:
    wheels = [ChosenWheel(name=name, version=version, file=tmp_path, sha256="")]

    assert cuda.needed(wheels) == found


@pytest.mark.parametrize("versions", [("1.0+cu118", "1.0+cu128"), ("1.0+rocm6.2",)])
def test_mixed_and_foreign_accelerators_are_refused(tmp_path: Path, versions: tuple[str, ...]) -> None:
    wheels = [ChosenWheel(name=f"w{n}", version=text, file=tmp_path, sha256="") for n, text in enumerate(versions)]

    with pytest.raises(SourceError, match="built for"):
        cuda.needed(wheels)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "names no GPU driver"),
        ({"gpu": "NVIDIA L40S"}, "has no driver yet"),
        ({"gpu": "NVIDIA L40S", "driver": "550.54.14"}, "driver 550.54.14 runs CUDA 12.4"),
        ({"gpu": "NVIDIA L40S", "driver": "470.10", "cuda": "11.4"}, "runs CUDA 11.4"),
        ({"gpu": "NVIDIA L40S", "driver": "470.10"}, "older than 11.8"),
        ({"gpu": "NVIDIA L40S", "driver": "535.54.03", "cuda": "12.8"}, "older than 570.26"),
    ],
)
def test_a_driver_that_does_not_run_the_wheels_cuda_is_refused(changes: dict[str, str], why: str) -> None:
    with pytest.raises(SourceError) as caught:
        cuda.require_driver((12, 8), Target.from_table({"profile": "g", **changes}, key="targets.0"), label="engine")

    assert "needs CUDA 12.8" in caught.value.what
    assert why in caught.value.why
    assert "driver" in caught.value.fix


@pytest.mark.parametrize(
    ("wanted", "driver", "runs", "signed"),
    [
        ((12, 4), "550.54.14", "", "550.54.14"),
        ((12, 4), "570.86.15", "12.8", "550.54.14"),
        ((11, 8), "580.65.06", "13.0", "520.61.05"),
        ((12, 7), "570.26", "", "570.26"),
        ((13, 4), "610.10", "13.4", "580.65.06"),
    ],
)
def test_the_least_driver_that_runs_the_wheels_is_signed(
    wanted: cudadrivers.Cuda, driver: str, runs: str, signed: str
) -> None:
    target = Target(profile="g", gpu="NVIDIA L40S", driver=driver, cuda=runs)

    assert cuda.require_driver(wanted, target, label="engine") == signed


def test_the_driver_table_rises_with_cuda() -> None:
    drivers = [tuple(map(int, text.split("."))) for _, text in sorted(cudadrivers.OWN_DRIVER.items())]

    assert drivers == sorted(drivers)


def test_a_release_asks_what_its_environments_ask_together(tmp_path: Path) -> None:
    engine = [chosen(tmp_path, "numpy", "2.4.6"), chosen(tmp_path, "nvidia-cuda-runtime-cu12", "12.1.55")]

    asked = require_fit(engine, [GPU], label="engine-vllm") | require_fit([], [GPU], label="server")

    assert asked == Needs(cpu_flags=tuple(sorted(V2)), driver="530.30.02")
    assert GPU.signed(cpu_flags=asked.cpu_flags, driver=asked.driver)["driver"] == "530.30.02"
