"""The gates a version passes before people are asked, each a function from the same bench to one verdict.

Promises: whatever goes wrong in a gate is a verdict, not a crash, so a version can fail but not slip through.
"""

from collections.abc import Callable, Mapping
from typing import Final

from appliance.actions.gating.artefact import fit, integrity, level
from appliance.actions.gating.bench import TEST_STAGE, Bench, Progress, Verdict
from appliance.actions.gating.failing import failures
from appliance.actions.gating.injection import injection
from appliance.actions.gating.performance import performance
from appliance.actions.gating.privacy import privacy
from appliance.actions.gating.review import human_review
from appliance.actions.gating.starting import load, restart, smoke
from appliance.actions.gating.tasks import task_evaluation
from appliance.actions.gating.templating import template
from media.errors import SealiftError

__all__ = ["NEEDS", "TEST_STAGE", "Bench", "Progress", "Verdict", "run"]

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "integrity": (),
    "level": (),
    "fit": (),
    "load": (),
    **dict.fromkeys(("smoke", "template", "task-evaluation", "performance", "failures"), ("load",)),
    **dict.fromkeys(("privacy", "injection"), ("load",)),
    "restart": ("load", "smoke"),
    "human-review": ("load", "task-evaluation"),
}
"""What runs before a gate that is asked for alone."""

_GATES: Final[Mapping[str, Callable[[Bench], Verdict]]] = {
    "integrity": integrity,
    "level": level,
    "fit": fit,
    "load": load,
    "smoke": smoke,
    "template": template,
    "task-evaluation": task_evaluation,
    "performance": performance,
    "failures": failures,
    "restart": restart,
    "privacy": privacy,
    "injection": injection,
    "human-review": human_review,
}


def run(gate: str, bench: Bench) -> Verdict:
    """Run one gate by its name."""
    bench.progress(gate, 0, 1)
    try:
        verdict = _GATES[gate](bench)
    except SealiftError as error:
        why = f"{error.what}{f': {error.why}' if error.why else ''}"
        verdict = Verdict(gate=gate, passed=False, figures={"error": error.code}, why=why)
    bench.progress(gate, 1, 1)
    return verdict
