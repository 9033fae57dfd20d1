"""A site with a promoter in one process: real files, real signatures, a ledger in memory."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.promote.client import PromoterClient
from appliance.promote.desk import ACTIONS_DOOR, Desk, build_desk
from appliance.promote.folder import PromoterFolder
from appliance.promote.policy import packaged
from appliance.promote.promoter import Request
from appliance.promote.record import Promotion
from appliance.promote.validated import Validated, require_validated
from appliance.wire import Peer
from media.clock import FixedClock
from tests.support.signatories import Signatory, signatories

PASSWORD = "correct horse battery"
FAST_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def digest(text: str) -> str:
    """Return 64 hex digits that stand for something."""
    return sha256(text.encode()).hexdigest()


def site_config(root: Path, **policy: Any) -> Config:
    """Return a site file for a folder."""
    return Config.model_validate(
        {"site": "demo", "environment": "demo", "places": {"root": str(root)}, "policy": policy}
    )


@dataclass(slots=True)
class Site:
    """One site below a folder; `ana` and `ben` are enrolled by `open_site`."""

    root: Path
    config: Config
    clock: FixedClock
    ledger: MemoryLedger
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start the promoter again on the same files and the same ledger."""
        self.desk = build_desk(self.config, self.ledger, clock=self.clock, hasher=FAST_HASHER)

    @property
    def folder(self) -> PromoterFolder:
        """The promoter's files."""
        return PromoterFolder(self.config.at.promoter)

    @property
    def client(self) -> PromoterClient:
        """The promoter through the door for local commands."""
        return self.at_door(ACTIONS_DOOR)

    def at_door(self, door: str) -> PromoterClient:
        """The promoter through one door."""
        peer = Peer(door=door, pid=os.getpid(), uid=os.getuid(), gid=os.getgid())

        def call(do: str, **fields: Any) -> Mapping[str, Any]:
            return self.desk(peer, {"do": do, **fields})

        return PromoterClient(call)

    def enrol(self, *people: Signatory) -> None:
        """Enrol people by codes, the first ones of the site."""
        codes = self.client.codes(max(2, len(people)))
        for code, person in zip(codes, people, strict=False):
            self.client.enrol(code=code, name=person.name, certificate=person.certificate, password=PASSWORD)

    def validate(
        self,
        model_digest: str,
        *,
        run: str = "1",
        passed: bool = True,
        policy: str = "",
        level: str = "Q4_K_M",
        name: str = "tiny",
    ) -> Validated | None:
        """Record that a version is registered and what its gates said."""
        self.ledger.append(
            "model.registered",
            {
                "model_digest": model_digest,
                "name": name,
                "version": "1",
                "weights_digest": digest("weights" + model_digest),
                "serial": 1,
                "descriptor": {"quantization": level},
            },
        )
        for gate in packaged().gates:
            self.ledger.append(
                "gate.result",
                {
                    "model_digest": model_digest,
                    "gate": gate,
                    "passed": passed,
                    "evidence_digest": digest("evidence" + model_digest + run),
                    "figures": {"policy_digest": policy or packaged().digest},
                },
            )
        return require_validated(self.ledger, model_digest, packaged()) if passed and not policy else None

    def request(
        self,
        model_digest: str,
        *,
        by: Signatory | None = None,
        meaning: str = "serve it",
        name: str = "tiny",
        **said: Any,
    ) -> Request:
        """Validate a version and request it for production; `beside` or `replaces` may say for which line."""
        validated = self.validate(model_digest, name=name)
        assert validated is not None
        who = (by or signatories()[0]).id
        return self.client.request(validated, meaning=meaning, requested_by=who, password=self.asks_password, **said)

    @property
    def asks_password(self) -> str | None:
        """The password of who asks for approvals, where the site wants it."""
        return None if self.config.release_is_request else PASSWORD

    def approve(self, request: Request, *people: Signatory) -> Request:
        """Hand in these people's approvals."""
        for person in people:
            request = self.client.approve(request.statement.sha256, person.sign(request.statement.to_bytes()))
        return request

    def promote(self, model_digest: str, **said: Any) -> Promotion:
        """Bring a version into production by Ana and Ben; `name`, `beside` and `replaces` as in `request`."""
        ana, ben, *_ = signatories()
        request = self.approve(self.request(model_digest, **said), ana, ben)
        return self.client.promote(request.statement.sha256)


def open_site(root: Path, *, enrolled: int = 2, **policy: Any) -> Site:
    """Return a site whose first people are enrolled."""
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    site = Site(root=root, config=site_config(root, **policy), clock=clock, ledger=MemoryLedger(clock))
    if enrolled:
        site.enrol(*signatories()[:enrolled])
    return site
