"""A whole site on one floor: store, registry, promoter, engines of a few lines, all in one process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.actions import validate
from appliance.actions.gating.bench import Bench, Leaks
from appliance.actions.production import Surroundings
from appliance.actions.promote import promote
from appliance.actions.validate import ValidationReport
from appliance.install.supervisor import UnitState
from appliance.registry import catalog
from appliance.registry.descriptor import ModelDescriptor
from appliance.state.database import open_state
from tests.support.promotion import Site, open_site
from tests.support.signatories import Signatory, signatories
from tests.support.versions import EngineSupervisor, short_folder, store_version


def nothing_leaks(bench: Bench) -> Mapping[str, int]:
    """Stand in for the gateway's protection, which has tests of its own (test_leakcheck.py)."""
    del bench
    names = ("patients", "identifiers", "to_engine", "from_engine", "foreign", "crossed", "recorded", "failed")
    return dict.fromkeys((*names, "restored", "unknown_tokens"), 0)


@dataclass(slots=True)
class Floor:
    """Everything an action may need."""

    site: Site
    state: Engine
    supervisor: EngineSupervisor
    serial: int = 0
    leaks: Leaks = nothing_leaks

    @property
    def root(self) -> Path:
        """The site's folder."""
        return self.site.root

    @property
    def here(self) -> Surroundings:
        """What actions on production work with."""
        return Surroundings(
            config=self.site.config,
            ledger=self.site.ledger,
            state=self.state,
            promoter=self.site.client,
            supervisor=self.supervisor,
            clock=self.site.clock,
            sleep=self.site.clock.advance,
        )

    @property
    def bench(self) -> validate.Surroundings:
        """What validation works with."""
        return validate.Surroundings(
            config=self.site.config,
            ledger=self.site.ledger,
            state=self.state,
            supervisor=self.supervisor,
            clock=self.site.clock,
            sleep=self.site.clock.advance,
            leaks=self.leaks,
        )

    def bring(
        self, weights: str = "weights", *, wrong: bool = False, weights_bytes: bytes = b"", **changes: Any
    ) -> ModelDescriptor:
        """Store a release with one version, register it, and know how to start it."""
        self.serial += 1
        stored, descriptor = store_version(
            self.site.config, serial=self.serial, weights=weights_bytes or weights.encode(), **changes
        )
        catalog.register(self.site.ledger, self.state, stored)
        self.supervisor.know(descriptor, wrong=wrong)
        return descriptor

    def validate(self, descriptor: ModelDescriptor, **changes: Any) -> ValidationReport:
        """Run the gates."""
        return validate.validate(self.bench, descriptor.model_digest, **changes)

    def approve(self, descriptor: ModelDescriptor, *people: Signatory) -> None:
        """Request a validated version, and hand in approvals."""
        facts = promote(self.here, descriptor.model_digest, person=signatories()[0].id)
        assert facts.request is not None
        self.site.approve(facts.request, *people)

    def serve(self, descriptor: ModelDescriptor, **changes: Any) -> None:
        """Take a version all the way to production by Ana and Ben."""
        self.validate(descriptor).require_passed()
        self.approve(descriptor, *signatories()[:2])
        promote(self.here, descriptor.model_digest, person="", **changes)

    def running(self) -> set[str]:
        """Units of the engines that run."""
        return {one.name for one in self.supervisor.units() if one.state is UnitState.ACTIVE}

    def in_production(self) -> str | None:
        """What state says, which is where callers are sent."""
        with self.state.connect() as session:
            return catalog.in_production(session)


@contextmanager
def open_floor(**policy: Any) -> Iterator[Floor]:
    """Yield a site whose people are enrolled and whose store is empty."""
    with short_folder() as root:
        site = open_site(root, **policy)
        floor = Floor(site=site, state=open_state(site.config.at), supervisor=EngineSupervisor(site.config))
        try:
            yield floor
        finally:
            floor.supervisor.close()
            floor.state.dispose()


@pytest.fixture(name="floor")
def serving_floor() -> Iterator[Floor]:
    """One whose production serves a version."""
    with open_floor() as floor:
        floor.serve(floor.bring("old"))
        yield floor


@pytest.fixture(name="new")
def approved(floor: Floor) -> ModelDescriptor:
    """A version that two people approved."""
    brought = floor.bring("new")
    floor.validate(brought).require_passed()
    floor.approve(brought, *signatories()[:2])
    return brought
