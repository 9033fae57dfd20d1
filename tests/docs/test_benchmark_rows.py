"""Each row of the benchmarks of engines says how many threads decoded: without them its figures are of no machine."""

from pathlib import Path

from bench import engine, vllm
from bench.levels import Picked
from bench.measuring import Row
from bench.vllm_callers import Measured
from bench.vllm_steps import Steps


def _threads(rows: list[Row]) -> set[object]:
    assert rows
    return {row.to_json().get("threads") for row in rows}


def _measured() -> Measured:
    steps = Steps(steps=10.0, tokens=100.0, computed=10.0, within_seconds=1.0)
    return Measured(tokens_per_second=[100.0], first_seconds=[0.5], whole_seconds=[1.0], steps=[steps])


def test_of_the_engine_and_its_peers() -> None:
    speeds = {name: [100.0, 101.0] for name in ("ours", "llama_cpp.server", "llama.cpp C++", "bare loop")}

    for count in (1, 16):
        assert _threads(engine._speed_rows("Q4_1", count, speeds)) == {engine.THREADS}
    assert _threads(engine._first_rows("Q4_1", speeds)) == {engine.THREADS}


def test_of_vllm_behind_the_gateway_and_beside_our_engine() -> None:
    ours, peer = _measured(), _measured()

    for way in ("whole", "streamed"):
        assert _threads(vllm._gateway_rows(ours, peer, way=way)) == {vllm.THREADS}
        assert _threads(vllm._gateway_alone(ours, peer, way=way)) == {vllm.THREADS}
    level = Picked(name="Q8_0", weights=Path("weights.gguf"), calibrated={})
    assert _threads(vllm._engine_rows(level, ours, peer)) == {vllm.ENGINE_THREADS}
