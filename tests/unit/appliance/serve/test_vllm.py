"""vLLM's own server: its arguments, its airtight environment, and the field's ranges."""

import json
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineLoadError, EngineUnavailableError
from appliance.registry.contexts import Kept
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve import vllm
from media import canonical
from media.errors import MalformedError, MediaError
from media.vllmprofile import VllmSettings, faults
from tests.support.mutation import json_values
from tests.support.versions import version_files

PLACES = (Path("/env/bin/python"), Path("/t/model"), Path("/t/model/chat_template.jinja"), Path("/t/vllm.sock"))
RUNTIME: dict[str, Any] = {"n_ctx": 8192, "n_batch": 8192, "n_seq_max": 256}


def version(runtime: dict[str, Any] | None = None, **settings: object) -> ModelDescriptor:
    fields = json.loads(version_files()["data/models/tiny/descriptor.json"])
    fields["engine"] = "vllm"
    fields["runtime"] |= {**RUNTIME, **(runtime or {})}
    if settings:
        fields["runtime"]["vllm"] = {**VllmSettings().to_json(), **settings}
    return ModelDescriptor.from_bytes(canonical.dumps(fields))


def vector(descriptor: ModelDescriptor, *, on_processor: bool = False) -> list[str]:
    return vllm.arguments(*PLACES, descriptor=descriptor, on_processor=on_processor)


def value(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_the_server_listens_on_a_unix_socket_under_the_versions_digest_behind_our_door() -> None:
    descriptor = version(quantization="awq", tensor_parallel_size=4)

    arguments = vector(descriptor)

    assert value(arguments, "--uds") == "/t/vllm.sock"
    assert value(arguments, "--served-model-name") == descriptor.model_digest
    assert value(arguments, "--middleware") == "appliance.serve.vllm_door.Door"
    assert value(arguments, "--load-format") == "safetensors"
    assert (value(arguments, "--quantization"), value(arguments, "--tensor-parallel-size")) == ("awq", "4")
    assert (value(arguments, "--max-model-len"), value(arguments, "--max-num-seqs")) == ("8192", "256")
    assert "--enable-chunked-prefill" in arguments
    assert value(arguments, "--scheduling-policy") == "priority"


def test_the_flags_of_production_reach_vllm_as_the_profile_says_them() -> None:
    """Requirement C7, and that nothing of the environment's own, or of the model's, changes what is approved."""
    settings = {"tensor_parallel_size": 4, "gpu_memory_utilization": "0.95", "quantization": "awq"}
    descriptor = version({"n_ctx": 16384}, pipeline_parallel_size=1, enforce_eager=True, **settings)

    arguments = vector(descriptor)

    assert arguments[:4] == ["/env/bin/python", "-I", "-m", "vllm.entrypoints.openai.api_server"]
    told = {
        "--tensor-parallel-size": "4",
        "--pipeline-parallel-size": "1",
        "--gpu-memory-utilization": "0.95",
        "--max-num-seqs": "256",
        "--max-num-batched-tokens": "8192",
        "--max-model-len": "16384",
        "--quantization": "awq",
        "--generation-config": "vllm",
        "--uvicorn-log-level": "warning",
    }
    assert {name: value(arguments, name) for name in told} == told
    assert {"--enforce-eager", "--enable-chunked-prefill", "--disable-fastapi-docs"} <= set(arguments)


def test_the_numbers_of_cards_are_those_of_the_field_and_no_others() -> None:
    runtime = {"n_ctx": 8192, "n_batch": 8192, "n_seq_max": 256}

    def taken(name: str) -> list[int]:
        usual = VllmSettings().to_json()
        tried = {number: VllmSettings(**{**usual, name: number}) for number in range(-1, 65)}
        return [number for number, settings in tried.items() if not list(faults(settings, **runtime))]

    assert taken("tensor_parallel_size") == [1, 2, 4, 8]
    assert taken("pipeline_parallel_size") == [1, 2, 4]


def test_calls_of_functions_are_read_where_the_profile_says_in_which_form_the_model_makes_them() -> None:
    assert "--enable-auto-tool-choice" not in vector(version())

    arguments = vector(version(tool_call_parser="hermes"))

    assert "--enable-auto-tool-choice" in arguments
    assert value(arguments, "--tool-call-parser") == "hermes"


def test_thoughts_are_told_apart_where_the_profile_says_in_which_form_the_model_thinks() -> None:
    assert "--reasoning-parser" not in vector(version())
    assert value(vector(version(reasoning_parser="deepseek_r1")), "--reasoning-parser") == "deepseek_r1"


def test_a_profile_without_a_reader_of_calls_is_read_by_releases_that_know_none() -> None:
    assert not {"tool_call_parser", "reasoning_parser"} & set(VllmSettings().to_json())
    assert VllmSettings.from_json(VllmSettings().to_json(), "settings") == VllmSettings()


def test_no_remote_code_is_trusted_and_no_request_is_logged() -> None:
    arguments = vector(version())

    assert not [one for one in arguments if "trust" in one or "log-requests" in one]
    assert "--disable-uvicorn-access-log" in arguments


def test_graphs_are_compiled_on_a_gpu_only_and_not_where_the_profile_says_so() -> None:
    assert "--enforce-eager" not in vector(version())
    assert "--enforce-eager" in vector(version(enforce_eager=True))
    assert "--enforce-eager" in vector(version(), on_processor=True)


@pytest.mark.parametrize(
    ("n_batch", "n_seq_max", "on_processor", "read"),
    [(8192, 64, False, "8192"), (8192, 64, True, "256"), (2048, 256, True, "256"), (2048, 512, True, "512")],
)
def test_a_step_reads_no_more_than_a_moment_takes_on_a_processor(
    n_batch: int,
    n_seq_max: int,
    on_processor: bool,  # noqa: FBT001 - a parameter of the table
    read: str,
) -> None:
    asked = version(runtime={"n_ctx": 8192, "n_batch": n_batch, "n_seq_max": n_seq_max})

    arguments = vector(asked, on_processor=on_processor)

    assert value(arguments, "--max-num-batched-tokens") == read
    assert "--enable-chunked-prefill" in arguments


def test_single_precision_is_asked_for_where_the_processor_needs_it() -> None:
    assert "--dtype" not in vector(version(), on_processor=True)

    arguments = vllm.arguments(*PLACES, descriptor=version(), on_processor=True, in_single=True)

    assert value(arguments, "--dtype") == "float32"


@pytest.mark.parametrize(("n_seq_max", "read"), [(64, "128"), (128, "128"), (256, "256")])
def test_a_step_reads_half_as_much_where_single_precision_makes_it_twice_as_long(n_seq_max: int, read: str) -> None:
    asked = version(runtime={"n_ctx": 8192, "n_batch": 8192, "n_seq_max": n_seq_max})

    arguments = vllm.arguments(*PLACES, descriptor=asked, on_processor=True, in_single=True)

    assert value(arguments, "--max-num-batched-tokens") == read


def test_one_process_hands_out_steps_and_computes_on_a_processor_that_a_model_does_not_share_with_others() -> None:
    assert value(vector(version(), on_processor=True), "--distributed-executor-backend") == "uni"
    assert "--distributed-executor-backend" not in vector(version())
    assert "--distributed-executor-backend" not in vector(version(tensor_parallel_size=2), on_processor=True)
    assert "--distributed-executor-backend" not in vector(version(pipeline_parallel_size=2), on_processor=True)


def test_one_process_is_told_how_many_threads_it_has_before_it_starts(tmp_path: Path) -> None:
    told = vllm.environment(tmp_path, threads=3, free_bytes=9 * 2**30, on_processor=True, one_process=True)

    assert (told["VLLM_ENABLE_V1_MULTIPROCESSING"], told["OMP_NUM_THREADS"]) == ("0", "3")
    assert told["GOMP_SPINCOUNT"] == "1000"


def test_templates_tell_the_day_by_which_the_gateway_keeps_answers(tmp_path: Path) -> None:
    """In the machine's zone, which vLLM asks for, the day changes hours before or after that of the cache."""
    told = vllm.environment(tmp_path, threads=1, free_bytes=2**30, on_processor=False)

    assert told["TZ"] == "UTC0"


def test_as_many_tokens_have_room_in_single_precision(tmp_path: Path) -> None:
    told = vllm.environment(tmp_path, threads=1, free_bytes=9 * 2**30, on_processor=True, in_single=True)

    assert told["VLLM_CPU_KVCACHE_SPACE"] == "4"


@pytest.mark.parametrize(
    ("weights", "free", "in_single", "fits"),
    [(2, 8, False, True), (6, 8, False, True), (7, 8, False, False), (1, 8, True, True), (3, 8, True, False)],
)
def test_weights_that_free_memory_does_not_hold_beside_the_cache_are_not_loaded(
    weights: int,
    free: int,
    in_single: bool,  # noqa: FBT001 - a parameter of the table
    fits: bool,  # noqa: FBT001 - likewise
) -> None:
    found = version()
    file = replace(found.weights[0], length=weights * 2**30)
    large = replace(found, files=(file,))

    with nullcontext() if fits else pytest.raises(EngineUnavailableError, match="does not hold"):
        vllm.require_room(large, None, free_bytes=free * 2**30, in_single=in_single)


def test_one_context_that_the_cache_does_not_hold_is_told_before_anything_is_loaded() -> None:
    kept = Kept(whole=80, sliding=0, window=0, heads=8, head_bytes=512)  # 2.5 GiB for 8,192 tokens
    vllm.require_room(version(), kept, free_bytes=12 * 2**30)

    with pytest.raises(EngineUnavailableError) as refused:
        vllm.require_room(version(), kept, free_bytes=11 * 2**30)

    assert "one context of 8192 tokens 2.5 GiB; 11.0 GiB are free, of which 2 hold contexts" in refused.value.why


def test_the_head_of_a_cluster_of_nodes_names_what_lies_on_all_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("VLLM_HOST_IP", "10.1.2.3")
    alone = vllm.environment(tmp_path, threads=1, free_bytes=2**30, on_processor=False)
    monkeypatch.setenv(vllm.RAY_MODEL, "/model")

    arguments = vector(version(tensor_parallel_size=8, pipeline_parallel_size=2))
    told = vllm.environment(tmp_path, threads=1, free_bytes=2**30, on_processor=False)

    assert (value(arguments, "--model"), value(arguments, "--tokenizer")) == ("/model", "/model")
    assert value(arguments, "--distributed-executor-backend") == "ray"
    assert (value(arguments, "--tensor-parallel-size"), value(arguments, "--pipeline-parallel-size")) == ("8", "2")
    assert (told["RAY_USE_TLS"], told["VLLM_HOST_IP"]) == ("1", "10.1.2.3")
    assert ("RAY_USE_TLS" in alone, alone["VLLM_HOST_IP"]) == (False, "127.0.0.1")


def test_its_processes_see_nothing_of_ours_and_reach_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")

    told = vllm.environment(tmp_path, threads=1, free_bytes=9 * 2**30, on_processor=True)

    assert not told.keys() & {"CREDENTIALS_DIRECTORY", "HTTPS_PROXY", "SEALIFT_CONFIG", "NOTIFY_SOCKET"}
    assert (told["VLLM_NO_USAGE_STATS"], told["HF_HUB_OFFLINE"], told["CUDA_VISIBLE_DEVICES"]) == ("1", "1", "1")
    told_nobody = ("TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK")
    assert [told[name] for name in told_nobody] == ["1"] * 4
    # What vLLM logs of a request is below a warning, and no plug-in of its environment may add to it.
    assert (told["VLLM_LOGGING_LEVEL"], told["VLLM_PLUGINS"]) == ("WARNING", "")
    assert told["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert told["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:512"
    assert told["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert told["TORCHDYNAMO_DISABLE"] == "1"  # no compiler is asked for, also not by likelihoods
    assert all(Path(told[name]).is_relative_to(tmp_path) for name in ("HOME", "TMPDIR", "VLLM_CACHE_ROOT"))


@pytest.mark.parametrize(
    ("runtime", "settings"),
    [
        ({"n_ctx": 1024}, {}),
        ({"n_ctx": 131073}, {}),
        ({"n_seq_max": 63}, {}),
        ({"n_seq_max": 513}, {}),
        ({"n_batch": 2047}, {}),
        ({"n_batch": 16385}, {}),
        ({}, {"tensor_parallel_size": 3}),
        ({}, {"pipeline_parallel_size": 8}),
        ({}, {"gpu_memory_utilization": "0.99"}),
        ({}, {"gpu_memory_utilization": "0.69"}),
        ({}, {"gpu_memory_utilization": "much"}),
        ({}, {"gpu_memory_utilization": "NaN"}),
        ({}, {"gpu_memory_utilization": " 0.9"}),
        ({}, {"gpu_memory_utilization": "\uff10.9"}),
        ({}, {"quantization": "squeezellm"}),
        ({}, {"quantization": "bitsandbytes"}),
        ({}, {"tool_call_parser": "her mes"}),
        ({}, {"reasoning_parser": "--trust-remote-code"}),
        ({}, {"tool_call_parser": "--trust-remote-code"}),
    ],
    ids=str,
)
def test_a_value_outside_the_range_is_refused(runtime: dict[str, Any], settings: dict[str, Any]) -> None:
    with pytest.raises(EngineLoadError, match="out of vLLM's range"):
        vector(version(runtime, **settings))


@pytest.mark.parametrize("settings", [{"enforce_eager": 1}, {"trust_remote_code": True}])
def test_a_profile_with_other_fields_is_none(settings: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        version({}, **settings)


def test_the_widest_values_of_the_field_are_taken() -> None:
    runtime = {"n_ctx": 131072, "n_batch": 16384, "n_seq_max": 512}
    settings = replace(VllmSettings(), tensor_parallel_size=8, pipeline_parallel_size=4, gpu_memory_utilization="0.95")

    assert vector(version(runtime, **settings.to_json()))


@given(value=json_values | st.fixed_dictionaries(dict.fromkeys(VllmSettings().to_json(), json_values)))
def test_any_value_is_read_as_settings_or_refused(value: object) -> None:
    with suppress(MediaError):
        assert VllmSettings.from_json(value, "settings").to_json() == value
