"""/metrics has every metric that requirement K names, with its labels and buckets, once something was answered."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from appliance.gateway.enginefigures import EngineFigures, cache_use
from appliance.gateway.gpus import Gpu
from appliance.gateway.metrics import Metrics
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
    "vllm:num_requests_waiting": ("gauge", set(), None),
    "vllm:gpu_cache_usage_perc": ("gauge", {"model_name"}, None),
    "vllm:time_to_first_token_seconds": ("histogram", {"model_name"}, _TTFT),
    "vllm:time_per_output_token_seconds": ("histogram", {"model_name"}, _TOKEN),
    "vllm:e2e_request_latency_seconds": ("histogram", {"model_name"}, _E2E),
}


class _Vllm(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        content = b'# HELP x\nvllm:kv_cache_usage_perc{engine="0",model_name="secret"} 0.25\n'
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def vllm(tmp_path: Path) -> Iterator[Path]:
    with ThreadingUnixStreamServer(str(tmp_path / "vllm.sock"), _Vllm) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield tmp_path / "vllm.sock"
        server.shutdown()
        thread.join()


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
    assert [(one.labels, one.value) for one in use] == [({"model_name": rig.route.name}, 0.25)]


@pytest.mark.parametrize("text", ["", "vllm:kv_cache_usage_perc 7", "vllm:kv_cache_usage_perc{} e.e", "x 1\n" * 9])
def test_what_an_engine_says_wrongly_is_no_figure(text: str) -> None:
    assert cache_use(text) is None


def test_an_engine_that_says_nothing_costs_no_scrape(tmp_path: Path) -> None:
    with gateway(tmp_path) as rig:
        assert [one.samples for one in EngineFigures(rig.routes).collect()] == [[]]
