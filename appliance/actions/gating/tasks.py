"""The gate of tasks: the release's sets and the site's own, against production and against full precision.

Full precision is another version of this model in this store whose weights were not quantized and that was validated
under this policy (a parent that a medium carries for tests); else the reference outputs that the medium brings; else
nothing, and then the figures say in whose words it was not made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.actions.gating.bench import Bench, Known, SimilarityJudge, Verdict, user
from appliance.promote import evaluation
from appliance.promote.comparison import Recorder, Said, compare, parent_right
from appliance.promote.evaluation import Difference, Result
from appliance.promote.sheet import Answer
from appliance.promote.taskset import PERPLEXITY, SCORED, SIMILARITY, TaskSet
from appliance.registry import reference as references
from appliance.registry.reference import Declared, Reference

_GATE: Final = "task-evaluation"
_UNSAID: Final = "the release says nothing of reference outputs"


@dataclass(slots=True)
class _Pooled:
    """Pairs of all sets, by what they are compared with."""

    pairs: dict[str, list[int]] = field(default_factory=dict)

    def add(self, side: str, pairs: Sequence[int]) -> None:
        self.pairs.setdefault(side, []).extend(pairs)


def task_evaluation(bench: Bench) -> Verdict:
    """Do every task set, and compare; see the module."""
    files = [(bench.stored.read(path), path) for path in bench.task_paths]
    files += [(content, "") for content in bench.site_sets]
    if not files:
        return Verdict(gate=_GATE, passed=False, why="neither the release nor the site has tasks for this version")
    declared = references.declared(bench.stored, bench.descriptor)
    pooled, results, sets = _Pooled(), [], []
    failures: list[str] = []
    for number, (content, path) in enumerate(files):
        bench.progress(_GATE, number, len(files))
        tasks = TaskSet.from_bytes(content)
        said = declared.get(path, Declared(not_made="" if path else "the set was imported at this site"))
        result, figures, bad = _one_set(bench, tasks, said, pooled)
        results.append(result)
        sets.append({**figures, "origin": "release" if path else "site"})
        failures += [f"{result.name}: {failure}" for failure in (*result.failures, *bad)]
    bench.progress(_GATE, len(files), len(files))
    against = {side: _difference(bench, side, pairs) for side, pairs in pooled.pairs.items() if pairs}
    for side, difference in against.items():
        if difference.is_shown is False:
            reached = f"the interval reaches {difference.interval.low}, the margin is {-difference.margin}"
            failures.append(f"it is not shown to be as good as {side}: {reached}")
    items = sum(len(evaluation.counted(result.right)) for result in results)
    rights = sum(result.right.count("1") for result in results)
    figures = {
        "items": items,
        "accuracy_millis": rights * 1000 // items if items else None,
        **_told_similarity(sets),
        "against": {side: difference.to_json() for side, difference in against.items()},
        "sets": sets,
    }
    return Verdict(gate=_GATE, passed=not failures, figures=figures, why="; ".join(failures))


def _told_similarity(sets: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return one line for whoever approves: by what similarity was judged; nothing where it was not asked for."""
    found = [one["similarity"] for one in sets if "similarity" in one]
    named = sorted({f"embeddings of {one['name']} {one['model_digest'][:12]}" for one in found if one["by"] == "model"})
    if any(one["by"] == "words" for one in found):
        named.append("words and their parts, by no model")
    return {"similarity": "; ".join(named)} if named else {}


def _one_set(bench: Bench, tasks: TaskSet, said: Declared, pooled: _Pooled) -> tuple[Result, dict[str, Any], list[str]]:
    recorder = Recorder(examinee=_EngineExaminee(bench))
    judge = bench.similarity if any(item.least_embedding_millis is not None for item in tasks.items) else None
    right = evaluation.examine(tasks, recorder, alike=None if judge is None else judge.millis)
    alike = _judged_by(tasks, judge)
    production = _of(bench.production, tasks)
    theirs = _right_of(if_judged_alike(production, alike))
    result = evaluation.judge(tasks, right, bench.policy.tasks, production=theirs)
    pooled.add("production", evaluation.paired(right, theirs))
    compared, parent, parent_nats = _with_parent(bench, tasks, recorder, right, said, alike)
    pooled.add("full precision", evaluation.paired(right, parent))
    measured, failures = _perplexity(bench, tasks, recorder.said, _perplexity_of(production), parent_nats)
    for item, one in zip(tasks.items, recorder.said, strict=True):
        if item.kind not in SCORED:
            bench.notes.answered.append(
                Answer(set_sha256=tasks.sha256, item=item.id, prompt=item.prompt, text=one.text, criteria=item.criteria)
            )
    return result, {**result.to_json(), "perplexity": measured, "reference": compared, **alike}, failures


def _with_parent(
    bench: Bench, tasks: TaskSet, recorder: Recorder, right: str, declared: Declared, alike: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None, Mapping[str, Any] | None]:
    """Return the figures for people, what full precision got on each item, and its perplexity."""
    full = if_judged_alike(_of(bench.full_precision, tasks), alike)
    if bench.full_precision is not None and full is not None:
        theirs = _right_of(full)
        same = sum(one == other for one, other in zip(right, str(theirs), strict=False))
        figures = {
            "by": "version",
            "model_digest": bench.full_precision.model_digest,
            "quantization": bench.full_precision.quantization,
            "items": len(tasks.items),
            "agreement_millis": same * 1000 // len(tasks.items),
        }
        return figures, theirs, _perplexity_of(full)
    if not declared.path:
        return {"not_made": declared.not_made or _UNSAID}, None, None
    reference = Reference.from_bytes(bench.stored.read(declared.path, max_bytes=references.MAX_BYTES))
    found = compare(tasks, recorder.said, reference)
    if found is None:
        return {"not_made": "the reference is of other tasks"}, None, None
    return {"by": "reference", **found.to_json()}, parent_right(tasks, reference), None


def _perplexity(
    bench: Bench,
    tasks: TaskSet,
    said: Sequence[Said],
    production: Mapping[str, Any] | None,
    parent: Mapping[str, Any] | None,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the set's perplexity by word, what it rose by against others, and what is too much of it."""
    texts = [(item, one) for item, one in zip(tasks.items, said, strict=True) if item.kind == PERPLEXITY]
    if not texts:
        return None, []
    words = sum(len(item.answer.split()) for item, _ in texts)
    mine = evaluation.word_perplexity_millis(sum(one.nats[0] for _, one in texts), words)
    figures: dict[str, Any] = {"texts": len(texts), "words": words, "word_perplexity_millis": mine}
    failures = []
    for side, other in (("production", production), ("full precision", parent)):
        theirs = None if other is None else other.get("word_perplexity_millis")
        if isinstance(theirs, int) and theirs > 0:
            rise = (mine - theirs) * 1000 // theirs
            figures[f"rise_against_{side.replace(' ', '_')}_millis"] = rise
            if rise > bench.policy.tasks.perplexity_rise_millis:
                failures.append(f"its perplexity is {rise} of 1000 above that of {side}")
    return figures, failures


def _difference(bench: Bench, side: str, pairs: Sequence[int]) -> Difference:
    return evaluation.difference_of(pairs, seed=side, policy=bench.policy.tasks)


def _of(known: Known | None, tasks: TaskSet) -> Mapping[str, Any] | None:
    return None if known is None else known.sets().get(tasks.sha256)


def _judged_by(tasks: TaskSet, judge: SimilarityJudge | None) -> dict[str, Any]:
    """Return the figures that say by what similarity was judged; nothing where no item asks for it."""
    if not any(item.kind == SIMILARITY for item in tasks.items):
        return {}
    if judge is None:
        return {"similarity": {"by": "words"}}
    return {"similarity": {"by": "model", "model_digest": judge.model_digest, "name": judge.name}}


def if_judged_alike(theirs: Mapping[str, Any] | None, alike: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return another version's figures of a set where similarity was judged by the same; else nothing can be paired.

    Args:
        theirs: Its figures, if it has any.
        alike: This version's figures of the set; those of before say nothing of similarity, which was of words then.
    """
    if theirs is None:
        return None
    before, mine = (one.get("similarity", {"by": "words"}) for one in (theirs, alike))
    is_same = (before.get("by"), before.get("model_digest")) == (mine.get("by"), mine.get("model_digest"))
    return theirs if is_same else None


def _right_of(figures: Mapping[str, Any] | None) -> str | None:
    return None if figures is None else str(figures.get("right", ""))


def _perplexity_of(figures: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    found = None if figures is None else figures.get("perplexity")
    return found if isinstance(found, Mapping) else None


class _EngineExaminee:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        scores = self._bench.engine.score(prompt, continuations)
        return [score.log_likelihood / len(text) for score, text in zip(scores, continuations, strict=True)]

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        return self._bench.say(user(prompt), max_tokens=max_tokens)
