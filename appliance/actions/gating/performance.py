"""The gate of speed: waits and tokens per second under load, against production's own recorded figures.

The baseline is what production showed in this gate on this box under this policy; the first version has none and makes
one. Noise only slows, so a level that is too slow is measured again before it counts, and the best round stands.
"""

from collections.abc import Mapping
from typing import Any

from appliance.actions.gating.bench import Bench, Verdict
from appliance.promote.policy import PerformancePolicy
from appliance.serve.loadtest import LoadLevel, LoadTest

_GATE = "performance"
_WAITS = (("first token", "first_token_p50_millis"), ("answer", "latency_p50_millis"))


def performance(bench: Bench) -> Verdict:
    """Measure each level, judge it, and measure again what was too slow."""
    policy = bench.policy.performance
    known = _baseline(bench)
    test = LoadTest(bench.engine, clock=bench.clock, answer_tokens=policy.answer_tokens)
    levels, failures = [], []
    for number, callers in enumerate(policy.callers):
        bench.progress(_GATE, number, len(policy.callers))
        level, bad = _best(test, callers, known.get(callers), policy)
        theirs = known.get(callers)
        levels.append({**level.to_json(), "change": _change(level, theirs), "production": _shown(theirs)})
        failures += bad
    bench.progress(_GATE, len(policy.callers), len(policy.callers))
    figures: dict[str, Any] = {
        "levels": levels,
        "answer_tokens": policy.answer_tokens,
        "baseline": bench.production.model_digest if known and bench.production is not None else None,
    }
    return Verdict(gate=_GATE, passed=not failures, figures=figures, why="; ".join(failures))


def _best(
    test: LoadTest, callers: int, baseline: Mapping[str, Any] | None, policy: PerformancePolicy
) -> tuple[LoadLevel, list[str]]:
    best, failures = None, [""]
    for _ in range(policy.rounds):
        level = test.measure(callers)
        bad = _failures(level, baseline, policy)
        if best is None or len(bad) < len(failures) or (bad and level.p50 < best.p50):
            best, failures = level, bad
        if not bad:
            break
    assert best is not None  # noqa: S101 - for the type checker; a policy has at least one round
    return best, failures


def _failures(level: LoadLevel, baseline: Mapping[str, Any] | None, policy: PerformancePolicy) -> list[str]:
    mine = level.to_json()
    at = f"at {level.callers} callers"
    found = [f"{level.failed} of {level.requests} requests failed {at}"] if level.failed else []
    if level.first_p50 > policy.first_token_millis:
        found.append(f"the first token takes {level.first_p50} ms {at}, {policy.first_token_millis} are allowed")
    if baseline is None or level.p50 <= policy.unnoticed_millis:
        return found
    for name, key in _WAITS:
        theirs = int(baseline[key])
        if mine[key] > theirs * (1000 + policy.slowdown_millis) // 1000:
            found.append(f"the wait for the {name} is {mine[key]} ms {at}, production's is {theirs}")
    theirs = int(baseline["tokens_per_second_millis"])
    if level.tokens_per_second_millis < theirs * (1000 - policy.throughput_loss_millis) // 1000:
        speed = f"{level.tokens_per_second_millis / 1000:.1f} tokens per second {at}"
        found.append(f"it makes {speed}, production {theirs / 1000:.1f}")
    return found


def _change(level: LoadLevel, baseline: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Return by how much each figure differs from the baseline's, in thousandths of that; None without one."""
    if baseline is None:
        return None
    mine = level.to_json()
    keys = ("first_token_p50_millis", "latency_p50_millis", "latency_p99_millis", "tokens_per_second_millis")
    return {key: (mine[key] - int(baseline[key])) * 1000 // max(1, int(baseline[key])) for key in keys}


def _shown(baseline: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Return production's own figures, for a plot beside this version's."""
    keys = ("first_token_p50_millis", "tokens_per_second_millis")
    return None if baseline is None else {key: int(baseline[key]) for key in keys}


def _baseline(bench: Bench) -> dict[int, Mapping[str, Any]]:
    found = {} if bench.production is None else bench.production.gates.get(_GATE, {})
    if found.get("answer_tokens") != bench.policy.performance.answer_tokens:
        return {}
    return {int(level["callers"]): level for level in found.get("levels", ()) if isinstance(level, Mapping)}
