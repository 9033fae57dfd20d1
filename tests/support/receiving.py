"""A receiving site in a folder, ways to receive there, and a look at what must not have changed."""

import copy
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.actions.receive import Options, ReceiveFacts, receive
from appliance.config import Config, PlacesSection
from appliance.store.content import ContentStore
from appliance.store.copier import Job, Lines, run
from appliance.verify import trust
from appliance.verify.fit import Machine
from appliance.verify.freshness import Decisions
from appliance.verify.trust import TrustRecord
from appliance.verify.verifier import Terms
from bundler.gpghome import short_homes
from bundler.metadata import canonical, signed_file
from bundler.signatory import Ceremony
from media.clock import FixedClock
from media.digest import file_sha256
from media.signers import tuf_signer
from tests.support.medium import MADE_AT, SimulatedMedium, make_medium

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Site:
    """A box below a folder, with a pinned root and nothing received yet."""

    config: Config
    clock: FixedClock = field(default_factory=lambda: FixedClock(at=NOW))
    seen: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def store(self) -> ContentStore:
        """Its store."""
        return ContentStore(self.config.at.store)

    @property
    def record(self) -> TrustRecord:
        """What it believes now."""
        places = self.config.at
        return trust.load(places.trust, places.pinned_trust, may_begin=True)

    def receive(self, medium: SimulatedMedium | Sequence[Path], **options: Any) -> ReceiveFacts:
        """Receive all volumes, with a real copier in a child process."""
        volumes = medium.volumes if isinstance(medium, SimulatedMedium) else medium
        return receive(
            self.config,
            volumes,
            clock=self.clock,
            progress=lambda done, total, path: self.seen.append((done, total, path)),
            options=Options(**options),
        )

    def facts(self, *prefixes: str) -> list[dict[str, Any]]:
        """Return what it told the ledger, which does not run: the spooled facts of these kinds."""
        files = sorted(self.config.at.spool.glob("*.json"))
        read = [json.loads(path.read_bytes()) for path in files]
        return [fact for fact in read if not prefixes or fact["kind"].startswith(prefixes)]

    def untouched(self) -> dict[str, str]:
        """Return digests of all that a refusal must leave alone: belief, objects, releases."""
        places = self.config.at
        folders = (places.trust, places.pinned_trust, self.store.objects, self.store.root / "releases")
        files = (path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(places.root)): file_sha256(path) for path in files}


class Shelf:
    """Fresh genuine media below a folder, each free to be spoilt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def __call__(self, **facts: Any) -> SimulatedMedium:
        """Return one; the facts are those of `make_medium`."""
        self._made += 1
        return make_medium(self._folder / f"medium-{self._made}", **facts)


def make_site(folder: Path, root_json: bytes, *, site: str = "demo-clinic", environment: Any = "demo") -> Site:
    """Return a fresh site that has this root pinned."""
    config = Config(site=site, environment=environment, profile="cpu", places=PlacesSection(root=str(folder)))
    config.at.pinned_trust.mkdir(parents=True)
    (config.at.pinned_trust / trust.PINNED_ROOT).write_bytes(root_json)
    return Site(config=config)


def terms_for(medium: SimulatedMedium, **changes: Any) -> Terms:
    """Return the terms of a site that has this medium's root pinned and nothing received."""
    terms = Terms(
        trust=TrustRecord(root_chain=(medium.root_json.decode(),)),
        site="demo-clinic",
        environment="demo",
        machine=replace(Machine.probe("cpu"), python="3.11", platform="linux_x86_64", glibc="2.36"),
        level="answered-on-cpu",
        serial_jump=1000,
        now=NOW,
        floor=MADE_AT,
        decisions=Decisions(),
    )
    return replace(terms, **changes)


def copy_here(medium: SimulatedMedium, store: Path | None, **changes: Any) -> tuple[int, list[dict[str, Any]]]:
    """Run the copier in this process; return its exit code and its lines."""
    full = changes.pop("full", False)
    job = Job(
        volumes=tuple(map(str, medium.volumes)),
        store="" if store is None else str(store),
        terms=terms_for(medium, **changes),
        full=full,
        lock=None,
    )
    said = io.StringIO()
    code = run(Job.from_bytes(job.to_bytes()), Lines(said))
    return code, [json.loads(line) for line in said.getvalue().splitlines()]


def rotated(
    ceremony: Ceremony,
    *,
    without: str = "",
    signed_by: Iterable[str] = ("alice", "bob"),
    version: int | None = None,
    environment: str | None = None,
) -> Ceremony:
    """Return the ceremony after a rotation of its root, in which a person may be gone; its folder stays as it was."""
    root, chain = copy.deepcopy(ceremony.root), ceremony.chain
    root.version = version if version is not None else root.version + 1
    people = root.unrecognized_fields["x-sealift-people"]
    for person in [each for each in people if each["id"] == without]:
        people.remove(person)
        gone = [keyid for own in person["keys"].values() for keyid in own]
        for role in root.roles.values():
            role.keyids = [keyid for keyid in role.keyids if keyid not in gone]
        for keyid in gone:
            del root.keys[keyid]
    if environment is not None:
        root.unrecognized_fields["x-sealift-environment"] = environment
    payload = canonical(root)
    names = list(signed_by)
    with short_homes([ceremony.home_of(name) for name in names]) as homes:
        signatures = [
            tuf_signer(home, ceremony.person(name).keys["root"][0].upper()).sign(payload)
            for name, home in zip(names, homes, strict=True)
        ]
    raw = signed_file(root, signatures)
    try:
        return Ceremony.from_chain(ceremony.folder, (*chain, raw))
    except Exception:  # noqa: BLE001 - a test may want a root that no ceremony would hold
        return replace(ceremony, chain=(*chain, raw), root=root)
