"""A canary's two arms as a picture: the share of faults of each stream, and how near an alarm is; plain SVG."""

from collections.abc import Mapping
from html import escape
from typing import Any, Final

_WIDTH, _ROW, _LEFT, _TOP = 640, 74, 120, 56
_FULL: Final = 380
_COLOURS: Final = {"canary": "#b5651d", "production": "#2a6f97"}


def svg(canary: Mapping[str, Any]) -> str:
    """Return the picture of a canary's standing; see `appliance.promote.rollout`."""
    streams = canary["verdict"]["streams"]
    shares = [_share(one[arm]) for one in streams for arm in _COLOURS]
    top = max([*shares, 0.1])
    height = _TOP + _ROW * len(streams) + 30
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f"<title>{escape(canary['version'][:12])} beside {escape(canary['production'][:12])}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="20" y="26" font-size="16">Share of requests with a fault, {int(canary["percent"])} % canary</text>',
    ]
    for place, one in enumerate(streams):
        y = _TOP + place * _ROW
        parts.append(f'<text x="20" y="{y + 18}">{escape(one["stream"])}</text>')
        for row, (arm, colour) in enumerate(_COLOURS.items()):
            counted, share = one[arm], _share(one[arm])
            at = y + 4 + row * 20
            parts.append(f'<rect x="{_LEFT}" y="{at}" width="{_FULL * share / top:.1f}" height="16" fill="{colour}"/>')
            label = f"{arm} {share:.1%} ({counted['faults']} of {counted['requests']})"
            parts.append(f'<text x="{_LEFT + 4 + _FULL * share / top:.1f}" y="{at + 13}">{label}</text>')
        near = min(one["evidence_millis"] / one["limit_millis"], 1)
        parts += [
            f'<rect x="{_LEFT}" y="{y + 46}" width="{_FULL}" height="6" fill="#dddddd"/>',
            f'<rect x="{_LEFT}" y="{y + 46}" width="{_FULL * near:.1f}" height="6" fill="#8a1c1c"/>',
            f'<text x="{_LEFT + _FULL + 8}" y="{y + 54}" fill="#444444">{near:.0%} of the way to an alarm</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _share(counted: Mapping[str, int]) -> float:
    return counted["faults"] / counted["requests"] if counted["requests"] else 0.0
