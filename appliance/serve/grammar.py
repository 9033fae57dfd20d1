"""Puts a constraint around the rules of a schema, in llama.cpp's notation of grammars (GBNF)."""

from collections.abc import Mapping
from typing import Final

from appliance.serve.engine import Constraint
from appliance.serve.thoughts import CLOSING

_FOURTHS: Final = '("0" [48] | [2468] [048] | [13579] [26])'
_DAYS: Final = (
    '("01" | "03" | "05" | "07" | "08" | "10" | "12") "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    '("04" | "06" | "09" | "11") "-" ("0" [1-9] | [12] [0-9] | "30")',
    '"02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])',
)
_EXACT: Final[Mapping[str, str]] = {
    # JSON has no control characters in texts.
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])',
    # No month has a 31st that has 30 days, and February its 29th in leap years alone.
    "date": f'[0-9] [0-9] [0-9] [0-9] "-" ({" | ".join(_DAYS)}) | ([0-9] [0-9] {_FOURTHS} | {_FOURTHS} "00") "-02-29"',
}
"""What rules of the converter are in truth, which let in more."""


def exact(rules: Mapping[str, str]) -> dict[str, str]:
    """Return rules of llama-cpp-python's converter, of which some let in what no JSON or no date is."""
    return {name: _EXACT.get(name, text) for name, text in rules.items()}


def grammar_text(rules: Mapping[str, str], constraint: Constraint) -> str:
    """Return a grammar whose rule ``root`` is the whole constraint; `rules` has the schema's as ``root``."""
    whole = _called(rules, constraint) if constraint.opening else rules
    return _lines(_behind_thought(whole) if constraint.follows_thought else whole)


def _behind_thought(rules: Mapping[str, str]) -> dict[str, str]:
    """Return rules that begin behind the first closing tag of a thought: a rule for each letter that was met of it."""
    name = _free("thought", rules)
    inner = {(f"{name}-answer" if rule == "root" else rule): text for rule, text in rules.items()}
    first = CLOSING[0]
    for place, letter in enumerate(CLOSING):
        then = f"{name}-{place + 1}" if place + 1 < len(CLOSING) else f"[ \\n]* {name}-answer"
        again = f"| {_literal(first)} {name}-1 " if place else ""
        others = f"{letter}{first}" if place else first
        inner[f"{name}-{place}"] = f"{_literal(letter)} {then} {again}| [^{others}] {name}-0"
    return {**inner, "root": f"{name}-0"}


def _free(name: str, rules: Mapping[str, str]) -> str:
    while any(rule.startswith(name) for rule in rules):
        name += "-x"
    return name


def _called(rules: Mapping[str, str], constraint: Constraint) -> dict[str, str]:
    name = _free("constraint", rules)
    inner = {(f"{name}-json" if rule == "root" else rule): text for rule, text in rules.items()}
    opening, closing = _literal(constraint.opening), _literal(constraint.closing)
    once = f'{opening} "\\n"? {name}-json "\\n"? {closing} "\\n"?'
    inner[f"{name}-once"] = once
    inner[f"{name}-all"] = f"{name}-once" + f" ({name}-once" * (constraint.most - 1) + ")?" * (constraint.most - 1)
    if not constraint.is_optional:
        return {**inner, "root": f"{name}-all"}
    first, second = constraint.opening[0], constraint.opening[1]
    other = f"[^{first} \\n] {name}-any | {_literal(first)} ([^{second}] {name}-any)?"
    inner[f"{name}-any"] = "[^\\x00]*"
    return {**inner, f"{name}-other": other, "root": f"[ \\n]* ({name}-all | {name}-other)?"}


def _lines(rules: Mapping[str, str]) -> str:
    return "\n".join(f"{name} ::= {text}" for name, text in rules.items())


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
