"""Two boxes of one site in one process: real keys, real files, real signatures, ledgers in memory."""

import base64
from pathlib import Path

import pytest

from appliance.actions.standby import introducing, keeping, taking
from appliance.actions.standby.keeping import Grown, Made
from appliance.actions.standby.taking import TakenOver
from appliance.audit import pin, rotating
from appliance.audit.log import Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.keys.files import FileKeys, create_missing
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation
from tests.support.promotion import Site, open_site
from tests.support.rotation import renew
from tests.support.signatories import signatories


def b64(data: bytes) -> str:
    """Return bytes as they go in a message."""
    return base64.b64encode(data).decode()


def open_box(root: Path) -> Site:
    """Return a site nobody is enrolled at, whose ledger is signed with the box's own key file."""
    box = open_site(root, enrolled=0)
    create_missing(box.config.at.key_files)
    keys = keys_of(box)
    signer = Signer(public=keys.public("ledger-checkpoint"), sign=lambda data: keys.sign("ledger-checkpoint", data))
    box.ledger.log = Log.open(MemoryBackend(), clock=box.clock, site=box.config.site, signer=signer)
    pin.pin(box.config.at, box.ledger.log.vkey)
    return box


def keys_of(box: Site) -> FileKeys:
    """Return the box's keys."""
    return FileKeys(box.config.at.key_files)


def signer(box: Site) -> Signer:
    """Return what signs for the box's ledger."""
    return rotating.in_force(box.ledger, keys_of(box))


def rotate(box: Site) -> None:
    """Renew the key of the box's ledger: what `sealift box-keys rotate ledger-checkpoint` and the ledger's start do."""
    renew(box.ledger.log, keys_of(box))


def card(box: Site, name: str) -> introducing.CardFacts:
    """Return the box's card."""
    return introducing.make_card(box.config, name, ledger=box.ledger, keys=keys_of(box), clock=box.clock)


def half(box: Site, peer: introducing.CardFacts, *, is_first: bool, relation: Relation = Relation.STANDBY) -> bytes:
    """Return the box's half of a pairing, after two people typed the right code."""
    _, made = introducing.offer(
        box.config,
        peer.file,
        relation=relation,
        is_first=is_first,
        codes=[peer.card.code] * 2,
        by=["Ana", "Ben"],
        ledger=box.ledger,
        keys=keys_of(box),
    )
    return made


def pair(
    first: Site, second: Site, relation: Relation = Relation.STANDBY, *, names: tuple[str, str] = ("one", "two")
) -> None:
    """Introduce two boxes to each other as people do."""
    one, two = card(first, names[0]), card(second, names[1])
    halves = half(first, two, is_first=True, relation=relation), half(second, one, is_first=False, relation=relation)
    introducing.join(first.config, halves[0], halves[1], ledger=first.ledger)
    introducing.join(second.config, halves[1], halves[0], ledger=second.ledger)


def set_up_anew(second: Site, root: Path) -> Site:
    """Return a new box whose primary is the second one, `two`: the first one is lost."""
    introducing.part(second.config, "one", by=["Ana", "Ben"], reason="its disk died", ledger=second.ledger)
    new = open_box(root)
    pair(second, new, names=("two", "new"))
    return new


def bundle(box: Site, peer: str, since: int | None = None) -> Made:
    """Return what the box gives its peer."""
    return keeping.make(box.config, peer, since=since, ledger=box.ledger, keys=keys_of(box), clock=box.clock)


def grow(box: Site, made: Made, peer: str) -> Grown:
    """Take a bundle of the peer into its mirror."""
    return keeping.grow(box.config, made.envelope, made.leaves, peer=peer, ledger=box.ledger)


def take(box: Site, peer: str) -> TakenOver:
    """Take over what the mirror of the peer holds."""
    return taking.take_over(box.config, peer, ledger=box.ledger, promoter=box.client, clock=box.clock)


def carry(source: Site, target: Site, *, name: str, peer: str) -> TakenOver:
    """Bring all of `source` (called `peer`) to `target` (called `name`) and take it over."""
    grow(target, bundle(source, name), peer)
    return take(target, peer)


def proven(box: Site, sequence: int) -> Carried:
    """Return one record of the box's ledger with its proof."""
    box.ledger.checkpoint()
    return Carried.of(box.ledger, sequence)


@pytest.fixture
def first(tmp_path: Path) -> Site:
    """One box of a pair."""
    return open_box(tmp_path / "one")


@pytest.fixture
def second(first: Site, tmp_path: Path) -> Site:
    """The other; two people are enrolled at the first."""
    second = open_box(tmp_path / "two")
    pair(first, second)
    first.enrol(*signatories()[:2])
    return second
