"""What a box of version 0.1.0 left is read for ever: records, state, people, trust, clock, receipt, proof, site file.

`tests/corpus/box/0.1.0` was left by an installed box of that version (tests/corpus/README.md) and is never written
again. Its keys are gone, so nothing here is signed anew.
"""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from appliance.cli import audit, state, versions
from appliance.config import Config
from appliance.errors import NotPromotedError
from appliance.promote.folder import PromoterFolder
from appliance.promote.standing import require_promoted
from appliance.timekeeping.record import ClockRecord
from appliance.verify import trust
from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import LedgerKey
from bundler.receipt import read_receipt
from tests.corpus.make_box import SITE_FILE_KEYS, site_file_keys
from tests.support.checker import check
from tests.support.commands import Run, as_json, typed
from tests.support.frozen import laid_down, require_unchanged
from tests.support.staterows import rows_of

LEFT: Final = Path(__file__).resolve().parents[1] / "corpus/box/0.1.0"
DIGEST: Final = "aadd8327390d326f191d4b5d533a7b95f5b9edc2eac5cbd4bd39d2f698b889d0"
TREE: Final = (55, "af08a74be8113899f9d00ddcd1448db8af0250a39f3705ec77eec7cd9a119d6c")
KINDS: Final = {
    "approval.given": 2,
    "evidence.read": 3,
    "export.written": 1,
    "gate.result": 13,
    "install.done": 1,
    "job.asked": 6,
    "job.done": 6,
    "key.created": 1,
    "ledger.cosigned": 1,
    "ledger.key": 1,
    "ledger.opened": 1,
    "ledger.started": 3,
    "model.registered": 1,
    "network.tested": 1,
    "person.codes-issued": 1,
    "person.enrolled": 2,
    "promotion.made": 1,
    "promotion.requested": 1,
    "release.received": 1,
    "request.intent": 2,
    "request.outcome": 2,
    "tls.authority-made": 1,
    "tls.certificate-made": 1,
    "tls.crl-made": 1,
    "trust.pinned": 1,
}


@pytest.fixture
def box(tmp_path: Path) -> Config:
    return laid_down(LEFT, tmp_path)


@pytest.fixture
def run(box: Config, capsys: pytest.CaptureFixture[str]) -> Run:
    return typed(box.at.config_file, (audit, state, versions), capsys)


def test_nothing_of_it_changed() -> None:
    require_unchanged(LEFT)


def test_its_ledger_is_whole_to_the_same_root(run: Run) -> None:
    found = as_json(run, "audit", "verify")

    assert (found["ok"], found["findings"], (found["size"], found["root"])) == (True, [], TREE)


def test_a_record_that_somebody_changed_is_found(box: Config, run: Run) -> None:
    with closing(sqlite3.connect(box.at.ledger / "ledger.db")) as opened:
        for (trigger,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            opened.execute(f'DROP TRIGGER "{trigger}"')
        opened.execute("UPDATE leaf SET raw = CAST(replace(raw, 'iris', 'eris') AS BLOB) WHERE kind = 'approval.given'")
        opened.commit()

    ended = run("--json", "audit", "verify")

    assert ended.code == 91, ended


def test_each_of_its_records_is_read(run: Run) -> None:
    leaves = as_json(run, "audit", "list", "--limit", "100")["leaves"]

    assert Counter(leaf["kind"] for leaf in leaves) == KINDS
    assert sorted(leaf["sequence"] for leaf in leaves) == list(range(TREE[0]))


def test_its_state_is_brought_up_and_is_what_its_ledger_says(box: Config, run: Run) -> None:
    (version,) = as_json(run, "models", "list")["versions"]
    upgraded = rows_of(box.at.registry)
    as_json(run, "state", "rebuild")

    assert (version["model_digest"], version["alias"]) == (DIGEST, "production")
    assert len(version["gates"]) == 13
    assert rows_of(box.at.registry) == upgraded


def test_its_people_are_read_and_what_they_signed_still_lets_its_version_serve(box: Config) -> None:
    people = PromoterFolder(box.at.promoter).people()
    standing = require_promoted(box.at, DIGEST)

    assert people.to_bytes() == (LEFT / "var/lib/sealift/promoter/people.json").read_bytes()
    assert [person.id for person in people.people] == ["iris", "omar"]
    assert standing.number == 1


def test_a_word_of_what_they_signed_that_was_changed_lets_it_serve_no_more(box: Config) -> None:
    file = box.at.promoter / "promotions/000001.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"Iris Mora", b"Iris Nora"))

    with pytest.raises(NotPromotedError):
        require_promoted(box.at, DIGEST)


def test_what_it_trusts_is_read(box: Config) -> None:
    record = trust.load(box.at.trust, box.at.etc / "trust", may_begin=False)

    assert record.to_bytes() == (LEFT / "var/lib/sealift/trust/state.json").read_bytes()


def test_its_clock_is_read() -> None:
    content = (LEFT / "var/lib/sealift/clock/clock.json").read_bytes()

    assert ClockRecord.from_bytes(content).to_bytes() == content


def test_its_receipt_is_believed_by_its_sender() -> None:
    key = LedgerKey.from_text((LEFT / "etc/sealift/ledger.pub").read_text())
    (receipt,) = (LEFT / "root").glob("receipt-1-*.json")

    found = read_receipt(receipt.read_bytes(), SiteKeys.of(key))

    assert (found.site, found.outcome, found.release, found.serial) == ("demo-hospital", "received", "box-2026.11", 1)
    assert (found.custody_complete, found.findings, found.vouched_by) == (True, 0, ("signature", "ledger"))


@pytest.mark.parametrize("word", [b"", b"iris", DIGEST.encode()], ids=["as it was", "a name", "the version"])
def test_its_answer_is_proven_by_the_proof_alone_as_long_as_it_is_whole(tmp_path: Path, word: bytes) -> None:
    file = tmp_path / "proof.json"
    content = (LEFT / "root/proof.json").read_bytes()
    assert word in content
    file.write_bytes(content.replace(word, word[::-1]) if word else content)
    key = (LEFT / "etc/sealift/ledger.pub").read_text().strip()

    done = check("proof", "--key", key, file)

    assert (done.returncode == 0) == (not word), done.stdout + done.stderr


def test_each_key_that_its_site_file_may_have_is_still_taken() -> None:
    known = set(json.loads((LEFT / SITE_FILE_KEYS).read_text()))

    assert len(known) == 159
    assert known - site_file_keys() == set()
