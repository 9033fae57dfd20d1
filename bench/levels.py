"""Which quantization level serves many callers fastest here, as a site finds out: by the steps calibrated at load.

`sealift models variants` compares levels by the same curves, which validation keeps (`appliance.actions.levelspeeds`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.serve.client import EngineClient
from appliance.serve.curve import Plan
from bench import engine_peers
from bench.measuring import say


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The level that gives most, its weights, and the tokens a second of each by its curve; none where it was alone."""

    name: str
    weights: Path
    calibrated: Mapping[str, float]


def picked(levels: Sequence[str], folder: Path, *, answers: int, threads: int) -> Picked:
    """Return the level that gives most by calibration.

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
        return Picked(name=levels[0], weights=weights[levels[0]], calibrated={})
    speeds = {level: _speed(path, answers, threads) for level, path in weights.items()}
    best = max(speeds, key=lambda level: speeds[level])
    told = ", ".join(f"{level} {speed:.0f}" for level, speed in speeds.items())
    say(f"tokens a second of {answers} answers at once by calibration: {told}; taken: {best}")
    return Picked(name=best, weights=weights[best], calibrated=speeds)


def _speed(weights: Path, answers: int, threads: int) -> float:
    with engine_peers.ours(weights, threads=threads) as running, EngineClient(running.socket) as client:
        curve = client.step_curve()
    if curve is None:
        raise SystemExit("error: an engine has no curve of its steps")
    return answers / Plan(curve, most=answers, fills=False).seconds(answers)
