"""Which sequences stand beside each other: where each has a context of its own, a step takes only such ones together.

llama.cpp takes sequences into one part of a step for as long as their numbers follow one another, and each part reads
all weights: sixteen answers in six groups take two to three times as long as beside each other.
"""

from collections.abc import Callable, Collection, Iterable


def beside(taken: Collection[int], free: Iterable[int], *, resting: Iterable[int] = ()) -> int:
    """Return the place that leaves the fewest groups, and then the least between the first and the last.

    Args:
        taken: Of the answers that are being made.
        free: What may be taken as it is, before others that are as good.
        resting: What may be taken once what rests there is elsewhere.

    Raises:
        ValueError: There is none.
    """
    ranked = [(*spread(taken, one), False, one) for one in free]
    ranked += [(*spread(taken, one), True, one) for one in resting]
    return min(ranked)[-1]


def spread(taken: Collection[int], one: int) -> tuple[int, int]:
    """Return how many groups there are more with one more, -1 to 1, and how many places from the first to the last."""
    more = 1 - (one - 1 in taken) - (one + 1 in taken)
    return more, max(*taken, one) - min(*taken, one) + 1 if taken else 1


def bridges(taken: Iterable[int], idle: Iterable[int], seconds: Callable[[int], float]) -> list[int]:
    """Return the places between groups that are to be computed with them, for nothing, because it takes less time.

    Args:
        taken: Of the answers that get a token.
        idle: What may be computed for nothing.
        seconds: What so many rows beside each other take.
    """
    found: list[int] = []
    may, every = frozenset(idle), groups(taken)
    joined = every[0]
    for group in every[1:]:
        gap, both = range(joined.stop, group.start), range(joined.start, group.stop)
        if may.issuperset(gap) and seconds(len(both)) < seconds(len(joined)) + seconds(len(group)):
            found += gap
            joined = both
        else:
            joined = group
    return found


def groups(taken: Iterable[int]) -> list[range]:
    """Return the runs of numbers that follow one another, the lowest first."""
    found: list[range] = []
    for one in sorted(taken):
        if found and found[-1].stop == one:
            found[-1] = range(found[-1].start, one + 1)
        else:
            found.append(range(one, one + 1))
    return found
