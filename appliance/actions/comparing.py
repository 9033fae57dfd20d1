"""Two versions side by side, from what their gates measured on this box: quality, speed by callers, memory.

Nothing is started: each version was validated here, and its newest evidence is read by digest. Sets are compared where
both did the same one; speed where both were asked in the same way. Which quantization serves best under load is
measured, not looked up: a smaller file is not always the faster one. What got worse is said in words: each figure in
which the second is behind the first, and of right answers whether that is more than chance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from appliance.actions import known
from appliance.actions.gating.bench import Known
from appliance.actions.gating.tasks import if_judged_alike
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import GateFailedError
from appliance.promote import evaluation, levels
from appliance.promote.policy import TaskPolicy
from appliance.promote.policybook import in_force
from appliance.registry import catalog
from appliance.registry.catalog import Version

_SPEED: Final = "performance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One version with what is known of it; `refused` names its level where nobody accepted that for production."""

    version: Version
    known: Known
    refused: str

    @property
    def label(self) -> str:
        """Name and version for a picture."""
        return f"{self.version.name} {self.version.version}"

    @property
    def total_bytes(self) -> int | None:
        """What it takes of memory at most; None where its gates did not tell."""
        found = self.known.gates.get("fit", {}).get("total_bytes")
        return found if type(found) is int else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "quantization": self.known.quantization,
            "evidence_digest": self.known.evidence_digest,
            "total_bytes": self.total_bytes,
            "not_for_production": self.refused or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both sides; each set and level holds the figures of the first, the second, and the difference."""

    first: Side
    second: Side
    sets: tuple[Mapping[str, Any], ...]
    speeds: tuple[Mapping[str, Any], ...]

    @property
    def worse(self) -> tuple[str, ...]:
        """Where the second is behind the first, a line each; empty where it is behind in nothing that both have."""
        return (*_worse_answers(self.sets), *_slower(self.speeds), *_larger(self.first, self.second))

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "sets": [dict(one) for one in self.sets],
            "speeds": [dict(one) for one in self.speeds],
            "worse": list(self.worse),
        }


def compare(config: Config, state: Engine, ledger: Ledger, first: str, second: str) -> Compared:
    """Return both versions side by side.

    Raises:
        UnknownVersionError: No such version is registered.
        GateFailedError: One was not evaluated on this box, or its evidence cannot be read.
    """
    sides = tuple(_side(config, state, ledger, which) for which in (first, second))
    rows = _sets(sides[0], sides[1], in_force(ledger).tasks)
    return Compared(first=sides[0], second=sides[1], sets=rows, speeds=_speeds(*sides))


def accuracy(side: Mapping[str, Any]) -> str:
    """Return the share of right answers of one side of a set with its interval, for people."""
    if side["accuracy_millis"] is None:
        return "not counted"
    low, high = side["low_millis"] / 10, side["high_millis"] / 10
    return f"{side['accuracy_millis'] / 10:.1f} % ({low:.1f} to {high:.1f})"


def change(one: Mapping[str, Any]) -> str:
    """Return by how much the second differs in a set, item by item, for people; nothing where they are not paired."""
    found = one["second_less_first"]
    if found is None:
        return ""
    low, high = found["low_millis"] / 10, found["high_millis"] / 10
    return f"{found['difference_millis'] / 10:+.1f} points ({low:+.1f} to {high:+.1f})"


def _side(config: Config, state: Engine, ledger: Ledger, which: str) -> Side:
    with state.connect() as session:
        version = catalog.version(session, which)
        found = known.of(config, version, catalog.judgements(session, version.model_digest))
    if found is None:
        raise GateFailedError(
            what=f"{version.name} {version.version} cannot be compared",
            why="it was not evaluated on this box, or its evidence cannot be read",
            fix=f"run `sealift validate {version.model_digest[:12]}`",
        )
    level = levels.level_of(found.quantization)
    word = levels.acceptance(ledger, version.model_digest)
    accepted = word is not None and word.get("level") == level
    return Side(version=version, known=found, refused=level if level is not None and not accepted else "")


def _sets(first: Side, second: Side, policy: TaskPolicy) -> tuple[Mapping[str, Any], ...]:
    theirs, rows = second.known.sets(), []
    for digest, mine in first.known.sets().items():
        other = theirs.get(digest)
        if other is None:
            continue
        is_pairable = if_judged_alike(other, mine) is not None
        pairs = evaluation.paired(str(other["right"]), str(mine["right"])) if is_pairable else []
        apart = evaluation.difference_of(pairs, seed=digest, policy=policy).to_json() if pairs else None
        rows.append(
            {
                "name": mine["name"],
                "sha256": digest,
                "first": _accuracy(mine),
                "second": _accuracy(other),
                "second_less_first": apart,
            }
        )
    return tuple(rows)


def _accuracy(found: Mapping[str, Any]) -> dict[str, Any]:
    perplexity = found.get("perplexity")
    return {
        **{name: found.get(name) for name in ("accuracy_millis", "low_millis", "high_millis")},
        "word_perplexity_millis": None if perplexity is None else perplexity["word_perplexity_millis"],
    }


def _speeds(first: Side, second: Side) -> tuple[Mapping[str, Any], ...]:
    mine, theirs = (side.known.gates.get(_SPEED, {}) for side in (first, second))
    if mine.get("answer_tokens") != theirs.get("answer_tokens"):
        return ()
    others = {level["callers"]: level for level in theirs.get("levels", ())}
    names = ("first_token_p50_millis", "latency_p50_millis", "tokens_per_second_millis")
    return tuple(
        {
            "callers": level["callers"],
            "first": {name: level[name] for name in names},
            "second": {name: others[level["callers"]][name] for name in names},
        }
        for level in mine.get("levels", ())
        if level["callers"] in others
    )


def _worse_answers(sets: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    for one in sets:
        apart = one["second_less_first"]
        if apart is not None and apart["difference_millis"] < 0:
            low, high = apart["low_millis"] / 10, apart["high_millis"] / 10
            sure = "more than chance" if high < 0 else "may be chance"
            points = -apart["difference_millis"] / 10
            yield f"{one['name']}: {points:.1f} points less ({low:+.1f} to {high:+.1f}), {sure}"
        before, after = (one[side]["word_perplexity_millis"] for side in ("first", "second"))
        if before is not None and after is not None and after > before:
            yield f"{one['name']}: perplexity by word {before / 1000:.2f} -> {after / 1000:.2f}"


def _slower(speeds: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    for level in speeds:
        first, second = level["first"], level["second"]
        if second["tokens_per_second_millis"] < first["tokens_per_second_millis"]:
            before, after = (side["tokens_per_second_millis"] / 1000 for side in (first, second))
            yield f"{level['callers']} at once: {before:.1f} -> {after:.1f} tokens/s"
        for name, spoken in (("first_token_p50_millis", "first token"), ("latency_p50_millis", "whole answer")):
            if second[name] > first[name]:
                yield f"{level['callers']} at once: {spoken} {first[name]} -> {second[name]} ms"


def _larger(first: Side, second: Side) -> Iterator[str]:
    before, after = first.total_bytes, second.total_bytes
    if before is not None and after is not None and after > before:
        yield f"memory at most: {before / 2**20:.0f} -> {after / 2**20:.0f} MiB"
