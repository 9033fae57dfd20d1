"""Which quantization level serves many callers fastest here, as a site finds out: by the steps calibrated at load.

`sealift models variants` compares levels by the same curves, which validation keeps (`appliance.actions.levelspeeds`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.serve.client import EngineClient
from appliance.serve.curve import Plan
from bench import engine_peers
from bench.measuring import say


def picked(levels: Sequence[str], folder: Path, *, answers: int, threads: int) -> tuple[Path, Mapping[str, float]]:
    """Return the weights of the level that gives most, and the tokens a second of each by its curve, the best first.

    Args:
        levels: Of llama.cpp; of one alone nothing is measured.
        folder: Where weights are made.
        answers: How many at once.
        threads: That decode.

    Raises:
        SystemExit: An engine does not start.
    """
    weights = {level: engine_peers.weights(folder, level) for level in levels}
    if len(weights) == 1:
        return weights[levels[0]], {levels[0]: 0.0}
    speeds = {level: _speed(path, answers, threads) for level, path in weights.items()}
    ranked = dict(sorted(speeds.items(), key=lambda one: -one[1]))
    best = next(iter(ranked))
    told = ", ".join(f"{level} {speed:.0f}" for level, speed in ranked.items())
    say(f"tokens a second of {answers} answers at once by calibration: {told}; taken: {best}")
    return weights[best], ranked


def _speed(weights: Path, answers: int, threads: int) -> float:
    with engine_peers.ours(weights, threads=threads) as running, EngineClient(running.socket) as client:
        curve = client.step_curve()
    if curve is None:
        raise SystemExit("error: an engine has no curve of its steps")
    return answers / Plan(curve, most=answers, fills=False).seconds(answers)
