"""Gates of the engine as a process: load, smoke, and whether it comes back after it was killed."""

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.actions.gating.bench import TEST_STAGE, Bench, Verdict, delta_of, millis_since, user
from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.client import EngineClient, EngineStatus
from appliance.serve.readiness import wait_ready

_LONG_TOKENS = 256


def load(bench: Bench) -> Verdict:
    """Start the test engine and let it say what it loaded, by digests it computed itself."""
    started = bench.clock.monotonic()
    bench.supervisor.start(bench.unit)
    status = _ready(bench, bench.engine, min(bench.start_seconds, bench.policy.load.most_seconds))
    figures: dict[str, Any] = {"load_millis": millis_since(bench.clock, started), "n_ctx": status.n_ctx}
    curve = bench.engine.step_curve()
    if curve is not None:
        figures["step_curve"] = curve.to_json()
    if status.weights_digest != bench.descriptor.weights_digest:
        why = f"it loaded weights {status.weights_digest[:12]}, not {bench.descriptor.weights_digest[:12]}"
        return Verdict(gate="load", passed=False, figures=figures, why=why)
    return _in_time("load", figures, "load_millis", bench.policy.load.most_seconds)


def smoke(bench: Bench) -> Verdict:
    """Ask one question, whole and streamed; both answers must hold text and end properly."""
    messages, most = user(bench.policy.smoke.prompt), bench.policy.smoke.max_tokens
    started = bench.clock.monotonic()
    whole = bench.say(messages, max_tokens=most)
    whole_millis = millis_since(bench.clock, started)
    started = bench.clock.monotonic()
    first_millis, streamed = -1, ""
    body = {"messages": messages, "max_tokens": most, "temperature": 0, "seed": 0}
    for event in bench.engine.chat_stream(body):
        streamed += delta_of(event)
        if streamed and first_millis < 0:
            first_millis = millis_since(bench.clock, started)
    figures = {"answer_millis": whole_millis, "first_text_millis": first_millis, "same_text": whole == streamed}
    if not whole.strip() or not streamed.strip():
        return Verdict(gate="smoke", passed=False, figures=figures, why="an answer was empty")
    bench.notes.smoke = whole
    return Verdict(gate="smoke", passed=True, figures=figures)


def restart(bench: Bench) -> Verdict:
    """Kill the engine in the middle of an answer: its supervisor must bring it back, and it must answer as before."""
    began = _begin_an_answer(bench)
    killed = bench.clock.monotonic()
    bench.supervisor.kill(bench.unit)
    broke = _broke_off(began)
    most = min(bench.start_seconds, bench.policy.restart.most_seconds)
    with EngineClient(bench.engine.path) as anew:  # no connection to what is gone
        status = _ready(bench, anew, most)
    figures: dict[str, Any] = {"restart_millis": millis_since(bench.clock, killed), "cut_off_an_answer": broke}
    if status.weights_digest != bench.descriptor.weights_digest:
        return Verdict(gate="restart", passed=False, figures=figures, why="it came back with other weights")
    said = bench.say(user(bench.policy.smoke.prompt), max_tokens=bench.policy.smoke.max_tokens)
    figures["same_answer"] = said == bench.notes.smoke if bench.notes.smoke else None
    if not said.strip():
        return Verdict(gate="restart", passed=False, figures=figures, why="after the restart an answer was empty")
    return _in_time("restart", figures, "restart_millis", bench.policy.restart.most_seconds)


def _begin_an_answer(bench: Bench) -> Iterator[Mapping[str, Any]]:
    body = {"messages": user("Count from one to a thousand in words."), "max_tokens": _LONG_TOKENS, "temperature": 0}
    stream = bench.engine.chat_stream(body)
    for event in stream:
        if delta_of(event):
            break
    return stream


def _broke_off(stream: Iterator[Mapping[str, Any]]) -> bool:
    """Tell whether the rest of a stream is an error; else the answer had ended before it could be cut off."""
    try:
        return any("error" in event for event in stream)
    except (EngineProtocolError, EngineUnavailableError):
        return True


def _ready(bench: Bench, engine: EngineClient, seconds: float) -> EngineStatus:
    return wait_ready(
        engine,
        model_digest=bench.descriptor.model_digest,
        stage=TEST_STAGE,
        seconds=seconds,
        clock=bench.clock,
        sleep=bench.sleep,
    )


def _in_time(gate: str, figures: dict[str, Any], name: str, most_seconds: int) -> Verdict:
    if figures[name] > most_seconds * 1000:
        why = f"it took {figures[name] // 1000} seconds, {most_seconds} are allowed"
        return Verdict(gate=gate, passed=False, figures=figures, why=why)
    return Verdict(gate=gate, passed=True, figures=figures)
