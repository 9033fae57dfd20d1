"""One line of a list of findings: a mark, a name, words."""


def marked(name: str, text: str, *, is_good: bool | None) -> str:
    """Return the line; the mark is a tick, a cross, or a dot where there is nothing to judge."""
    mark = "·" if is_good is None else "✓" if is_good else "✗"
    return f"  {mark} {name:<16} {text}"
