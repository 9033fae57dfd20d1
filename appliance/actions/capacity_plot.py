"""One measurement as a picture: tokens per second by callers, as plain SVG that any browser and any printer shows."""

from html import escape
from typing import Final

from appliance.actions.capacity import REFERENCES, CapacityFacts

_WIDTH, _HEIGHT = 640, 400
_LEFT, _TOP, _BOTTOM = 70, 60, 320
_BAR: Final = 90
_STEP: Final = 170


def svg(facts: CapacityFacts) -> str:
    """Return the picture; texts of the model are escaped."""
    levels = facts.figures["levels"]
    top = max([*(one["tokens_per_second_millis"] / 1000 for one in levels), REFERENCES[-1].tokens_per_second[1]])
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f"<title>{escape(facts.model)}: about {facts.notes_per_hour} notes per hour</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="26" font-size="16">{escape(facts.model)}: tokens per second by callers at once</text>',
        (
            f'<text x="{_LEFT}" y="46" fill="#444444">{facts.cores} cores, {facts.memory_mib / 1024:.0f} GiB, measured'
            f" {escape(facts.at)}</text>"
        ),
        f'<line x1="{_LEFT}" y1="{_BOTTOM}" x2="{_WIDTH - 20}" y2="{_BOTTOM}" stroke="#222222"/>',
    ]
    for place, one in enumerate(levels):
        speed = one["tokens_per_second_millis"] / 1000
        left, height = _LEFT + 20 + place * _STEP, (_BOTTOM - _TOP - 20) * speed / top
        middle = left + _BAR // 2
        parts += [
            f'<rect x="{left}" y="{_BOTTOM - height:.1f}" width="{_BAR}" height="{height:.1f}" fill="#2a6f97"/>',
            f'<text x="{middle}" y="{_BOTTOM - height - 6:.1f}" text-anchor="middle">{speed:.1f}</text>',
            f'<text x="{middle}" y="{_BOTTOM + 18}" text-anchor="middle">{one["callers"]}</text>',
            (
                f'<text x="{middle}" y="{_BOTTOM + 36}" text-anchor="middle" fill="#444444">'
                f"{one['notes_per_hour']} notes/h</text>"
            ),
        ]
    for one in REFERENCES:
        height = (_BOTTOM - _TOP - 20) * one.tokens_per_second[1] / top
        parts += [
            (
                f'<line x1="{_LEFT}" y1="{_BOTTOM - height:.1f}" x2="{_WIDTH - 20}" y2="{_BOTTOM - height:.1f}"'
                ' stroke="#b5651d" stroke-dasharray="6 4"/>'
            ),
            (
                f'<text x="{_WIDTH - 22}" y="{_BOTTOM - height - 4:.1f}" text-anchor="end" fill="#8a4a10">'
                f"{one.id}: up to {one.tokens_per_second[1]}</text>"
            ),
        ]
    note = facts.figures["note_tokens"]
    parts.append(
        f'<text x="{_LEFT}" y="{_HEIGHT - 14}" fill="#444444">A note: {note} tokens in,'
        f" {facts.figures['answer_tokens']} out; reading {facts.figures['prefill_tokens_per_second']} tokens/s</text>"
    )
    return "\n".join([*parts, "</svg>", ""])
