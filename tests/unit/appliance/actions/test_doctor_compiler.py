"""`sealift doctor` tries the compiler of a box whose engines build kernels on a GPU, and asks nobody else for one."""

from pathlib import Path

import pytest

from appliance.actions import doctor_compiler
from appliance.actions.findings import Finding
from appliance.config import Config, PlacesSection

GPU = ("triton-3.6.0.dist-info", "nvidia_cuda_runtime-13.0.96.dist-info")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(site="s", places=PlacesSection(root=str(tmp_path)))


def found(config: Config, *packages: str) -> list[Finding]:
    for package in packages:
        (config.at.current / "engine-vllm/lib/python3.11/site-packages" / package).mkdir(parents=True)
    return list(doctor_compiler.look(config))


@pytest.mark.parametrize("packages", [(), GPU[:1], GPU[1:]], ids=["no engine", "on a processor", "without Triton"])
def test_nothing_is_asked_where_nothing_is_built(config: Config, packages: tuple[str, ...]) -> None:
    assert found(config, *packages) == []


@pytest.mark.parametrize("program", ["exit 0", "echo 'Python.h: No such file' >&2; exit 1", None])
def test_what_it_can_is_said_with_what_to_install(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    (tmp_path / "bin").mkdir()
    if program is not None:
        (tmp_path / "bin/gcc").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "bin/gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    (told,) = found(config, *GPU)

    assert told.is_good is (program == "exit 0")
    assert told.fix.startswith("install gcc and libpython3.")
    assert told.text == {
        "exit 0": "builds what Triton of engine-vllm needs",
        None: "neither gcc nor clang is here",
    }.get(program, "gcc finds no Python.h")
