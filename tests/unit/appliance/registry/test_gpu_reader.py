"""What `nvidia-smi` says, and machines where it says nothing."""

from pathlib import Path

import pytest

from appliance.gateway.metrics import Metrics
from appliance.registry.gpus import Gpu, no_gpus, parse, read


def _tool(folder: Path, script: str) -> str:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return str(tool)


def test_each_gpu_is_a_sample_of_the_documents_metrics(tmp_path: Path) -> None:
    tool = _tool(tmp_path, 'echo "0, 37, 1024, 4096, 312.5"; echo "1, [N/A], [N/A], 9, 9"; echo "2, 0, 0, 4096, [N/A]"')

    metrics = Metrics(read_gpus=lambda: read(tool))

    assert metrics.registry.get_sample_value("llama_gpu_utilization_percent", {"gpu_id": "0"}) == 37
    assert metrics.registry.get_sample_value("llm_gpu_memory_bytes", {"gpu_id": "0"}) == 1024**3
    assert metrics.registry.get_sample_value("sealift_gpu_memory_total_bytes", {"gpu_id": "0"}) == 4 * 1024**3
    assert metrics.registry.get_sample_value("llm_gpu_memory_bytes", {"gpu_id": "1"}) is None
    assert metrics.registry.get_sample_value("llm_gpu_memory_bytes", {"gpu_id": "2"}) == 0
    assert metrics.registry.get_sample_value("sealift_gpu_power_watts", {"gpu_id": "0"}) == 312.5
    assert metrics.registry.get_sample_value("sealift_gpu_power_watts", {"gpu_id": "2"}) is None


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense", "echo 'No devices were found'", r"printf '\377\n'"])
def test_a_tool_that_fails_means_no_gpus(tmp_path: Path, script: str) -> None:
    assert list(read(_tool(tmp_path, script))) == []


def test_a_tool_that_is_not_there_means_no_gpus(tmp_path: Path) -> None:
    assert read(str(tmp_path / "absent")) == ()
    assert no_gpus() == ()


@pytest.mark.parametrize(
    "line",
    [
        *("", "0,1", "0, 1, 2", "x, 1, 2, 3, 4", "0, 1, 2, 3, 4, 5"),
        *("-1, 1, 2, 3, 4", "1024, 1, 2, 3, 4", "0, nan, 2, 3, 4", "0, 101, 2, 3, 4"),
        *("0, -1, 2, 3, 4", "0, 1, inf, 3, 4", "0, 1, 2, 1e300, 4"),
    ],
)
def test_a_line_that_is_none_is_left_out(line: str) -> None:
    assert parse(line) is None
    assert parse("3, 5, 7, 9, inf") == Gpu(
        gpu_id="3", utilization_percent=5, memory_bytes=7 * 1024 * 1024, memory_total_bytes=9 * 1024 * 1024
    )
