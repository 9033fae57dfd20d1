"""Puts a constraint around the rules of a schema, in llama.cpp's notation of grammars (GBNF)."""

from collections.abc import Mapping

from appliance.serve.engine import Constraint
from appliance.serve.thoughts import CLOSING


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
