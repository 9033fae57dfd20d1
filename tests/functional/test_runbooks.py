"""The runbooks of docs/runbooks/, step by step with real keys: what the sender does, and what a site then takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from appliance.actions import affected, doubting, emergency, replacing
from appliance.actions import trust as trust_action
from appliance.audit.client import open_ledger
from appliance.errors import ConflictError
from appliance.registry import carriers, origin
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify.trust import RECORD
from bundler import emergency as table
from bundler.gpghome import short_home
from bundler.joining import Brought, Joining, join
from bundler.privatekeys import PrivateKeys
from bundler.proposal import propose
from bundler.rootsign import merge, sign_root
from bundler.signatory import Ceremony
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.emergency import Reason
from media.errors import (
    BadSignatureError,
    DigestMismatchError,
    MalformedError,
    NoTrustError,
    SupersededError,
    ThresholdError,
    UsageError,
)
from media.gpgagent import stop_agents
from media.limits import MODELS
from media.signers import generate_key
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import NOW, Site, make_site

pytestmark = pytest.mark.fault

ALL = ("root", "release", "custody", "rehearsal")


@dataclass(slots=True)
class Sender:
    """A sender whose people each have a GnuPG home; it stands for their machines."""

    folder: Path
    serial: int = 0

    @property
    def held(self) -> Ceremony:
        """The ceremony as it is now."""
        return Ceremony.load(self.folder)

    def home(self, person: str) -> Path:
        """Return where a person's keys lie."""
        return self.folder / "people" / person / "gnupg"

    def joining(self, person: str) -> Joining:
        """Make a person's two keys, on their own machine, and the file that they bring."""
        home = self.home(person)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with short_home(home) as short:
            keys = [
                generate_key(short, f"{person} {use}", f"{person}@throwaway.invalid") for use in ("root", "release")
            ]
        brought = Brought(home=home, root=(f"gpg:{keys[0]}",), release=(f"gpg:{keys[1]}",), keys=PrivateKeys(home=home))
        return Joining.from_bytes(join(person, f"{person.title()} Person", ALL, brought))

    def root(self, *, add: Sequence[str] = (), remove: Sequence[str] = (), signed_by: Sequence[str]) -> Ceremony:
        """Propose the next root, have each person sign it apart, and merge what they hand in."""
        held = self.held if (self.folder / "root").is_dir() else None
        joining = [self.joining(person) for person in add]
        made = propose(held, add=joining, remove=remove, environment="" if held else "demo")
        handed_in = [sign_root(made, person, held=held, home=self.home(person)) for person in signed_by]
        return merge(made, handed_in, folder=self.folder, held=held)

    def release(self, folder: Path, *, files: Mapping[str, bytes] | None = None) -> SimulatedMedium:
        """Sign the next release by the first two people of the root."""
        self.serial += 1
        return make_medium(folder / f"serial-{self.serial}", serial=self.serial, keys=self.held, files=files)

    def note(self, revoked: Sequence[str], signed_by: Sequence[str], since: datetime) -> bytes:
        """Write an emergency note about people's release keys."""
        held = self.held
        named = [(person, ("release",)) for person in revoked]
        clock = FixedClock(at=NOW)
        made = table.draft(held, named, number=1, reason=Reason.STOLEN, since=since, clock=clock).to_bytes()
        for person in signed_by:
            made = table.sign(made, held, held.signatory(person, self.home(person)))
        return made


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    made = Sender(tmp_path / "sender")
    made.root(add=("bob", "carol", "alice"), signed_by=("bob", "carol", "alice"))
    yield made
    for home in tmp_path.glob("*/people/*/gnupg"):
        stop_agents(home)


@pytest.fixture
def site(tmp_path: Path, sender: Sender) -> Site:
    box = make_site(tmp_path / "box", sender.held.chain[0])
    box.receive(sender.release(tmp_path))
    return box


def test_one_signer_lost(tmp_path: Path, sender: Sender, site: Site) -> None:
    """Carol's token fell into the sea: the others go on, a root without her follows, and nothing stops."""
    sender.root(add=("dan",), remove=("carol",), signed_by=("bob", "alice", "dan"))

    assert site.receive(sender.release(tmp_path)).outcome == "received"

    believed = trust_action.show(site.config)
    assert believed.root_version == 2
    assert [person["person"] for person in believed.people] == ["bob", "alice", "dan"]


def test_one_key_stolen(tmp_path: Path, sender: Sender, site: Site) -> None:
    """Bob's release key was copied: nobody can sign alone, the note stops it at once, the next root replaces it."""
    note = sender.note(["bob"], ["alice", "carol"], NOW)
    emergency.accept(site.config, note, clock=site.clock)
    with pytest.raises(ThresholdError) as refused:
        site.receive(sender.release(tmp_path))  # bob and carol signed it
    assert "the key of bob was taken away" in refused.value.why
    assert trust_action.show(site.config).taken == ({"note": 1, "person": "bob", "keys": ["release"]},)

    sender.root(add=("bob",), remove=("bob",), signed_by=("alice", "carol", "bob"))

    assert site.receive(sender.release(tmp_path)).outcome == "received"
    believed = trust_action.show(site.config)
    assert (believed.root_version, believed.taken) == (2, ())
    assert site.record.notes == (note.decode(),)


def test_two_keys_stolen(tmp_path: Path, sender: Sender, site: Site) -> None:
    """Two release keys are enough to sign: what thieves made is taken until the note comes, and named afterwards."""
    unprotected = make_site(tmp_path / "far", sender.held.chain[0])
    thieves = make_medium(tmp_path / "thieves", serial=2, keys=sender.held)
    assert unprotected.receive(thieves).outcome == "received"

    note = sender.note(["bob", "carol"], ["bob", "carol"], site.clock.now())  # with their root keys, kept apart
    emergency.accept(site.config, note, clock=site.clock)
    before = site.untouched()
    with pytest.raises(ThresholdError):
        site.receive(thieves)
    assert site.untouched() == before

    (version,) = versions_of(unprotected, 2)
    assert emergency.accept(unprotected.config, note, clock=unprotected.clock).doubted == (version,)
    doubt = affected.by_note(unprotected.config, None)
    ledger = open_ledger(unprotected.config, trust_action.DOOR, spool=True, clock=unprotected.clock)
    found = affected.affected(unprotected.config, ledger, doubt)
    ledger.close()
    assert [(each.serial, each.verdict, each.doubted) for each in found] == [(2, "in-doubt", ("bob", "carol"))]

    sender.root(add=("bob", "carol"), remove=("bob", "carol"), signed_by=("bob", "carol", "alice"))
    sender.serial = 2
    genuine = sender.release(tmp_path, files=tiny_payload(serial=2))
    assert site.receive(genuine).outcome == "received"
    assert unprotected.receive(genuine).outcome == "received"
    # The same version under new keys: what it is was never the fault.
    assert versions_of(unprotected, 3) == [version]
    assert doubted_at(unprotected) == frozenset()


def test_what_only_stolen_keys_brought_stays_in_doubt_without_its_release_and_under_a_second_note(
    tmp_path: Path, sender: Sender
) -> None:
    site = make_site(tmp_path / "far", sender.held.chain[0])
    site.receive(make_medium(tmp_path / "thieves", serial=2, keys=sender.held))
    (version,) = versions_of(site, 2)

    # Carol's key alone: bob's and alice's are not in doubt, and bob signed, too, but two are needed.
    note = sender.note(["carol"], ["bob", "alice"], site.clock.now())
    assert emergency.accept(site.config, note, clock=site.clock).doubted == (version,)
    ContentStore(site.config.at.store).release_folder(2).rename(tmp_path / "gone")

    again = emergency.accept(site.config, note, clock=site.clock)
    assert (again.outcome, again.doubted) == ("known", (version,))
    second = sender.note(["carol"], ["alice", "bob"], site.clock.now() - timedelta(seconds=1))
    assert emergency.accept(site.config, second, clock=site.clock).doubted == (version,)


def test_a_release_that_says_nothing_of_its_content_keeps_no_other_from_being_judged(
    tmp_path: Path, sender: Sender
) -> None:
    site = make_site(tmp_path / "far", sender.held.chain[0])
    site.receive(make_medium(tmp_path / "thieves", serial=2, keys=sender.held))
    silent = {path: data for path, data in tiny_payload(serial=3).items() if path != "data/release.json"}
    site.receive(make_medium(tmp_path / "silent", serial=3, keys=sender.held, files=silent))
    (version,) = versions_of(site, 2)

    note = sender.note(["bob", "carol"], ["bob", "carol"], site.clock.now())

    assert emergency.accept(site.config, note, clock=site.clock).doubted == (version,)
    assert carriers.carrier(ContentStore(site.config.at.store), version)[0].serial == 2  # nor from starting again


def test_a_release_that_names_more_versions_than_one_may_brings_none_and_fills_no_record(
    tmp_path: Path, sender: Sender
) -> None:
    site = make_site(tmp_path / "far", sender.held.chain[0])
    site.receive(make_medium(tmp_path / "genuine", serial=2, keys=sender.held))
    payload = tiny_payload(serial=3)
    facts = loads(payload["data/release.json"])
    facts["models"] *= MODELS + 1
    site.receive(
        make_medium(tmp_path / "many", serial=3, keys=sender.held, files=payload | {"data/release.json": dumps(facts)})
    )
    (version,) = versions_of(site, 2)

    note = sender.note(["bob", "carol"], ["bob", "carol"], site.clock.now())

    assert emergency.accept(site.config, note, clock=site.clock).doubted == (version,)
    store = ContentStore(site.config.at.store)
    assert carriers.carrier(store, version)[0].serial == 2
    with pytest.raises(MalformedError) as refused:
        carriers.carrier(store, versions_of(site, 3)[0])
    assert "at most 256 items" in refused.value.why


def versions_of(site: Site, serial: int) -> list[str]:
    stored = StoredRelease.load(ContentStore(site.config.at.store), serial)
    return [stored.files[model["descriptor"]].sha256 for model in stored.contents()["models"]]


def doubted_at(site: Site) -> frozenset[str]:
    ledger = open_ledger(site.config, trust_action.DOOR, spool=True, clock=site.clock)
    try:
        return doubting.standing(site.config, ledger)
    finally:
        ledger.close()


def test_notes_come_back_in_the_order_in_which_they_were_taken(tmp_path: Path, sender: Sender, site: Site) -> None:
    """The second note takes the root key of who signed the first; it did not before."""
    medium = sender.release(tmp_path)
    site.receive(medium)
    first = sender.note(["carol"], ("alice", "bob"), NOW - timedelta(days=1))
    clock, named = FixedClock(at=NOW), [("bob", ("root",))]
    second = table.draft(sender.held, named, number=2, reason=Reason.LOST, since=NOW, clock=clock).to_bytes()
    for person in ("alice", "carol"):
        second = table.sign(second, sender.held, sender.held.signatory(person, sender.home(person)))
    for note in (first, second):
        emergency.accept(site.config, note, clock=site.clock)
    believed = site.record.notes
    assert len(believed) == 2
    (site.config.at.trust / RECORD).unlink()

    trust_action.recover(site.config, [medium.code] * 2, ["Ann Old", "Ben Young"], checkpoint="", clock=site.clock)

    assert site.record.notes == believed


def test_recovery_takes_no_new_root_by_keys_that_a_note_took_away(tmp_path: Path, sender: Sender, site: Site) -> None:
    """Two of four root keys are stolen: as many as a root needs. Thieves hand in a root while the record is lost."""
    sender.root(add=("dan",), signed_by=("alice", "bob", "dan"))
    medium = sender.release(tmp_path)
    site.receive(medium)
    clock, named = FixedClock(at=NOW), [("carol", ("root",)), ("dan", ("root",))]
    note = table.draft(sender.held, named, number=1, reason=Reason.STOLEN, since=NOW, clock=clock).to_bytes()
    for person in ("alice", "bob"):
        note = table.sign(note, sender.held, sender.held.signatory(person, sender.home(person)))
    emergency.accept(site.config, note, clock=site.clock)
    stolen = tmp_path / "3.root.json"
    stolen.write_bytes(sender.root(remove=("alice",), signed_by=("carol", "dan")).chain[2])
    (site.config.at.trust / RECORD).unlink()

    names, codes = ["Ann Old", "Ben Young"], [medium.code] * 2
    trust_action.recover(site.config, codes, names, checkpoint="", clock=site.clock, roots=[stolen])

    assert len(site.record.root_chain) == 2
    assert site.record.notes == (note.decode(),)


def test_threshold_lost(tmp_path: Path, sender: Sender, site: Site) -> None:
    """Two of three lost their keys: no root can follow, so two people at the site begin anew, by hand."""
    site.receive(sender.release(tmp_path))
    heirs = Sender(tmp_path / "heirs", serial=sender.serial)
    heirs.root(add=("alice", "dan", "eve"), signed_by=("alice", "dan", "eve"))
    medium = heirs.release(tmp_path / "new")
    with pytest.raises(BadSignatureError):
        site.receive(medium)

    def replace(codes: Sequence[str], *names: str) -> trust_action.TrustFacts:
        root = medium.path("metadata/1.root.json", volume=1)
        return replacing.replace_root(site.config, root, codes, names, reason="two tokens burnt", clock=site.clock)

    note = sender.note(["bob"], ("alice", "carol"), NOW - timedelta(days=1))
    assert emergency.accept(site.config, note, clock=site.clock).outcome == "accepted"
    before = site.untouched()
    with pytest.raises(DigestMismatchError):
        replace([medium.code, "0" * 64], "Ann Old", "Ben Young")
    with pytest.raises(UsageError):
        replace([medium.code] * 2, "Ann Old", "ann  old")
    assert site.untouched() == before
    replace([medium.code] * 2, "Ann Old", "Ben Young")
    with pytest.raises(ConflictError):
        replace([medium.code] * 2, "Ann Old", "Ben Young")

    with pytest.raises((BadSignatureError, SupersededError)):
        site.receive(make_medium(tmp_path / "old", serial=4, keys=sender.held))
    with pytest.raises(SupersededError):
        site.receive(make_medium(tmp_path / "low", serial=1, keys=heirs.held))
    assert site.receive(medium).outcome == "received"

    for serial in (1, 2, 3):  # what came under the old root stays provable beside what came under the new one
        stored = StoredRelease.load(site.store, serial)
        assert len(origin.signed_terms(stored, origin.chain_for(site.config, stored)).signers) == 2
    ledger = open_ledger(site.config, "ledger-actions", spool=True, clock=site.clock)
    touched = affected.affected(site.config, ledger, affected.by_person(site.config, "bob", None))
    assert affected.by_note(site.config, None).keys < affected.by_person(site.config, "bob", None).keys
    assert [each.serial for each in touched] == [2, 1]  # of the old root's people nobody is in the new one but alice
    ledger.close()
    recorded = site.facts("trust.replaced")
    assert [fact["body"]["names"] for fact in recorded] == [["Ann Old", "Ben Young"]]

    record = site.record
    (site.config.at.trust / RECORD).unlink()
    trust_action.recover(site.config, [medium.code] * 2, ["Ann Old", "Ben Young"], checkpoint="", clock=site.clock)
    assert site.record.former == record.former
    assert site.record.root_chain == record.root_chain


def test_a_replacement_that_was_cut_off_is_finished_by_running_it_again(
    tmp_path: Path, sender: Sender, site: Site
) -> None:
    heirs = Sender(tmp_path / "heirs", serial=sender.serial)
    heirs.root(add=("alice", "dan", "eve"), signed_by=("alice", "dan", "eve"))
    medium = heirs.release(tmp_path / "new")
    root = medium.path("metadata/1.root.json", volume=1)
    old = (site.config.at.trust / RECORD).read_bytes()
    names, codes = ["Ann Old", "Ben Young"], [medium.code] * 2
    replacing.replace_root(site.config, root, codes, names, reason="burnt", clock=site.clock)
    (site.config.at.trust / RECORD).write_bytes(old)  # the cut: pinned and recorded, and not yet believed

    with pytest.raises(NoTrustError, match="does not begin with the pinned root"):
        site.receive(medium)
    replacing.replace_root(site.config, root, codes, names, reason="burnt", clock=site.clock)

    assert site.receive(medium).outcome == "received"
    assert len(site.facts("trust.replaced")) == 1
