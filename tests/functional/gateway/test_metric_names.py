"""/metrics has every metric that requirement K names, with its labels and buckets, once something was answered."""

from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from appliance.gateway.enginefigures import OWN, USE, EngineFigures
from appliance.gateway.metrics import Metrics
from appliance.registry.gpus import Gpu
from tests.support.gateway import Rig, gateway

_E2E = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75)
_TTFT = (*_FIRST, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560)
_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_LATENCY = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
# K1 to K10: name, type, labels, and buckets where they are given (K5, and vLLM's own).
NAMES = {
    "llama_request_duration_seconds": ("histogram", {"department", "model"}, None),
    "llama_gpu_utilization_percent": ("gauge", {"gpu_id"}, None),
    "llama_phi_detections": ("counter", {"department", "phi_type"}, None),
    "llm_requests": ("counter", {"model", "endpoint", "status"}, None),
    "llm_request_latency_seconds": ("histogram", {"model", "endpoint"}, _LATENCY),
    "llm_gpu_memory_bytes": ("gauge", {"gpu_id"}, None),
    "llm_active_requests": ("gauge", {"model"}, None),
    "nvidia_smi_utilization_gpu": ("gauge", {"gpu_id"}, None),
    "nvidia_smi_memory_used_bytes": ("gauge", {"gpu_id"}, None),
    "llm_inference_duration_seconds": ("histogram", {"model"}, None),
    "vllm:num_requests_running": ("gauge", {"model_name"}, None),
    "vllm:num_requests_waiting": ("gauge", {"model_name"}, None),
    "vllm:gpu_cache_usage_perc": ("gauge", {"model_name"}, None),
    "vllm:time_to_first_token_seconds": ("histogram", {"model_name"}, _TTFT),
    "vllm:time_per_output_token_seconds": ("histogram", {"model_name"}, _TOKEN),
    "vllm:e2e_request_latency_seconds": ("histogram", {"model_name"}, _E2E),
}


# As vLLM tells them; another process of the same engine has series of its own, and what it is called is not passed on.
_TOLD = """# HELP vllm:kv_cache_usage_perc KV-cache usage.
vllm:kv_cache_usage_perc{engine="0",model_name="secret"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="secret"} 0.5
vllm:num_requests_running{engine="0",model_name="secret"} 3.0
vllm:num_requests_running{engine="1",model_name="secret"} 1.0
vllm:num_requests_waiting{engine="0",model_name="secret"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="secret",reason="capacity"} 9.0
vllm:num_preemptions_total{engine="0",model_name="secret"} 4.0
vllm:prefix_cache_queries_total{engine="0",model_name="secret"} 1.048576e+06
vllm:prefix_cache_hits_total{engine="0",model_name="secret"} 7.0
vllm:prompt_tokens_total{engine="0",model_name="secret"} 8.0
vllm:generation_tokens_total{engine="0",model_name="secret"} 9.0
vllm:corrupted_requests_total{engine="0",model_name="secret"} 1.0
"""
_OTHER = "vllm:kv_cache_usage_perc 0.75\nvllm:num_requests_running 5.0\n"


def _vllm_that_says(text: str) -> type[BaseHTTPRequestHandler]:
    class Vllm(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

        def address_string(self) -> str:
            return "unix"

        def do_GET(self) -> None:
            content = text.encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Vllm


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[Path]:
    """Two instances of a version: the first one, and `-2`."""
    with ExitStack() as stack:
        for name, text in (("vllm.sock", _TOLD), ("vllm-2.sock", _OTHER)):
            server = stack.enter_context(ThreadingUnixStreamServer(str(tmp_path / name), _vllm_that_says(text)))
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield tmp_path / "vllm.sock"


def test_every_name_is_there(rig: Rig, vllm: Path) -> None:
    rig.chat("SSN 123-45-6789", stream=True)
    rig.promote(socket=vllm)
    gpus = Metrics(read_gpus=lambda: (Gpu(gpu_id="0", utilization_percent=50, memory_bytes=1, memory_total_bytes=2),))

    text = generate_latest(rig.metrics.registry).decode()
    found = {one.name: one for one in text_string_to_metric_families(text)}
    on_gpus = {one.name: one for one in text_string_to_metric_families(generate_latest(gpus.registry).decode())}

    for name, (kind, labels, buckets) in NAMES.items():
        family = on_gpus[name] if "gpu_id" in labels else found[name]
        own = {"le"} if kind == "histogram" else set()
        assert family.type == kind, name
        assert any(labels <= set(one.labels) <= labels | own for one in family.samples), name
        assert all(set(one.labels) <= labels | own for one in family.samples), name
        if buckets is not None:
            edges = {one.labels["le"] for one in family.samples if one.name.endswith("_bucket")}
            assert sorted(map(float, edges)) == [*buckets, float("inf")], name
    use = found["vllm:gpu_cache_usage_perc"].samples
    assert [(one.labels, one.value) for one in use] == [({"model_name": rig.route.name}, 0.75)]  # where it is fullest


def test_what_vllm_alone_knows_is_told_of_each_instance(rig: Rig, vllm: Path) -> None:
    rig.promote(socket=vllm)

    text = generate_latest(rig.metrics.registry).decode()

    found = {one.name: one for one in text_string_to_metric_families(text)}
    told = {
        (name, one.labels["engine"]): one.value
        for name in (figure.told for figure in OWN)
        for one in found[name].samples
        if not one.name.endswith("_created")
    }
    assert told == {
        ("sealift_engine_requests_running", "1"): 4,
        ("sealift_engine_requests_running", "2"): 5,
        ("sealift_engine_requests_waiting", "1"): 2,
        ("vllm:num_preemptions", "1"): 4,
        ("vllm:prefix_cache_queries", "1"): 2**20,
        ("vllm:prefix_cache_hits", "1"): 7,
        ("vllm:prompt_tokens", "1"): 8,
        ("vllm:generation_tokens", "1"): 9,
    }
    labels = [one.labels["model_name"] for figure in OWN for one in found[figure.told].samples]
    assert set(labels) == {rig.route.name}
    assert "secret" not in text
    assert "corrupted" not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vllm:kv_cache_usage_perc 7",
        "vllm:kv_cache_usage_perc{} e.e",
        "vllm:kv_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc -1",
        "x vllm:kv_cache_usage_perc 0.5",
        "x 1\n" * 9,
    ],
)
def test_what_an_engine_says_wrongly_is_no_figure(text: str) -> None:
    assert USE.read(text) is None


@pytest.mark.parametrize("name", ["vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"])
def test_the_use_of_the_cache_is_read_by_the_name_of_each_release_of_vllm(name: str) -> None:
    assert USE.read(f'{name}{{engine="0",model_name="secret"}} 0.25\n') == 0.25


def test_an_engine_that_says_nothing_costs_no_scrape(tmp_path: Path) -> None:
    with gateway(tmp_path) as rig:
        rig.engine.tells_figures = False
        families = list(EngineFigures(rig.routes).collect())
        assert [one.samples for one in families] == [[]] * (1 + len(OWN))
