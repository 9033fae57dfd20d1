"""Which loaded version answers a caller that leaves the choice to the site (model `auto`): the first rule decides.

A rule applies when the request is of its department, class, task, endpoint and length, and the version that it names is
loaded. Where none applies, what serves everybody else answers. Length is that of what a conversation begins with, so
that it keeps its version as it grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.enginesections import RouterRule

ALIAS: Final = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A version that may answer."""

    name: str
    version: str
    model_digest: str

    def is_meant(self, text: str) -> bool:
        """Tell whether a rule names it: by NAME, NAME:VERSION, or at least 12 digits of its digest."""
        is_digest = len(text) >= 12 and self.model_digest.startswith(text)
        return text in {self.name, f"{self.name}:{self.version}"} or is_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What rules look at; no word of a request."""

    department: str = ""
    data_class: str = "UNKNOWN"
    task: str = ""
    endpoint: str = "chat"
    characters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One rule that was looked at, and why it did not apply; `why` is empty for the one that does."""

    rule: str
    model: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What was decided: a rule and its version's digest, both empty where none applies."""

    rule: str
    model_digest: str
    considered: tuple[Considered, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        looked = [{"rule": one.rule, "model": one.model, "why": one.why} for one in self.considered]
        return {"rule": self.rule, "model_digest": self.model_digest, "considered": looked}


def decide(rules: Sequence[RouterRule], query: Query, loaded: Sequence[Loaded]) -> Routed:
    """Return which rule decides, and what was looked at until then."""
    considered: list[Considered] = []
    for rule in rules:
        meant = next((one for one in loaded if one.is_meant(rule.model)), None)
        why = _why_not(rule, query) or ("" if meant is not None else "that version is not loaded")
        considered.append(Considered(rule=rule.name, model=rule.model, why=why))
        if meant is not None and not why:
            return Routed(rule=rule.name, model_digest=meant.model_digest, considered=tuple(considered))
    return Routed(rule="", model_digest="", considered=tuple(considered))


def _why_not(rule: RouterRule, query: Query) -> str:
    for what, wanted, found in (
        ("department", rule.departments, query.department),
        ("class", rule.classes, query.data_class),
        ("task", rule.tasks, query.task),
        ("endpoint", rule.endpoints, query.endpoint),
    ):
        if wanted and found not in wanted:
            return f"{what} is {found or 'none'}"
    if query.characters < rule.least_characters:
        return f"{query.characters} characters, fewer than {rule.least_characters}"
    if rule.most_characters and query.characters > rule.most_characters:
        return f"{query.characters} characters, more than {rule.most_characters}"
    return ""
