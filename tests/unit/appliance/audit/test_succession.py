"""Keys of checkpoints that follow each other: which signs which tree, and what does not count as a rotation."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit import note, succession, tree
from appliance.audit.facts import EvidenceLedger, Ledger
from appliance.audit.leaf import Leaf, Via, encode, encode_body
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.succession import ROTATED, Keys, Signing
from appliance.audit.verify import require_sound_tail, verify
from appliance.errors import KeyMissingError, LedgerDamagedError, ProofError
from media.clock import SystemClock
from media.errors import SealiftError

OWN = Via(door="ledger", uid=0)
ORIGIN = "sealift/demo/00000000"


def private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def signing(key: Ed25519PrivateKey, origin: str = ORIGIN) -> Signing:
    return Signing(key=note.VerifierKey(name=origin, public=key.public_key().public_bytes_raw()), sign=key.sign)


@dataclass
class History:
    """A ledger and every key that it had."""

    backend: MemoryBackend = field(default_factory=MemoryBackend)
    keys: list[Ed25519PrivateKey] = field(default_factory=lambda: [private()])

    def __post_init__(self) -> None:
        self.log = Log.open(self.backend, clock=SystemClock(), site="demo", signer=self.signer())

    def signer(self) -> Signer:
        key = self.keys[-1]
        return Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)

    def grow(self, count: int = 1) -> None:
        self.log.append([Entry.of("custody.accepted", {"n": n}, via=Via(door="x", uid=1)) for n in range(count)])

    def rotate(self) -> None:
        old, new = self.keys[-1], private()
        head = self.log.head()
        body = succession.body_of(
            note.Checkpoint(origin=self.log.origin, size=head.size, root=bytes.fromhex(head.root)),
            old=signing(old, self.log.origin),
            new=signing(new, self.log.origin),
            reason="an administrator left",
            version=len(self.keys) + 1,
        )
        self.log.append([Entry.of(ROTATED, body, via=OWN)])
        self.keys.append(new)
        self.log.signer = self.signer()

    def checkpoint_by(self, index: int, size: int) -> str:
        """Return a checkpoint of the first records as one of the keys would sign it."""
        head = note.Checkpoint(origin=self.log.origin, size=size, root=tree.root(size, self.backend.node))
        return succession.cosigned(head.to_text(), [signing(self.keys[index], self.log.origin)])

    @property
    def ledger(self) -> EvidenceLedger:
        return cast("EvidenceLedger", self.log)


@pytest.fixture
def history() -> History:
    """Three keys: the first signs trees of up to 5 records, the second of 5 to 8, the third from 8 on."""
    made = History()
    made.grow(3)
    made.rotate()
    made.grow(2)
    made.rotate()
    made.grow(2)
    return made


def test_each_key_signs_exactly_the_trees_of_its_range(history: History) -> None:
    keys = succession.of_ledger(history.ledger)

    assert [(held.first, held.last) for held in keys.of(history.log.origin)] == [(0, 5), (5, 8), (8, None)]
    for index, held in enumerate(keys.of(history.log.origin)):
        for size in range(1, history.log.head().size + 1):
            text = history.checkpoint_by(index, size)
            if held.signs(size):
                assert keys.checkpoint(text).size == size
            else:
                with pytest.raises(ProofError):
                    keys.checkpoint(text)


def test_the_log_signs_with_the_newest_key_and_opens_with_no_other(history: History) -> None:
    signed = note.verify_checkpoint(history.log.checkpoint(), [history.log.key])

    assert signed.size == history.log.head().size
    assert history.log.key != history.log.vkey
    for index in (0, 1):
        old = history.keys[index]
        with pytest.raises(KeyMissingError):
            Log.open(
                history.backend,
                clock=SystemClock(),
                site="demo",
                signer=Signer(public=old.public_key().public_bytes_raw(), sign=old.sign),
            )
    assert Log.open(history.backend, clock=SystemClock(), site="demo", signer=history.signer()).key == history.log.key


def test_who_pins_the_first_key_follows_to_the_newest(history: History) -> None:
    text = history.log.checkpoint()

    assert succession.verified(history.ledger, text, history.log.vkey).size == history.log.head().size
    assert verify(history.ledger, pinned=history.log.vkey).findings == ()
    require_sound_tail(history.backend)


def test_a_stranger_s_pin_leads_nowhere(history: History) -> None:
    stranger = signing(private(), history.log.origin).key

    with pytest.raises(ProofError):
        succession.verified(history.ledger, history.log.checkpoint(), stranger)
    assert verify(history.ledger, pinned=stranger).findings


def test_a_stolen_old_key_signs_nothing_larger_that_counts(history: History) -> None:
    for index in (0, 1):
        forged = history.checkpoint_by(index, history.log.head().size)

        with pytest.raises(ProofError, match="is not one of this ledger's keys"):
            succession.verified(history.ledger, forged, history.log.vkey)
        assert any("does not verify" in each for each in verify(history.ledger, notes=[forged]).findings)


def test_a_tree_rewritten_before_a_rotation_is_seen_though_the_new_key_signs_it(history: History) -> None:
    """Who has the newest key alone writes record 2 anew and everything after it again, old rotations among them."""
    origin, forged = history.log.origin, MemoryBackend()
    frontier: list[bytes] = []
    rows = history.backend.rows(0, 100)
    for row in rows:
        raw = row.raw.replace(b'"n":1', b'"n":7') if row.sequence == 2 else row.raw
        hashed = tree.leaf_hash(raw)
        forged.append([row._replace(raw=raw, hash=hashed)], tree.push(frontier, row.sequence, hashed))
    head = note.Checkpoint(origin=origin, size=len(rows), root=tree.root_of(frontier))
    text = succession.cosigned(head.to_text(), [signing(history.keys[-1], origin)])
    forged.save_checkpoint(head.size, text)
    log = Log.read(forged, clock=SystemClock())

    with pytest.raises(ProofError, match="is not one of this ledger's keys"):
        succession.verified(cast("Ledger", log), text, history.log.vkey)
    with pytest.raises(LedgerDamagedError):
        require_sound_tail(forged)
    assert any("over other records" in each for each in verify(cast("EvidenceLedger", log)).findings)


def test_a_rotation_on_another_branch_is_no_link(history: History) -> None:
    """The old key rotates again, after a fork: the record is not in the tree that the newest key signs."""
    branch = History.__new__(History)
    branch.backend, branch.keys = MemoryBackend(), [history.keys[0]]
    frontier: list[bytes] = []
    for row in history.backend.rows(0, 4):
        branch.backend.append([row], tree.push(frontier, row.sequence, row.hash))
    branch.log = Log.open(branch.backend, clock=SystemClock(), site="demo", signer=branch.signer())
    branch.grow(1)
    branch.rotate()
    text = branch.log.checkpoint()

    with pytest.raises(ProofError):
        succession.verified(history.ledger, text, history.log.vkey)
    assert verify(history.ledger, notes=[text]).findings


Spoil = Callable[[dict[str, Any], History], object]


def swapped(body: dict[str, Any], history: History) -> object:
    text, signatures = note.parts(body["note"])
    lines = [note.line(name, blob) for name, blob in reversed(signatures)]
    return body.update(note=f"{text}\n{''.join(lines)}")


def alone(body: dict[str, Any], _: History) -> object:
    text, signatures = note.parts(body["note"])
    return body.update(note=f"{text}\n{note.line(*signatures[0])}")


def of_another_size(body: dict[str, Any], history: History) -> object:
    new = note.VerifierKey.from_text(body["vkey"])
    head = note.Checkpoint(origin=history.log.origin, size=3, root=tree.root(3, history.backend.node))
    made = succession.statement(head, new)
    both = [signing(history.keys[0], history.log.origin), signing(history.keys[1], history.log.origin)]
    return body.update(note=succession.cosigned(made, both))


def by_a_stranger(body: dict[str, Any], history: History) -> object:
    stranger = signing(private(), history.log.origin)
    head = note.Checkpoint(origin=history.log.origin, size=4, root=tree.root(4, history.backend.node))
    old = signing(history.keys[0], history.log.origin)
    made = succession.body_of(head, old=stranger, new=old, reason="", version=2)
    return body.update(made, previous=old.key.to_text(), vkey=stranger.key.to_text())


def flipped(body: dict[str, Any], _: History) -> object:
    text = body["note"]
    return body.update(note=text[:-10] + ("A" if text[-10] != "A" else "B") + text[-9:])


SPOILT: dict[str, Spoil] = {
    "names-another-key": lambda body, history: body.update(vkey=signing(private(), history.log.origin).key.to_text()),
    "follows-another": lambda body, history: body.update(previous=signing(private(), history.log.origin).key.to_text()),
    "signatures-swapped": swapped,
    "old-key-alone": alone,
    "another-size": of_another_size,
    "by-a-stranger": by_a_stranger,
    "a-bit-flipped": flipped,
    "no-note": lambda body, _: body.update(note=""),
    "no-text": lambda body, _: body.update(note=7, vkey=None),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_the_old_key_did_not_sign_so_is_no_rotation(history: History, spoil: Spoil) -> None:
    leaf = history.log.leaf(4)
    body = dict(leaf.body)
    Keys([history.log.leaf(0), leaf])  # as it is, it counts
    spoil(body, history)
    raw = encode(origin=leaf.origin, sequence=4, time=leaf.time, kind=ROTATED, via=OWN, body=encode_body(ROTATED, body))

    with pytest.raises(SealiftError):
        Keys([history.log.leaf(0), Leaf.from_bytes(raw)])


def test_a_rotation_counts_once_at_its_place_and_no_key_comes_back(history: History) -> None:
    opening, first, second = (history.log.leaf(place) for place in (0, 4, 7))

    with pytest.raises(ProofError):
        Keys([opening, first, first])
    with pytest.raises(ProofError):
        Keys([opening, second])
    with pytest.raises(ProofError):
        Keys([first])
    back = succession.body_of(
        note.Checkpoint(origin=history.log.origin, size=10, root=bytes(32)),
        old=signing(history.keys[2], history.log.origin),
        new=signing(history.keys[0], history.log.origin),
        reason="",
        version=1,
    )
    raw = encode(
        origin=history.log.origin,
        sequence=10,
        time=first.time,
        kind=ROTATED,
        via=OWN,
        body=encode_body(ROTATED, back),
    )
    with pytest.raises(ProofError, match="rotates no key"):
        Keys([opening, first, second, Leaf.from_bytes(raw)])


def test_a_record_of_another_door_names_no_key(history: History) -> None:
    leaf = history.log.leaf(4)
    raw = leaf.raw.replace(b'"door":"ledger"', b'"door":"ledger-actions"')

    keys = Keys([history.log.leaf(0), Leaf.from_bytes(raw)])

    assert keys.in_force(history.log.origin) == history.log.vkey


def test_a_restored_ledger_goes_on_with_a_key_that_no_epoch_had(history: History) -> None:
    text = history.log.checkpoint()
    for key in history.keys:
        used = Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)
        with pytest.raises(KeyMissingError, match="epoch"):
            Log.begin_epoch(history.backend, clock=SystemClock(), site="demo", signer=used, facts={})
    key = private()
    fresh = Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)
    log = Log.begin_epoch(history.backend, clock=SystemClock(), site="demo", signer=fresh, facts={"by": ["a", "b"]})
    later = History.__new__(History)
    later.backend, later.keys, later.log = history.backend, [*history.keys, key], log
    later.grow(1)
    later.rotate()

    assert verify(later.ledger, pinned=log.vkey, notes=[text, history.checkpoint_by(0, 4)]).findings == ()
    assert succession.verified(later.ledger, log.checkpoint(), log.vkey).size == log.head().size
    stolen = history.checkpoint_by(1, 9)
    assert verify(later.ledger, pinned=log.vkey, notes=[stolen]).findings


def test_the_record_is_plain_and_says_who_and_why(history: History) -> None:
    body = json.loads(history.log.leaf(4).raw)["body"]

    assert (body["reason"], body["version"]) == ("an administrator left", 2)
    assert body["note"].split("\n")[3] == f"sealift/next-key {body['vkey']}"
