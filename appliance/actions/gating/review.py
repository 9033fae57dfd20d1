"""The gate of human review: what people said of a sample of this version's answers, blinded where there are two.

The answers of the run are kept as a sheet on the box (`actions/reviewing.py`). Where people have judged that very
sheet, their judgement is the verdict. Where nobody has, the version passes only at a site whose environment does not
demand it, and the figures say that nobody looked.
"""

from collections.abc import Sequence
from typing import Any, Final

from appliance.actions.gating.bench import Bench, Judged, Verdict
from appliance.promote.policy import ReviewPolicy

_GATE: Final = "human-review"


def human_review(bench: Bench) -> Verdict:
    """Keep the sheet, and judge what people said of it."""
    policy, sheet = bench.policy.review, bench.reviews.keep(bench)
    judged = tuple(bench.reviews.judged(sheet)) if sheet else ()
    figures: dict[str, Any] = {"sheet": sheet, "reviewers": [one.person for one in judged]}
    if len({one.person for one in judged}) < policy.reviewers:
        demanded = bench.environment in policy.demanded_in
        figures["made"] = False
        why = f"{len(judged)} of {policy.reviewers} people have judged the answers: sealift answers form"
        if sheet and not demanded:
            why = ""
        if not sheet:
            why = "no task of this site has the model write an answer, so nobody can judge one" if demanded else ""
        return Verdict(gate=_GATE, passed=not why, figures=figures, why=why)
    figures |= {"made": True, **_counts(judged)}
    failures = _failures(judged, policy)
    return Verdict(gate=_GATE, passed=not failures, figures=figures, why="; ".join(failures))


def _counts(judged: Sequence[Judged]) -> dict[str, int]:
    names = ("better", "worse", "same", "good", "bad", "points", "of_points")
    return {name: sum(getattr(one, name) for one in judged) for name in names}


def _failures(judged: Sequence[Judged], policy: ReviewPolicy) -> list[str]:
    told = _counts(judged)
    found = []
    pairs = told["better"] + told["worse"] + told["same"]
    if pairs and (told["worse"] - told["better"]) * 1000 // pairs > policy.loss_millis:
        found.append(
            f"of {pairs} pairs people preferred the other side {told['worse']} times, this one {told['better']}"
        )
    for good, of, words in (
        (told["good"], told["good"] + told["bad"], "answers were judged good"),
        (told["points"], told["of_points"], "points were given"),
    ):
        if of and good * 1000 // of < policy.good_millis:
            found.append(f"{good} of {of} {words}, {policy.good_millis} of 1000 are demanded")
    return found
