"""Texts that are looked for over a stream: what could still become one is held back, never more than that."""


class StopBuffer:
    """Holds the end of a stream that may be the beginning of a stop text."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Take more text; return what is final, and whether a stop text was met (it is not part of the text)."""
        if not self._stops:
            return text, False
        whole = self._held + text
        found = [at for at in (whole.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._held = ""
            return whole[: min(found)], True
        keep = max(overlap(whole, stop) for stop in self._stops)
        self._held = whole[len(whole) - keep :]
        return whole[: len(whole) - keep], False

    def flush(self) -> str:
        """Return what was held; the stream has ended and it is no stop text."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may be the beginning of another one, which is not in it."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


def begins(text: str, tag: str, *, space: str | None = None) -> bool | None:
    """Tell whether a text begins with a tag, behind white space (or `space` alone); None where it may yet."""
    begun = text.lstrip(space)
    if len(begun) < len(tag) and tag.startswith(begun):
        return None
    return begun.startswith(tag)
