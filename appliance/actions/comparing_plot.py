"""Two versions as a picture: right answers with their intervals, speed and waits by callers; plain SVG."""

from collections.abc import Callable
from html import escape
from typing import Final

from appliance.actions.comparing import Compared, Side

_WIDTH: Final = 720
_LEFT: Final = 70
_PANEL: Final = 220
_TOP: Final = 70
_BAR: Final = 44
_GAP: Final = 36
_COLOURS: Final = ("#2a6f97", "#b5651d")


def svg(compared: Compared) -> str:
    """Return the picture; names are escaped. What the two have no figures of is not drawn."""
    sides = (compared.first, compared.second)
    bars = [
        (
            str(one["name"]),
            [
                (one[side]["accuracy_millis"], one[side]["low_millis"], one[side]["high_millis"])
                for side in ("first", "second")
            ],
        )
        for one in compared.sets
        if one["first"]["accuracy_millis"] is not None and one["second"]["accuracy_millis"] is not None
    ]
    speeds, waits = (
        [(f"{one['callers']} at once", [one[side][key] for side in ("first", "second")]) for one in compared.speeds]
        for key in ("tokens_per_second_millis", "first_token_p50_millis")
    )
    width = max(_WIDTH, _left(max(len(bars), len(speeds)), 0) + 20)
    panels: list[Callable[[int], list[str]]] = []
    if bars:
        panels.append(lambda top: _quality(bars, top, width))
    if speeds:
        panels += [
            lambda top: _levels(speeds, top, width, "Tokens per second by callers: more is better", by=1000),
            lambda top: _levels(waits, top, width, "Milliseconds to the first token: less is better", by=1),
        ]
    height = _TOP + len(panels) * (_PANEL + 70)
    title = " and ".join(_named(side) for side in sides)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_legend(sides),
        *(part for place, panel in enumerate(panels) for part in panel(_TOP + place * (_PANEL + 70))),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _named(side: Side) -> str:
    """Return what tells a version from another one of the same name and version, too."""
    return f"{side.label} {side.version.model_digest[:12]}"


def _legend(sides: tuple[Side, Side]) -> list[str]:
    parts = []
    for number, side in enumerate(sides):
        top = 14 + 22 * number
        refused = f", {side.refused}: not for production" if side.refused else ""
        words = f"{_named(side)} ({side.known.quantization or 'no level named'}{refused})"
        parts += [
            f'<rect x="{_LEFT}" y="{top}" width="14" height="14" fill="{_COLOURS[number]}"/>',
            f'<text x="{_LEFT + 22}" y="{top + 12}">{escape(words)}</text>',
        ]
    return parts


def _frame(top: int, width: int, title: str) -> list[str]:
    bottom = top + _PANEL
    return [
        f'<text x="{_LEFT}" y="{top + 12}" font-size="15">{escape(title)}</text>',
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{width - 20}" y2="{bottom}" stroke="#222222"/>',
    ]


def _quality(sets: list[tuple[str, list[tuple[int, int, int]]]], top: int, width: int) -> list[str]:
    parts = _frame(top, width, "Right answers in per cent, with 95 % intervals")
    for place, (name, values) in enumerate(sets):
        for number, (value, low, high) in enumerate(values):
            left = _left(place, number)
            parts += _bar(left, top, value / 1000, number, f"{value / 10:.1f}")
            middle = left + _BAR // 2
            ends = [top + _PANEL - (_PANEL - 40) * end / 1000 for end in (low, high)]
            parts.append(
                f'<line x1="{middle}" y1="{ends[0]:.1f}" x2="{middle}" y2="{ends[1]:.1f}" stroke="#111111"'
                ' stroke-width="2"/>'
            )
        parts.append(_name(place, top, name))
    return parts


def _levels(levels: list[tuple[str, list[int]]], top: int, width: int, title: str, *, by: int) -> list[str]:
    parts = _frame(top, width, title)
    most = max((value for _, values in levels for value in values), default=0) or 1
    for place, (name, values) in enumerate(levels):
        for number, value in enumerate(values):
            parts += _bar(
                _left(place, number), top, value / most, number, f"{value / by:.1f}" if by > 1 else str(value)
            )
        parts.append(_name(place, top, name))
    return parts


def _left(place: int, number: int) -> int:
    return _LEFT + 20 + place * (2 * _BAR + _GAP) + number * _BAR


def _bar(left: int, top: int, share: float, number: int, label: str) -> list[str]:
    height, bottom = (_PANEL - 40) * share, top + _PANEL
    return [
        (
            f'<rect x="{left}" y="{bottom - height:.1f}" width="{_BAR - 4}" height="{height:.1f}"'
            f' fill="{_COLOURS[number]}"/>'
        ),
        f'<text x="{left + _BAR // 2}" y="{bottom - height - 5:.1f}" text-anchor="middle">{label}</text>',
    ]


def _name(place: int, top: int, name: str) -> str:
    middle = _left(place, 1)
    return f'<text x="{middle}" y="{top + _PANEL + 18}" text-anchor="middle">{escape(name[:24])}</text>'
