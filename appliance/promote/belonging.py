"""Which line of production a recorded request is of, by the version that answered it and by when it did.

Promises: a version belongs to the line in which it may be loaded, from that record on until it may be loaded in another
one; so a version that was replaced long ago and came back beside its successor counts for its new line alone, and
records that were read before a line was opened mean what they meant. What names no version, or one that no line ever
had, is the first line's; a site with one line asks nothing of a record.
"""

from bisect import bisect_left
from collections.abc import Callable

from appliance.audit.leaf import Leaf
from appliance.promote.history import Production
from appliance.stages import FIRST_LINE

IsOwn = Callable[[Leaf], bool]


class Belonging:
    """Follows production; `line_of` then tells of which line a record is."""

    def __init__(self) -> None:
        self._entered: dict[str, list[tuple[int, int]]] = {}
        self._known = 0

    def follow(self, production: Production) -> None:
        """Learn what is new in production."""
        if not production.has_further or production.number == self._known:
            return
        self._entered, again = {}, Production()
        for promotion in production.promotions:
            again.take(promotion)
            for line in again.lines.values():
                for digest in line.loadable:
                    steps = self._entered.setdefault(digest, [])
                    if not steps or steps[-1][1] != line.number:
                        steps.append((promotion.sequence, line.number))
        self._known = production.number

    def line_of(self, leaf: Leaf) -> int:
        """Return the number of the line that a request is of, by the record that it began, or was refused."""
        steps = self._entered.get(str(leaf.body.get("model_digest")), ())
        place = bisect_left(steps, (leaf.sequence, 0))
        return steps[place - 1][1] if place else FIRST_LINE

    def only(self, line: int) -> IsOwn:
        """Return what tells whether a record is of one line, as far as production was followed by then."""
        return lambda leaf: self.line_of(leaf) == line


def of_any(_: Leaf) -> bool:
    """Tell of every record that it is of the line that is meant, as where there is one."""
    return True
