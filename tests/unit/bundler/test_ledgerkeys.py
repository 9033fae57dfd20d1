"""The register follows a renewed ledger key by what receipts bring, and believes nobody who was not named."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from securesystemslib import dsse

from appliance.audit import note as notes
from appliance.audit import rotating, succession
from appliance.audit.log import Signer
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, PlacesSection
from appliance.keys.files import FileKeys
from bundler import ledgerkeys
from bundler.dispatch import record_receipt, record_site
from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import LedgerKey
from bundler.register import Register
from bundler.registertable import history as history_of
from bundler.registertable import history_text
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.digest import sha256_hex
from media.errors import BadSignatureError, MalformedError, UsageError
from tests.support.medium import SimulatedMedium
from tests.support.rotation import BEGIN, Rotated, renew, with_keys
from tests.unit.bundler.test_register import SITE, changed, medium, receipt, written

__all__ = ["medium"]  # a fixture


@dataclass
class Sender:
    """A register that knows a site's first key, and that site's ledger and keys."""

    register: Register
    clock: FixedClock
    ledger: MemoryLedger
    keys: FileKeys
    folder: Path
    medium: SimulatedMedium

    def receipt(self, **other: Any) -> bytes:
        return receipt(self.folder, self.medium, self.ledger, **other)

    def enter(self, untrusted: bytes) -> bool:
        return record_receipt(self.register, untrusted, clock=self.clock)[1]

    def renew(self) -> None:
        renew(self.ledger.log, self.keys)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.register.entries()]


@pytest.fixture
def sender(tmp_path: Path, medium: SimulatedMedium) -> Sender:
    clock, register, ledger = FixedClock(BEGIN), Register(folder=tmp_path / "register"), MemoryLedger(site=SITE)
    config = Config(site=SITE, places=PlacesSection(root=str(tmp_path / "box")))
    keys = with_keys(ledger, config.at.key_files, site=SITE)
    record_site(register, SITE, LedgerKey.from_text(ledger.log.vkey.to_text()), replaces=False, clock=clock)
    for number in (1, 2):
        written(register, medium, clock, number)
    return Sender(register, clock, ledger, keys, tmp_path, medium)


def test_receipts_of_every_key_are_entered_and_the_register_follows_by_itself(sender: Sender) -> None:
    before = sender.receipt()
    sender.renew()
    late = sender.receipt(rehearsal_level="none")
    sender.renew()
    last = sender.receipt(bytes=2)

    assert [sender.enter(one) for one in (last, before, late, last)] == [True, True, True, False]
    assert sender.kinds()[3:] == ["succession", "succession", "receipt", "receipt", "receipt"]
    known = ledgerkeys.of_site(sender.register.entries(), SITE)
    assert known is not None
    held = sender.ledger.log.keys.of(sender.ledger.log.origin)
    assert [(one.key.to_text(), one.first, one.last) for one in known.held] == [
        (one.key.to_text(), one.first, one.last) for one in held
    ]
    assert "ledger key of demo-clinic renewed" in history_text(history_of(sender.register.entries()))


def test_what_people_wrote_about_the_renewal_stays_at_the_site(sender: Sender) -> None:
    sender.renew()

    assert "Petrova" in str(sender.ledger.find(kind=succession.ROTATED)[0].body)
    assert b"Petrova" not in b64decode(loads(sender.receipt())["payload"])
    assert sender.enter(sender.receipt())
    assert b"Petrova" not in sender.register.file.read_bytes()


def spoilt(envelope: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a receipt with another proof, which alone vouches for it: whoever changes it takes the signature off."""
    return _signed(changed(envelope, lambda payload: change(payload["ledger"])))


def without(proof: dict[str, Any]) -> None:
    proof["succession"] = []


def cut(proof: dict[str, Any]) -> None:
    proof["succession"] = proof["succession"][1:]


def turned(proof: dict[str, Any]) -> None:
    proof["succession"] = proof["succession"][::-1]


def by_one_alone(proof: dict[str, Any]) -> None:
    text, _, tail = proof["succession"][0].rpartition("\n\n")
    proof["succession"][0] = f"{text}\n\n{tail.splitlines()[1]}\n"


def other_size(proof: dict[str, Any]) -> None:
    lines = proof["succession"][0].split("\n")
    proof["succession"][0] = "\n".join([lines[0], str(int(lines[1]) + 1), *lines[2:]])


def no_text(proof: dict[str, Any]) -> None:
    proof["succession"] = "notes"


@pytest.mark.parametrize("change", [without, cut, turned, by_one_alone, other_size, no_text])
def test_a_succession_that_was_changed_is_refused_and_nothing_is_entered(
    sender: Sender, change: Callable[[dict[str, Any]], None]
) -> None:
    sender.renew()
    sender.renew()

    with pytest.raises((BadSignatureError, MalformedError)):
        sender.enter(spoilt(sender.receipt(), change))

    assert sender.kinds() == ["site", "written", "written"]


def test_a_ledger_that_names_its_key_with_another_ledgers_is_refused(sender: Sender, tmp_path: Path) -> None:
    """Somebody signs a receipt with a key of theirs and a note by which only they named it."""
    other = MemoryLedger(site=SITE)
    keys = with_keys(other, tmp_path / "others", site=SITE)
    renew(other.log, keys)
    held = [one.key for one in other.log.keys.of(other.log.origin)]
    (leaf,) = other.find(kind=succession.ROTATED)
    first = sender.ledger.log.vkey
    text, _ = notes.parts(leaf.body["note"])
    forged = succession.cosigned(
        text,
        [
            succession.Signing(key=first, sign=rotating.signer_of(keys, 1).sign),
            succession.Signing(key=held[1], sign=rotating.signer_of(keys, 2).sign),
        ],
    )

    def shown(proof: dict[str, Any]) -> None:
        proof["succession"] = [forged]

    with pytest.raises(BadSignatureError):
        sender.enter(spoilt(receipt(tmp_path / "o", sender.medium, other), shown))


def test_the_older_key_signs_no_larger_tree_and_names_no_second_follower(sender: Sender) -> None:
    sender.renew()
    assert sender.enter(sender.receipt())
    log, known = sender.ledger.log, ledgerkeys.of_site(sender.register.entries(), SITE)
    assert known is not None
    stolen, head = rotating.signer_of(sender.keys, 1), log.head()
    text = notes.Checkpoint(origin=log.origin, size=head.size, root=bytes.fromhex(head.root)).to_text()

    with pytest.raises(BadSignatureError, match="does not hold"):
        known.checkpoint(notes.sign(text, log.vkey, stolen.sign))
    thief = Rotated()
    _, key = thief.keys[0]
    new = notes.VerifierKey(name=log.origin, public=key.public_key().public_bytes_raw())
    again = succession.statement(notes.Checkpoint(origin=log.origin, size=3, root=bytes(32)), new)
    signed = succession.cosigned(
        again, [succession.Signing(key=log.vkey, sign=stolen.sign), succession.Signing(key=new, sign=key.sign)]
    )
    with pytest.raises(BadSignatureError, match="does not hold"):
        known.followed([signed])
    assert SiteKeys.of(known.keys[0]).followed([signed]).keys[1].public == new.public  # before the box said otherwise


def test_every_changed_character_of_a_note_is_refused(sender: Sender) -> None:
    sender.renew()
    (leaf,) = sender.ledger.find(kind=succession.ROTATED)
    note, compared = str(leaf.body["note"]), SiteKeys.of(LedgerKey.from_text(sender.ledger.log.vkey.to_text()))
    assert len(compared.followed([note]).keys) == 2

    for place in range(len(note)):
        for other in "A\n+ 7\u2014":
            if other != note[place]:
                # Without the signature of the compared key it is a note of before it, which leads nowhere.
                with suppress(BadSignatureError, MalformedError):
                    assert compared.followed([note[:place] + other + note[place + 1 :]]) == compared


def test_a_signature_alone_counts_by_the_key_in_force(sender: Sender) -> None:
    def bare(payload: dict[str, Any]) -> None:
        payload["ledger"] = None

    sender.renew()
    assert sender.enter(sender.receipt())

    with pytest.raises(BadSignatureError):
        sender.enter(changed(sender.receipt(), bare))  # its signature is of other bytes
    with pytest.raises(BadSignatureError, match="by another key"):
        sender.enter(_signed(changed(sender.receipt(), bare), rotating.signer_of(sender.keys, 1)))
    assert sender.enter(_signed(changed(sender.receipt(), bare), rotating.signer_of(sender.keys, 2)))


def test_a_later_key_of_the_site_may_be_the_one_that_was_compared(sender: Sender) -> None:
    sender.renew()
    second = LedgerKey.from_text(sender.ledger.log.key.to_text())
    record_site(sender.register, SITE, second, replaces=True, clock=sender.clock)
    sender.renew()

    # Each brings all renewals from the ledger's first key on, those of before the compared key among them.
    assert sender.enter(sender.receipt())
    assert sender.enter(sender.receipt(rehearsal_level="none"))
    sender.renew()
    assert sender.enter(sender.receipt(bytes=2))
    assert sender.kinds().count("succession") == 2
    record_site(sender.register, SITE, second, replaces=False, clock=sender.clock)
    with pytest.raises(UsageError, match="another ledger key"):
        record_site(
            sender.register, SITE, LedgerKey.from_text(Rotated().log.vkey.to_text()), replaces=False, clock=sender.clock
        )
    assert sender.kinds().count("site") == 2


def test_what_a_thief_named_first_is_forgotten_once_the_site_compares_its_key_again(sender: Sender) -> None:
    """Scenario: a copy of the key names a key of the thief's before the site renews; its true receipts are refused."""
    first = LedgerKey.from_text(sender.ledger.log.vkey.to_text())
    stolen, (_, key) = rotating.signer_of(sender.keys, 1), Rotated().keys[0]
    new = notes.VerifierKey(name=sender.ledger.log.origin, public=key.public_key().public_bytes_raw())
    told = succession.statement(notes.Checkpoint(origin=new.name, size=1, root=bytes(32)), new)
    signed = succession.cosigned(
        told,
        [
            succession.Signing(key=sender.ledger.log.vkey, sign=stolen.sign),
            succession.Signing(key=new, sign=key.sign),
        ],
    )
    ledgerkeys.remember(sender.register, SITE, SiteKeys.of(first).followed([signed]), clock=sender.clock)
    sender.renew()
    with pytest.raises(BadSignatureError):
        sender.enter(sender.receipt())

    record_site(sender.register, SITE, first, replaces=False, clock=sender.clock)
    with pytest.raises(BadSignatureError):
        sender.enter(sender.receipt())
    record_site(sender.register, SITE, first, replaces=True, clock=sender.clock)

    assert sender.enter(sender.receipt())
    assert sender.kinds()[3:] == ["succession", "site", "succession", "receipt"]


def _signed(envelope: bytes, signer: Signer | None = None) -> bytes:
    """Return a receipt with one signature by this key, or with none."""
    value = dict(loads(envelope))
    signed = dsse.Envelope(b64decode(value["payload"]), value["payloadType"], {}).pae()
    made = (
        [] if signer is None else [{"keyid": sha256_hex(signer.public), "sig": b64encode(signer.sign(signed)).decode()}]
    )
    return dumps({**value, "signatures": made})
