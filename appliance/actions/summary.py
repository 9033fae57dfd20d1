"""One page for who approves: what changes, for whom, what got worse, and how to undo it.

Promises: it is made from what the gates recorded and the registry holds, nothing is typed for it; a figure is called
worse only where its name says which way is better; where there is nothing to compare with, it says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.registry.descriptor import FIELDS

Gates = Iterable[tuple[str, bool, Mapping[str, Any]]]

_HIGHER_IS_BETTER: Final = ("accuracy_millis", "tokens_per_second", "requests_per_second", "agreement_millis")
_LOWER_IS_BETTER: Final = ("load_millis", "answer_millis", "first_text_millis", "perplexity_millis")
_WORDS: Final = {
    "accuracy_millis": "right answers, in thousandths",
    "agreement_millis": "agreement with full precision, in thousandths",
    "load_millis": "milliseconds to load",
    "answer_millis": "milliseconds for a whole answer",
    "first_text_millis": "milliseconds to the first text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure of both versions."""

    gate: str
    name: str
    before: int
    after: int
    is_worse: bool

    @property
    def text(self) -> str:
        """What is shown."""
        return f"{self.gate}, {_WORDS.get(self.name, self.name.replace('_', ' '))}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a person reads before approving; `alias` says so where a name of the site's own is the model's."""

    changes: tuple[tuple[str, str, str], ...]
    departments: tuple[str, ...]
    figures: tuple[Figure, ...]
    failed: tuple[str, ...]
    has_baseline: bool
    undo: str
    alias: str = ""

    @property
    def worse(self) -> tuple[Figure, ...]:
        """The figures that got worse."""
        return tuple(one for one in self.figures if one.is_worse)


def summarise(
    *,
    after: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    gates: Gates,
    gates_before: Gates,
    departments: Iterable[str],
    previous: str,
    line: str = "",
    alias: str = "",
) -> Summary:
    """Return the page's content.

    Args:
        after: The descriptor that would serve.
        before: The descriptor that serves, if anything does.
        gates: Newest results of the one, as name, verdict, figures.
        gates_before: Newest results of the other.
        departments: Whose keys are in force.
        previous: Name and version of what serves; empty when nothing does.
        line: The name of the model whose line goes back or stops, where that must be said.
        alias: What changes for callers where a name of the site's own is the model's; empty where none is.
    """
    newest, by_name = tuple(gates), f" --line {line}" if line else ""
    return Summary(
        changes=changes(before, after),
        departments=tuple(sorted(set(departments))),
        figures=tuple(_figures(newest, gates_before)),
        failed=tuple(name for name, passed, _ in newest if not passed),
        has_baseline=before is not None,
        undo=(
            f"One person goes back to {previous} at any hour, with a reason: the page's button, or"
            f" `sealift rollback{by_name}`."
            if previous
            else f"Nothing serves {'in its place' if line else 'now'}, so there is nothing to go back to;"
            f" one person can stop it: `sealift stop{by_name}`."
        ),
        alias=alias,
    )


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return what differs between two descriptors, as name, before, after; one line that says so when nothing does."""
    old = before or {}
    found = [
        (what, _short(old.get(what)), _short(after.get(what))) for what in FIELDS if old.get(what) != after.get(what)
    ]
    return tuple(found) or (("nothing", "the same", "the same"),)


def _figures(gates: Gates, gates_before: Gates) -> Iterable[Figure]:
    known = {name: figures for name, _, figures in gates_before}
    for gate, _, figures in gates:
        for name, after in figures.items():
            before = known.get(gate, {}).get(name)
            # A truth is no figure, and -1 stands for one that was not taken.
            if type(before) is not int or type(after) is not int or min(before, after) < 0:
                continue
            if name in _HIGHER_IS_BETTER or name in _LOWER_IS_BETTER:
                is_worse = after < before if name in _HIGHER_IS_BETTER else after > before
                yield Figure(gate=gate, name=name, before=before, after=after, is_worse=is_worse)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(_short(one) for one in value) or "none"
    if isinstance(value, Mapping):
        path, sha256 = value.get("path"), value.get("sha256")
        if isinstance(path, str) and isinstance(sha256, str):
            return f"{path.rsplit('/', maxsplit=1)[-1]} {sha256[:12]}"
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    text = str(value)
    return text[:12] if len(text) == 64 else text[:80]
