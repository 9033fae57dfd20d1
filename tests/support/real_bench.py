"""A site whose gates ask the real engine of the demo about versions that tests make."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from appliance.actions import validate
from appliance.actions.gating.bench import Verdict
from appliance.registry import catalog
from media.clock import SystemClock
from tests.support.floor import Floor, nothing_leaks, open_floor
from tests.support.real_engine import RealSupervisor, shipped_tasks, shipped_template
from tests.support.versions import store_version


@dataclass
class Bench:
    """A site with the real engine."""

    floor: Floor
    supervisor: RealSupervisor
    weights: bytes
    serial: int = 0

    def judge(self, gate: str, **version: Any) -> Verdict:
        """Bring a version and run one gate of it."""
        self.serial += 1
        site = self.floor.site
        settings = {"weights": self.weights, "template": shipped_template(), "tasks": shipped_tasks()}
        sizes = {"n_ctx": 2048, "n_seq_max": 4}
        stored, descriptor = store_version(site.config, serial=self.serial, **{**settings, **sizes, **version})
        catalog.register(site.ledger, self.floor.state, stored)
        here = validate.Surroundings(
            config=site.config,
            ledger=site.ledger,
            state=self.floor.state,
            supervisor=self.supervisor,
            clock=SystemClock(),
            leaks=nothing_leaks,
        )
        return validate.validate(here, descriptor.model_digest, only=gate).verdicts[-1]


@contextmanager
def open_bench(weights: bytes) -> Iterator[Bench]:
    """Yield a site that judges versions of these weights, where a test names no others."""
    with open_floor() as floor:
        supervisor = RealSupervisor(floor.site.config)
        try:
            yield Bench(floor=floor, supervisor=supervisor, weights=weights)
        finally:
            supervisor.close()
