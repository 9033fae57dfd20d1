"""Checkpoints signed twice stay so when either key is renewed, and both readers say which key nobody vouched for."""

from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from appliance.actions.auditing.making import Wanted, make
from appliance.audit import cosigning, note, succession
from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.rotating import ASKED, KEY_NAME
from appliance.audit.verify import verify
from appliance.keys.files import FileKeys
from media.clock import SystemClock
from tests.support import checker
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.rotation import Rotated

pytestmark = pytest.mark.interop


@pytest.fixture
def module() -> ModuleType:
    return checker.loaded()


def renew(site: LedgerSite, *names: str) -> None:
    """Ask for new keys as `sealift box-keys rotate` does, through the running ledger."""
    keys = FileKeys(site.places.key_files)
    with closing(site.door("ledger-actions")) as door:
        for name in names:
            door.append(ASKED, {"name": name, "version": keys.create(name), "reason": "yearly"})


def test_both_keys_are_renewed_and_every_checkpoint_of_the_service_is_signed_twice(
    tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with ledger_site(tmp_path) as site:
        for names in ((KEY_NAME,), (cosigning.KEY_NAME,), (KEY_NAME, cosigning.KEY_NAME)):
            with site.process():
                renew(site, *names)
        with site.process(), closing(site.door("ledger-operator")) as door:
            first = door.vkey()
            make(door, tmp_path / "out", Wanted(site="demo", key=first), clock=SystemClock())
            told = verify(door, pinned=first, notes=[door.checkpoint()])
            kinds = [leaf.kind for leaf in door.leaves(0, 500)]
            named = door.find(cosigning.NAMED, limit=9, newest_first=False)
            rotated = door.find(succession.ROTATED, limit=9, newest_first=False)

    assert told.ok, told.findings
    assert not [each for each in told.remarks if "second signatures" in each]
    assert (len(rotated), len(named)) == (2, 3)
    assert [bool(leaf.body["previous"]) for leaf in named] == [False, True, True]
    assert kinds.count(cosigning.COSIGNED) >= 1
    second = cosigning.MlDsaKey.from_text(str(named[-1].body["vkey"]))
    text = (tmp_path / "out" / "checkpoint.txt").read_text()
    second.require_cosigned(text)
    newest = note.VerifierKey.from_text(str(rotated[-1].body["vkey"]))
    assert note.verify_checkpoint(text, [newest]).origin == first.name
    for key in (first, newest):
        assert checker.ending(module, "ledger", "--key", key.to_text(), "--unrecorded", tmp_path / "out") == 0
    assert "checkpoints are signed by ML-DSA-87 too" in capsys.readouterr().out


def test_a_second_key_that_the_one_before_did_not_sign_is_shown_by_both(
    tmp_path: Path, module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever broke Ed25519 alone could put such a record; so could a box whose older key was lost."""
    made = Rotated()
    for seed in (b"a" * 32, b"b" * 32):
        vkey = cosigning.Cosigner(made.log.origin, seed).key.to_text()
        body = {"algorithm": "ML-DSA-87", "vkey": vkey, "previous": "", "signature": ""}
        made.log.append([Entry.of(cosigning.NAMED, body, via=Via(door="ledger", uid=0))])
    made.sign()

    told = verify(made.ledger, pinned=made.log.vkey, notes=made.printed)
    make(made.ledger, tmp_path / "out", Wanted(site="demo", key=made.log.vkey), clock=SystemClock())
    checker.ending(module, "ledger", "--key", made.log.vkey.to_text(), "--unrecorded", tmp_path / "out")

    assert [each for each in told.remarks if "the one before did not" in each]
    assert "the one before did not sign that" in capsys.readouterr().out


def test_an_older_second_key_signs_nothing_after_it_was_renewed(tmp_path: Path, module: ModuleType) -> None:
    made, via = Rotated(), Via(door="ledger", uid=0)
    old, new = (cosigning.Cosigner(made.log.origin, seed) for seed in (b"a" * 32, b"b" * 32))
    about = {"algorithm": "ML-DSA-87", "vkey": old.key.to_text(), "previous": "", "signature": ""}
    made.log.append([Entry.of(cosigning.NAMED, about, via=via)])
    follows = {"vkey": new.key.to_text(), "previous": old.key.to_text(), "signature": old.vouch(new.key)}
    made.log.append([Entry.of(cosigning.NAMED, {**about, **follows}, via=via)])
    text = old(made.log.checkpoint())
    size = note.Checkpoint.from_text(note.parts(text)[0]).size
    made.log.append([Entry.of(cosigning.COSIGNED, {"note": text, "size": size}, via=via)])
    made.sign()

    told = verify(made.ledger, pinned=made.log.vkey, notes=made.printed)
    make(made.ledger, tmp_path / "out", Wanted(site="demo", key=made.log.vkey), clock=SystemClock())

    assert any("did not sign it by ML-DSA" in each for each in told.findings)
    assert checker.ending(module, "ledger", "--key", made.log.vkey.to_text(), "--unrecorded", tmp_path / "out") == 91
