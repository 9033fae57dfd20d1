"""Which requests a start closes: those that an earlier life of the same node left open, and no others.

A node that records alone closes every request without an outcome: nobody else can be answering. One of several closes
its own, by the node that each record names. What a single node left open when a site went over to several is closed by
the first of these that opens while it is alone.
"""

from typing import Final

from appliance.audit.facts import EVERY
from appliance.audit.leaf import Leaf
from appliance.audit.log import Log

STARTED: Final = "ledger.started"
_BEGINS: Final = "request.intent"
_ENDS: Final = "request.outcome"


def left_open(log: Log, *, is_alone: bool = True) -> list[tuple[str, int]]:
    """Return id and sequence of each request that a start has to close, in order.

    Args:
        log: Whose `node` is the one that starts; empty where a single node records.
        is_alone: Whether no other node can be answering now.
    """
    newest = log.find(kind=STARTED, limit=1)
    if not log.node and not (newest and newest[0].via.node):
        return _open_since(log, newest[0].sequence if newest else 0)
    starts = log.find(kind=STARTED, limit=EVERY)
    if not log.node:
        return _open_since(log, _earliest_life(starts))
    own = next((start.sequence for start in starts if start.via.node == log.node), 0)
    found = _of(log, _open_since(log, own), log.node)
    single = next((start.sequence for start in starts if not start.via.node), 0)
    if is_alone and not any(start.sequence > single and start.body.get("alone") for start in starts):
        found += _of(log, _open_since(log, single), "")
    return sorted(found, key=lambda one: one[1])


def _earliest_life(newest_first: list[Leaf]) -> int:
    """Return where the oldest among the newest lives of all nodes began, since a single node recorded last."""
    began: dict[str, int] = {}
    for start in newest_first:
        began.setdefault(start.via.node, start.sequence)
        if not start.via.node:
            break
    return min(began.values(), default=0)


def _open_since(log: Log, since: int) -> list[tuple[str, int]]:
    return log.backend.open_terms(since, _BEGINS, _ENDS)


def _of(log: Log, requests: list[tuple[str, int]], node: str) -> list[tuple[str, int]]:
    return [(request, sequence) for request, sequence in requests if log.leaf(sequence).via.node == node]
