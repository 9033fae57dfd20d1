"""The compiler that vLLM starts on a GPU is tried: this machine has one, and others have less."""

import shutil
import sysconfig
from pathlib import Path

import pytest

from appliance.actions import doctor_compiler
from appliance.actions.findings import Finding
from appliance.config import Config, PlacesSection

GPU = ("triton-3.6.0.dist-info", "nvidia_cuda_runtime-13.0.96.dist-info")
needs_headers = pytest.mark.skipif(
    shutil.which("gcc") is None or not (Path(sysconfig.get_path("include", "posix_prefix")) / "Python.h").exists(),
    reason="needs gcc and Python's headers",
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(site="s", places=PlacesSection(root=str(tmp_path)))


def found(config: Config, *packages: str) -> list[Finding]:
    for package in packages:
        (config.at.current / "engine-vllm/lib/python3.11/site-packages" / package).mkdir(parents=True)
    return list(doctor_compiler.compiler(config))


def compiler(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in called gcc where programs are looked for."""
    folder.mkdir()
    (folder / "gcc").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@needs_headers
def test_a_machine_that_builds_what_triton_needs_is_well(config: Config) -> None:
    (told,) = found(config, *GPU)

    assert told.is_good is True
    assert told.text == "builds what Triton of engine-vllm needs"


@pytest.mark.parametrize("packages", [(), GPU[:1], GPU[1:]], ids=["no engine", "on a processor", "without Triton"])
def test_nothing_is_asked_where_nothing_is_built(config: Config, packages: tuple[str, ...]) -> None:
    assert found(config, *packages) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("echo 'probe.c:3:10: fatal error: Python.h: No such file or directory' >&2; exit 1", "gcc finds no Python.h"),
        ("echo 'probe.c:1:10: fatal error: stdio.h: No such file or directory' >&2; exit 1", "gcc finds no stdio.h"),
        ("exit 1", "gcc builds nothing"),
    ],
)
def test_what_is_missing_is_said(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, told: str
) -> None:
    compiler(tmp_path / "bin", body, monkeypatch)

    (finding,) = found(config, *GPU)

    assert (finding.is_good, finding.text) == (False, told)
    assert "gcc and libpython3" in finding.fix


def test_a_machine_without_a_compiler_is_told_which_to_install(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    (finding,) = found(config, *GPU)

    assert (finding.is_good, finding.text) == (False, "neither gcc nor clang is here")
