"""prometheus_client's metrics, whose children are found again by one look: each answer counts into a dozen of them."""

from typing import Any

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase


class _Remembering(MetricWrapperBase):
    """Remembers its children by their label values, which are text and never removed."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self._children: dict[tuple[str, ...], Any] = {}
        super().__init__(*args, **named)

    def labels(self, *labelvalues: Any, **labelkwargs: Any) -> Any:
        """Return the child; see `prometheus_client`."""
        child = None if labelkwargs else self._children.get(labelvalues)
        if child is None:
            child = super().labels(*labelvalues, **labelkwargs)
            if not labelkwargs:
                self._children[labelvalues] = child
        return child


class Counter(_Remembering, prometheus_client.Counter):
    """Only rises."""


class Gauge(_Remembering, prometheus_client.Gauge):
    """Rises and falls."""


class Histogram(_Remembering, prometheus_client.Histogram):
    """Counts how often a value was at most each bound."""
