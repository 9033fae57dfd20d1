"""`sealift gpus`: what the driver's tool tells, and machines without a GPU."""

import json
from pathlib import Path

import pytest

from appliance.actions.gpus import gpus
from appliance.cli.gpus import _line
from appliance.errors import PreflightError
from appliance.registry.gpus import Gpu

FIRST = Gpu(gpu_id="0", utilization_percent=37, memory_bytes=2**30, memory_total_bytes=4 * 2**30, power_watts=312.5)


def machine(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_it_tells_what_the_drivers_tool_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "0, 37, 1024, 4096, 312.5"; echo "1, [N/A], [N/A], 9, 9"; echo "2, 0, 0, 4096, [N/A]"'
    machine(tmp_path, monkeypatch, script)

    found = gpus()

    assert found[0] == FIRST
    assert [(one.gpu_id, one.power_watts) for one in found] == [("0", 312.5), ("2", None)]
    assert _line(found[0]) == "GPU 0: 37 % busy, 1.0 of 4.0 GiB, 312 W"
    assert _line(found[1]) == "GPU 2: 0 % busy, 0.0 of 4.0 GiB"
    assert '"memory_total_bytes": 4294967296,' in json.dumps(found[0].to_json())


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense", "echo 'No devices were found'"])
def test_a_driver_that_tells_of_none_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    machine(tmp_path, monkeypatch, script)

    with pytest.raises(PreflightError) as refused:
        gpus()
    assert refused.value.why.startswith("nvidia-smi names none")


def test_a_machine_without_the_drivers_tool_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PreflightError) as refused:
        gpus()
    assert "is not here" in refused.value.why
