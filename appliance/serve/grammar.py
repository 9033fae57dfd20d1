"""Puts a constraint around the rules of a schema, in llama.cpp's notation of grammars (GBNF)."""

from collections.abc import Mapping

from appliance.serve.engine import Constraint


def grammar_text(rules: Mapping[str, str], constraint: Constraint) -> str:
    """Return a grammar whose rule ``root`` is the whole constraint; `rules` has the schema's as ``root``."""
    if not constraint.opening:
        return _lines(rules)
    name = "constraint"
    while any(rule.startswith(name) for rule in rules):
        name += "-x"
    inner = {(f"{name}-json" if rule == "root" else rule): text for rule, text in rules.items()}
    opening, closing = _literal(constraint.opening), _literal(constraint.closing)
    once = f'{opening} "\\n"? {name}-json "\\n"? {closing} "\\n"?'
    inner[f"{name}-once"] = once
    inner[f"{name}-all"] = f"{name}-once" + f" ({name}-once" * (constraint.most - 1) + ")?" * (constraint.most - 1)
    if not constraint.is_optional:
        return _lines({**inner, "root": f"{name}-all"})
    first, second = constraint.opening[0], constraint.opening[1]
    other = f"[^{first} \\n] {name}-any | {_literal(first)} ([^{second}] {name}-any)?"
    inner[f"{name}-any"] = "[^\\x00]*"
    return _lines({**inner, f"{name}-other": other, "root": f"[ \\n]* ({name}-all | {name}-other)?"})


def _lines(rules: Mapping[str, str]) -> str:
    return "\n".join(f"{name} ::= {text}" for name, text in rules.items())


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
