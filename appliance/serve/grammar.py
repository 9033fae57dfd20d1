"""Puts a constraint around the rules of a schema, in llama.cpp's notation of grammars (GBNF)."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
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
_ESCAPED: Final[Mapping[str, str]] = {
    '"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t",
}  # fmt: skip
"""What a name holds only behind a backslash, and how; a name that is not listed has no other escapes."""
_UNWRITTEN: Final = frozenset({*map(chr, range(0x20)), "\x7f"}) - _ESCAPED.keys()


def exact(rules: Mapping[str, str]) -> dict[str, str]:
    """Return rules of llama-cpp-python's converter, of which some let in what no JSON or no date is."""
    return {name: _EXACT.get(name, text) for name, text in rules.items()}


def object_rule(
    listed: Mapping[str, str], required: Collection[str], other: str, add: Callable[[str, str], str], base: str
) -> str:
    """Return the text of an object's rule: those that are required come first, each list in the schema's order.

    Args:
        listed: The rules of the listed properties, each with its value, by their names.
        required: Which of them must be there.
        other: The rule of one that is not listed; empty where there is none.
        add: Takes a rule under a name near the wished one, and returns that.
        base: What the wished names begin with.
    """
    must = [rule for name, rule in listed.items() if name in required]
    rest = f'( "," space {other} )*' if other else ""
    begins = [f"{other} {rest}"] if other else []
    for name, rule in reversed([*listed.items()]):
        if name not in required:
            begins.insert(0, f"{rule} {rest}")
            rest = add(f"{base}-{len(begins)}", f'( "," space {rule} )? {rest}')
    comma = ' "," space '
    held = f"{comma.join(must)} {rest}" if must else f"( {' | '.join(begins)} )?" if begins else ""
    return f'"{{" space {held} "}}" space'


@dataclass(slots=True)
class _Letter:
    """A place in the listed names: which letters may follow there, and whether a name ends."""

    then: dict[str, "_Letter"] = field(default_factory=dict)
    ends: bool = False


def other_name(names: Iterable[str], add: Callable[[str, str], str], base: str) -> str:
    """Return a rule's name that takes every name of a property but the listed ones, however these are spelled.

    Args:
        names: The listed ones.
        add: Takes a rule under a name near the wished one, and returns that.
        base: What the wished names begin with.
    """
    letters = [first := _Letter()]
    for name in names:
        if _UNWRITTEN.isdisjoint(name):  # nothing else could be spelled so
            at = first
            for one in name:
                if one not in at.then:
                    letters.append(at.then.setdefault(one, _Letter()))
                at = at.then[one]
            at.ends = True
    rest = add(f"{base}-rest", f"({_other_letter(())})*")
    rules: dict[int, str] = {}
    for number, letter in reversed([*enumerate(letters)]):  # each is made before what leads to it
        on = [f"{_spelled(one)} {rules[id(then)]}" for one, then in letter.then.items()]
        ways = " | ".join([f"({_other_letter(letter.then)}) {rest}", *on])
        rules[id(letter)] = add(f"{base}-name-{number}", ways if letter.ends else f"({ways})?")
    return add(f"{base}-name", f'"\\"" {rules[id(first)]} "\\"" space')


def _other_letter(letters: Iterable[str]) -> str:
    """Return one letter of a name that is none of these."""
    plain = "".join(_shown(one) for one in letters if one not in _ESCAPED)
    escapes = "".join(_shown(escape) for one, escape in _ESCAPED.items() if one not in letters)
    return f'[^"\\\\\\x00-\\x1F\\x7F{plain}]' + (f' | "\\\\" [{escapes}]' if escapes else "")


def _spelled(letter: str) -> str:
    written = f"\\{_ESCAPED[letter]}" if letter in _ESCAPED else letter
    return f'"{_shown(written)}"'


def _shown(text: str) -> str:
    return "".join(one if one.isascii() and one.isalnum() else f"\\U{ord(one):08X}" for one in text)


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
