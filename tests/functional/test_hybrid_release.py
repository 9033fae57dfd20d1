"""Releases under a hybrid root, as a box sees them: received, signed again, with a half only, after a rotation."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bundler.attest import attest, choose_volumes
from bundler.custody import HandedOver, hand_over
from bundler.plan import ReleasePlan
from bundler.proposal import propose
from bundler.reissue import reissue
from bundler.rootsign import merge, sign_root
from bundler.seal import seal
from bundler.sign import sign
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from bundler.write import write
from media import layout
from media.bagit import parse_manifest, render_manifest
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.digest import sha256_hex
from media.errors import ThresholdError
from media.people import SignaturePolicy
from media.signers import detached_sign
from tests.support.candidate import candidate_plan, tiny_payload, write_candidate
from tests.support.gpg import GnuPG
from tests.support.members import Member, make_member
from tests.support.receiving import Site, make_site

pytestmark = pytest.mark.interop

CLOCK = FixedClock(at=datetime(2026, 11, 20, 8, tzinfo=UTC))
NAMES = ("alice", "bob", "carol")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Three hybrid people and their ceremony."""

    members: dict[str, Member]
    held: Ceremony

    def release(self, folder: Path, serial: int = 1) -> WorkFolder:
        """Return a release that Alice and Carol signed and sealed."""
        work, payload = WorkFolder(root=folder), tiny_payload()
        write_candidate(work, candidate_plan(payload, serial=serial), payload)
        choose_volumes(work, "alice", VolumeChoice(), ceremony=self.held, clock=CLOCK, place="Room 1")
        attest(work, "alice", ceremony=self.held, home=self.members["alice"].keys("release"))
        return self.signed(work)

    def signed(self, work: WorkFolder) -> WorkFolder:
        """Let Alice and Carol sign and seal."""
        for person in ("carol", "alice"):
            sign(work, person, ceremony=self.held, home=self.members[person].keys("release"))
        seal(work, "carol", ceremony=self.held, home=self.members["carol"].keys("release"))
        return work

    def written(self, work: WorkFolder, stick: Path) -> list[Path]:
        """Write a release and enter its first hand-over."""
        write(work, [stick], ceremony=self.held)
        facts = HandedOver(sender="Alice Example", receiver="Alice Example", place="Room 1")
        keys = self.members["alice"].keys("release")
        hand_over(stick, "alice", facts, ceremony=self.held, clock=CLOCK, home=keys)
        return [stick]


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory, gnupg: GnuPG) -> Sender:
    folder = tmp_path_factory.mktemp("hybrid")
    members = {name: make_member(folder / name, gnupg, name) for name in NAMES}
    first = propose(
        None,
        add=[member.joining for member in members.values()],
        environment="production",
        policy=SignaturePolicy.HYBRID,
    )
    signatures = [sign_root(first, name, held=None, home=members[name].keys("root")) for name in ("alice", "bob")]
    return Sender(members=members, held=merge(first, signatures, folder=folder / "c", held=None))


def site_of(sender: Sender, folder: Path) -> Site:
    return make_site(folder, sender.held.chain[0], environment="production")


def test_a_hybrid_release_is_received_and_its_reissue_taken(sender: Sender, tmp_path: Path) -> None:
    work, site = sender.release(tmp_path / "w"), site_of(sender, tmp_path / "site")
    again = WorkFolder(root=tmp_path / "again")

    received = site.receive(sender.written(work, tmp_path / "stick"))
    reissue(work, again, stale_after="2029-01-01T00:00:00Z")
    reissued = site.receive(sender.written(sender.signed(again), tmp_path / "stick-2"))

    assert ReleasePlan.load(again.plan).issue == 1
    assert (received.outcome, reissued.outcome) == ("received", "reissued")
    for facts in (received.facts, reissued.facts):
        assert facts["signature_policy"] == "hybrid"
        assert [each["person"] for each in facts["metadata_signers"]] == ["alice", "carol"]


def drop(stick: Path, name: str, keyids: set[str]) -> None:
    file = stick / layout.RELEASE / name
    value: Any = loads(file.read_bytes())
    value["signatures"] = [each for each in value["signatures"] if each["keyid"] not in keyids]
    file.write_bytes(dumps(value))


def reseal(sender: Sender, stick: Path) -> None:
    """Let thieves of two OpenPGP keys seal what lies there now."""
    release = stick / layout.RELEASE
    tags = parse_manifest((release / layout.TAG_MANIFEST).read_bytes())
    found = render_manifest({name: sha256_hex((release / name).read_bytes()) for name in tags})
    (release / layout.TAG_MANIFEST).write_bytes(found)
    for person in ("alice", "carol"):
        fingerprint = sender.held.person(person).fingerprint
        signature = detached_sign(sender.members[person].gnupg.home, fingerprint, found)
        (release / layout.signature_name(fingerprint)).write_bytes(signature)


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
@pytest.mark.parametrize("half", ["post-quantum", "classic"])
def test_a_half_that_was_taken_off_refuses_the_medium(sender: Sender, tmp_path: Path, role: str, half: str) -> None:
    """Two OpenPGP keys are stolen, and one half of the others is broken: the release still does not pass."""
    written = sender.written(sender.release(tmp_path / "w"), tmp_path / "stick")
    people = sender.held.people
    gone = {keyid for keyid in people.key_objects if people.is_post_quantum(keyid) is (half == "post-quantum")}
    name = layout.TIMESTAMP if role == "timestamp" else f"{layout.METADATA}/1.{role}.json"
    drop(tmp_path / "stick", name, gone)
    reseal(sender, tmp_path / "stick")
    site = site_of(sender, tmp_path / "site")
    before = site.untouched()

    with pytest.raises(ThresholdError) as refused:
        site.receive(written)

    lacks = "ML-DSA-87" if half == "post-quantum" else "classic"
    assert f"alice lacks the {lacks} signature, carol lacks the {lacks} signature" in refused.value.why
    assert site.untouched() == before


def test_a_rotation_under_the_policy_travels_with_the_next_release(
    sender: Sender, tmp_path: Path, gnupg: GnuPG
) -> None:
    site = site_of(sender, tmp_path / "site")
    site.receive(sender.written(sender.release(tmp_path / "w"), tmp_path / "stick"))
    dan = make_member(tmp_path / "dan", gnupg, "dan")
    folder = Path(shutil.copytree(sender.held.folder, tmp_path / "c"))
    held = Ceremony.load(folder)
    proposal = propose(held, add=[dan.joining], remove=["bob"])
    signatures = [
        sign_root(proposal, name, held=held, home=sender.members[name].keys("root")) for name in ("alice", "carol")
    ]

    after = Sender(members={**sender.members, "dan": dan}, held=merge(proposal, signatures, folder=folder, held=held))
    facts = site.receive(after.written(after.release(tmp_path / "w2", serial=2), tmp_path / "stick-2")).facts

    assert facts["root_version"] == 2
    assert [each["person"] for each in facts["signers"]] == ["alice", "carol"]
