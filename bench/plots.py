"""A result as a picture: `python -m bench.plots NAME…` draws docs/benchmarks/NAME.svg from build/bench/NAME.json.

Each picture says the machine, the versions and the method, since it is looked at apart from the page. Bars of one row
have one scale; what is better is for the goal to say.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from bench.measuring import OUT, ROOT, say

PICTURES: Final = ROOT / "docs/benchmarks"
_WIDTH: Final = 860
_LEFT: Final = 20
_BAR_LEFT: Final = 190
_BAR_ROOM: Final = 320
_PANEL: Final = 170
_LETTERS: Final = 128
_COLOURS: Final = ("#2a6f97", "#b5651d", "#7d8f69", "#9a9a9a", "#c9c9c9")
_AGAINST: Final = re.compile(r".*, against (?P<peer>.+)")
_SPEED: Final = re.compile(r"(?P<level>\w+), (?P<callers>\d+) callers, against (?P<peer>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a picture says beside its figures: who was measured, and how."""

    title: str
    method: str
    peer: str = "the other"


SUBJECTS: Final[Mapping[str, Subject]] = {
    "gateway": Subject(
        title="The gateway beside LiteLLM's proxy, both before one engine that costs nothing",
        method="One worker each. Ours has keys, limits, the queue, the search for identifiers and two durable records"
        " of each answer; LiteLLM has nothing switched on. Contestants take turns, each round begins with another one,"
        " medians. Added: without what the engine alone takes in the same round.",
        peer="LiteLLM",
    ),
    "engine": Subject(
        title="The engine for processors: tokens a second of whole answers, by callers at once",
        method="SmolLM2-135M, answers of 64 tokens, every question a new one, the same threads for all, no gateway."
        " Contestants take turns, each round begins with another one, medians. The bare loop's prompts are read before"
        " its clock starts; with prompts, their own tokens are read, too, as all others do. Python's part of a step:"
        " all seconds of our scheduler without HTTP that are not inside llama_decode."
        " llama.cpp's C++ server (xllamacpp) is as its wheel comes, without AVX-512 and AMX; ours and llama_cpp.server"
        " have a library for each processor and products of our own (ADR 67, 77).",
    ),
    "vllm": Subject(
        title="vLLM behind the gateway beside vLLM alone, and our engine for processors beside vLLM",
        method="SmolLM2-135M as safetensors, answers of 64 tokens, the same model and threads. Ours is the"
        " gateway with keys, limits, identifiers and durable records, and vLLM behind our door; in rows of our engine"
        " that engine (llama.cpp, the same model as GGUF), and no gateway. Both are asked in turns; the first round"
        " warms up; medians.",
        peer="vLLM alone",
    ),
    "phi": Subject(
        title="The search for identifiers beside Presidio's analyzer",
        method="Invented clinical notes in which every identifier is marked, by a writer who had not seen a rule."
        " Found: no letter and no digit of it is left. Presidio with all its recognisers and no trained model, since"
        " none can be had without a network; ours with no list of a site's own people. In turns, one process each,"
        " medians.",
        peer="Presidio",
    ),
}
"""The budgets of serving and of protecting.

A result of another name has its rows, the machine and what holds for all as its method."""


def main() -> int:
    """Draw each result that is named; those of serving where none is. Returns the exit status."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or SUBJECTS:
        source = OUT / f"{name}.json"
        if not source.exists():
            say(f"error: {source.relative_to(ROOT)} is not there\n  fix: make bench-{name}")
            return 1
        (PICTURES / f"{name}.svg").write_text(svg(name, json.loads(source.read_text())))
    return 0


def svg(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture of a result; every text is escaped, nothing in it is loaded from elsewhere."""
    subject = SUBJECTS.get(name, Subject(title=name, method="Contestants take turns, medians; see docs/benchmarks.md."))
    parts, top = _head(subject, rows)
    speeds = [row for row in rows if row["unit"] == "tokens/s" and _SPEED.fullmatch(row["name"])]
    for level in dict.fromkeys(_matched(row)["level"] for row in speeds):
        panel = _levels(f"{level}: tokens/s", [row for row in speeds if _matched(row)["level"] == level], top)
        parts += panel
        top += _PANEL + 60
    for row in rows:
        if row["name"] != "machine" and (row["goal"] is not None or row not in speeds) and row["ours"] is not None:
            parts += _pair(subject, row, top)
            top += 62
    look = 'role="img" font-family="sans-serif" font-size="12"'
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 10}" width="{_WIDTH}" {look}>'
    white = f'<rect width="{_WIDTH}" height="{top + 10}" fill="#ffffff"/>'
    return "\n".join([begin, f"<title>{escape(subject.title)}</title>", white, *parts, "</svg>", ""])


def versions(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what contestants ran, such as `litellm 1.105.0`."""
    for row in rows:
        if row["name"] == "versions":
            yield from (f"{package} {version}" for package, version in row["versions"].items())


def _head(subject: Subject, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    parts = [f'<text x="{_LEFT}" y="26" font-size="16">{escape(subject.title)}</text>']
    top = 46
    for line in (
        *textwrap.wrap(f"Machine: {', '.join(_facts(rows))}.", _LETTERS),
        *textwrap.wrap(f"Method: {subject.method}", _LETTERS),
    ):
        parts.append(f'<text x="{_LEFT}" y="{top}" font-size="11" fill="#444444">{escape(line)}</text>')
        top += 15
    known = ", ".join(versions(rows))
    if known:
        parts.append(f'<text x="{_LEFT}" y="{top}" font-size="11" fill="#444444">Versions: {escape(known)}.</text>')
        top += 15
    return parts, top + 10


def _facts(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if row["name"] == "machine":
            facts = row["facts"]
            yield f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, Linux {facts['kernel']}"
            yield f"Python {facts['python']}"
            yield f"load average {row['ours']:.1f} at the start"
            if "at" in facts:
                yield f"measured {facts['at']}"
    threads = {row["threads"] for row in rows if "threads" in row}
    if threads:
        yield f"{' or '.join(map(str, sorted(threads)))} thread{'' if threads == {1} else 's'} for each contestant"


def _matched(row: Mapping[str, Any]) -> "re.Match[str]":
    found = _SPEED.fullmatch(row["name"])
    if found is None:
        raise ValueError(row["name"])
    return found


def _levels(title: str, rows: Sequence[Mapping[str, Any]], top: int) -> list[str]:
    """Return one panel: a group of bars for each number of callers, ours first."""
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        found = _matched(row)
        groups.setdefault(found["callers"], {"ours": row["ours"]})[found["peer"]] = row["peer"]
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    most = max(value for group in groups.values() for value in group.values())
    bottom, wide = top + 30 + _PANEL, (_WIDTH - 2 * _LEFT) // len(groups)
    bar = min(44, (wide - 24) // len(names))
    parts = [f'<text x="{_LEFT}" y="{top + 12}" font-size="14">{escape(title)}</text>']
    left = _LEFT + 120
    for number, name in enumerate(names):
        shown = "Sealift" if name == "ours" else name
        parts += [
            f'<rect x="{left}" y="{top + 2}" width="11" height="11" fill="{_COLOURS[number]}"/>',
            f'<text x="{left + 15}" y="{top + 12}" font-size="11">{escape(shown)}</text>',
        ]
        left += 40 + 7 * len(shown)
    parts.append(f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - _LEFT}" y2="{bottom}" stroke="#222222"/>')
    for place, (callers, group) in enumerate(groups.items()):
        begin = _LEFT + place * wide + (wide - bar * len(names)) // 2
        for number, name in enumerate(names):
            value = group.get(name, 0.0)
            high, left = (_PANEL - 16) * value / most, begin + number * bar
            parts += [
                (
                    f'<rect x="{left}" y="{bottom - high:.1f}" width="{bar - 3}" height="{high:.1f}"'
                    f' fill="{_COLOURS[number]}"/>'
                ),
                (
                    f'<text x="{left + bar // 2 - 1}" y="{bottom - high - 4:.1f}" font-size="10"'
                    f' text-anchor="middle">{value:.0f}</text>'
                ),
            ]
        said = f"{callers} caller{'' if callers == '1' else 's'}"
        parts.append(f'<text x="{begin + bar * len(names) // 2}" y="{bottom + 16}" text-anchor="middle">{said}</text>')
    return parts


def _pair(subject: Subject, row: Mapping[str, Any], top: int) -> list[str]:
    """Return one row: ours above the peer's, the ratio and the goal beside them."""
    named = _AGAINST.fullmatch(row["name"])
    peer = named["peer"] if named else subject.peer
    values = [("Sealift", row["ours"])] + ([] if row["peer"] is None else [(peer, row["peer"])])
    most = max(value for _, value in values) or 1.0
    parts = [f'<text x="{_LEFT}" y="{top + 12}" font-weight="bold">{escape(row["name"])}</text>']
    for number, (name, value) in enumerate(values):
        at, wide = top + 18 + 18 * number, _BAR_ROOM * value / most
        parts += [
            f'<text x="{_BAR_LEFT - 8}" y="{at + 11}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_BAR_LEFT}" y="{at}" width="{wide:.1f}" height="14" fill="{_COLOURS[number]}"/>',
            f'<text x="{_BAR_LEFT + wide + 6:.1f}" y="{at + 11}">{value:.4g} {escape(row["unit"])}</text>',
        ]
    if row["ratio"] is not None:
        verdict = {True: ": met", False: ": missed", None: ""}[row["met"]]
        goal = "" if row["goal"] is None else f"goal {row['goal']}{verdict}"
        lines = [f"{row['ratio']:.4g} times", *textwrap.wrap(goal, 42)]
        for number, line in enumerate(lines):
            parts.append(f'<text x="620" y="{top + 26 + 14 * number}" font-size="11">{escape(line)}</text>')
    return parts


if __name__ == "__main__":
    raise SystemExit(main())
