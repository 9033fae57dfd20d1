"""Whether the gateway's own counts and the ledger's agree: what was answered is recorded, what was begun has an end.

The ledger's records of requests are counted as they come, from the moment this process starts; Prometheus compares the
growth of these counts with that of the gateway's (`llm_requests_total`), which knows nothing of the ledger's file. The
test stage's gateway counts under another name, so its records are not among these. Where several nodes record into one
ledger, each counts what came by its own doors, as its gateways do.

Refused logins to the page are counted beside them, from the same pages: whoever guesses passwords leaves records, and
somebody is told while it goes on (21 CFR 11.300 (d)).
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.stages import is_tried
from media.clock import Clock
from media.errors import SealiftError

INTENT: Final = "request.intent"
OUTCOME: Final = "request.outcome"
REFUSED: Final = "request.refused"
KINDS: Final = (INTENT, OUTCOME, REFUSED)
LOGIN_REFUSED: Final = "admin.login-refused"
OPEN_AFTER: Final = timedelta(minutes=15)
"""No answer takes this long; an intent that is older and has no outcome was lost, or its gateway hangs."""
RECORDS: Final = "sealift_ledger_requests"
OPEN: Final = "sealift_intents_without_outcome"
LOGINS: Final = "sealift_logins_refused"
_PAGE: Final = 1000
_PAGES: Final = 10
_MOST_OPEN: Final = 100_000


class Completeness(Collector):
    """Counts as it is scraped; reads so many pages each time at most, and the rest the next time.

    Several may scrape at one moment. One of them reads, and the others are told the counts of before: a record that two
    had read would count twice, and hide one that was lost.

    Args:
        ledger: Where records are read.
        clock: How old an intent is.
        node: This node's name where several answer at once.
        pages: How many pages of records a scrape reads at most.
    """

    def __init__(self, ledger: Ledger, clock: Clock, *, node: str = "", pages: int = _PAGES) -> None:
        self._ledger = ledger
        self._node = node
        self._clock = clock
        self._pages = pages
        self._next: int | None = None
        self._counts = dict.fromkeys(KINDS, 0)
        self._logins_refused = 0
        self._open: dict[str, datetime] = {}
        self._reading = threading.Lock()
        self._telling = threading.Lock()  # never held while the ledger is asked

    def collect(self) -> Iterable[Metric]:
        """Return the counts; without the ledger those of before, which `LedgerDown` tells of."""
        if self._reading.acquire(blocking=False):
            try:
                with suppress(SealiftError, ValueError):
                    self._read()
            finally:
                self._reading.release()
        before = self._clock.now() - OPEN_AFTER
        with self._telling:
            counts, refused = dict(self._counts), self._logins_refused
            unended = sum(at < before for at in self._open.values())
        records = CounterMetricFamily(
            RECORDS, "Records of requests in production since this process started", labels=["kind"]
        )
        for kind, count in counts.items():
            records.add_metric([kind], count)
        waiting = GaugeMetricFamily(OPEN, "Intents of more than 15 minutes that have no outcome")
        waiting.add_metric([], unended)
        logins = CounterMetricFamily(LOGINS, "Logins to the page that were refused since this process started")
        logins.add_metric([], refused)
        return (records, waiting, logins)

    def _read(self) -> None:
        size = self._ledger.head().size
        if self._next is None or self._next > size:  # at the start, or after a restore
            with self._telling:
                self._next, self._open = size, {}
        for _ in range(self._pages):
            page = self._ledger.leaves(self._next, _PAGE, kinds=(*KINDS, LOGIN_REFUSED))
            with self._telling:
                for leaf in page:
                    self._take(leaf)
                    self._next = leaf.sequence + 1
            if len(page) < _PAGE:
                self._next = max(self._next, size)
                return

    def _take(self, leaf: Leaf) -> None:
        if leaf.kind == LOGIN_REFUSED:
            self._logins_refused += leaf.via.node == self._node
            return
        repeated = leaf.body.get("repeated", 1)
        # What developers try would make up for what production did not record.
        if leaf.via.node == self._node and not is_tried(leaf.body):
            self._counts[leaf.kind] += repeated if type(repeated) is int and repeated > 0 else 1
        request_id = str(leaf.body.get("request_id"))
        if leaf.kind == INTENT and len(self._open) < _MOST_OPEN:
            self._open[request_id] = datetime.fromisoformat(leaf.time).astimezone(UTC)
        elif leaf.kind == OUTCOME:
            self._open.pop(request_id, None)
