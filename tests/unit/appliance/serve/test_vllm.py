"""vLLM's own server, with the field's ranges."""

from pathlib import Path

import pytest

from appliance.errors import EngineLoadError
from appliance.serve import vllm


def test_the_server_listens_on_a_unix_socket_and_trusts_no_remote_code() -> None:
    vector = vllm.arguments(
        Path("/env/bin/python"),
        Path("/store/model"),
        Path("/run/e.sock"),
        served_name="d" * 64,
        profile=vllm.VllmProfile(),
    )

    assert vector[vector.index("--uds") + 1] == "/run/e.sock"
    assert not any("trust-remote-code" in argument for argument in vector)
    assert vllm.ENVIRONMENT["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    "fields",
    [{"gpu_memory_utilization": 0.99}, {"max_num_seqs": 8}, {"tensor_parallel_size": 3}, {"max_model_len": 1}],
)
def test_a_value_outside_the_range_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(EngineLoadError):
        vllm.VllmProfile(**fields)  # type: ignore[arg-type]
