"""Records of kinds that no box's walk makes, as version 0.1.0's commands made them, are read for ever.

`tests/corpus/records/0.1.0` was left by commands of that version over a site of its own (tests/corpus/README.md) and is
never written again. Which kinds are frozen nowhere is said here, by name.
"""

import ast
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from appliance.cli import audit, keys, people, review, state, versions
from appliance.config import Config
from tests.support.checker import check
from tests.support.commands import Run, as_json, typed
from tests.support.frozen import laid_down, require_unchanged
from tests.support.staterows import rows_of

CORPUS: Final = Path(__file__).resolve().parents[1] / "corpus"
LEFT: Final = CORPUS / "records/0.1.0"
BOX: Final = CORPUS / "box/0.1.0"
TREE: Final = (179, "96bcadf0e60858643f07436c2a8e5f38e58c27b99702f34b70f89d3bea60d4ff")
_LEDGER: Final = "var/lib/sealift/ledger/ledger.db"
_FAMILIES: Final = (
    *("admin", "answers", "approval", "automation", "backup", "capacity", "census", "clock", "custody", "emergency"),
    *("erasure", "evidence", "export", "gate", "install", "job", "key", "ledger", "medium", "model", "network"),
    *("person", "promotion", "release", "request", "retention", "retire", "review", "stage", "standby", "stop"),
    *("store", "tls", "trust", "window"),
)
NO_KINDS: Final = """
    answers.toml approval.approve approval.at approval.class approval.fingerprint approval.format
    approval.html approval.lower approval.name approval.person approval.signature approval.wizard
    automation.affected automation.history automation.hold automation.job automation.openapi
    automation.request automation.requests automation.rollout automation.status automation.validate
    automation.version automation.versions backup.folder clock.json evidence.figures evidence.gates
    evidence.html evidence.jsonl evidence.policy export.html export.json install.log job.digest job.html
    job.kind job.minutes job.person job.quarter job.reason job.record job.serial job.which key.scopes
    ledger.copying ledger.db ledger.html ledger.lock ledger.pub ledger.reserve network.addresses
    network.clients network.json network.management person.certificate person.class person.credentials
    person.format person.id person.name promotion.approvals promotion.at promotion.before promotion.format
    promotion.html promotion.kind promotion.line promotion.number promotion.sequence release.checked
    release.json request.approvals request.basis request.statement review.db review.keys tls.authority tls.crt
    tls.key trust.crt
"""
"""What reads as a kind in the source of 0.1.0 and is none: a field, a page, a file."""
NOWHERE: Final = """
    admin.answers-shown admin.login admin.login-refused admin.logout admin.relayed-approval answers.judged
    approval.clock-given approval.clock-requested approval.host-given approval.host-requested
    approval.policy-held automation.refused automation.used backup.failed capacity.measured census.followed
    census.seen clock.answered clock.behind clock.confirmed clock.jumped clock.returned clock.set
    evidence.proven evidence.reported export.carried install.begun install.mended install.removed
    install.returned install.setup key.destroyed key.made ledger.disk-full ledger.disk-room ledger.elsewhere
    ledger.key-rotated ledger.node-keys ledger.restored medium.arrived medium.refused model.level-accepted
    promotion.cut-over promotion.retired promotion.watch-judged promotion.watch-kept retention.expired
    retention.expiring retire.begun retire.done retire.node-begun retire.node-done retire.node-key
    review.rated review.read standby.drilled standby.exported standby.imported standby.key-followed
    standby.paired standby.pairing-offered standby.parted standby.pepper-adopted standby.report-accepted
    standby.report-exported standby.taken-over tls.certificate-imported tls.rotation-failed
    trust.note-accepted trust.recovered trust.replaced trust.root-rotated window.closed window.opened
"""
"""Kinds of 0.1.0 that no frozen ledger has. Whoever freezes one takes it out of here; nothing is added."""


@pytest.fixture
def site(tmp_path: Path) -> Config:
    return laid_down(LEFT, tmp_path)


@pytest.fixture
def run(site: Config, capsys: pytest.CaptureFixture[str]) -> Run:
    return typed(site.at.config_file, (audit, keys, people, review, state, versions), capsys)


def kinds_of(folder: Path) -> set[str]:
    """Return the kinds of records in a frozen ledger, read by nothing of ours."""
    with closing(sqlite3.connect(f"file:{folder / _LEDGER}?mode=ro&immutable=1", uri=True)) as opened:
        return {kind for (kind,) in opened.execute("SELECT DISTINCT kind FROM leaf")}


def kinds_of_source() -> Iterator[str]:
    """Yield each word of the released appliance's source that is spelled as a kind."""
    spelled = re.compile(rf"({'|'.join(_FAMILIES)})\.[a-z][a-z-]*[a-z]")
    (source,) = (CORPUS / "releases").glob("sealift-0.1.0.tar.xz")
    with tarfile.open(source) as tar:
        for member in tar:
            if member.name.startswith("appliance/") and member.name.endswith(".py"):
                stream = tar.extractfile(member)
                assert stream is not None
                for node in ast.walk(ast.parse(stream.read())):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str) and spelled.fullmatch(node.value):
                        yield node.value


def test_nothing_of_it_changed() -> None:
    require_unchanged(LEFT)


def test_each_kind_of_record_of_0_1_0_is_frozen_or_named_here() -> None:
    frozen = kinds_of(LEFT) | kinds_of(BOX)

    assert set(kinds_of_source()) - set(NO_KINDS.split()) - frozen == set(NOWHERE.split())
    assert frozen & {*NOWHERE.split(), *NO_KINDS.split()} == set()


def test_its_ledger_is_whole_to_the_same_root(run: Run) -> None:
    found = as_json(run, "audit", "verify")

    assert (found["ok"], found["findings"], (found["size"], found["root"])) == (True, [], TREE)


def test_each_of_its_records_is_read(run: Run) -> None:
    leaves = as_json(run, "audit", "list", "--limit", "1000")["leaves"]

    assert {leaf["kind"] for leaf in leaves} == kinds_of(LEFT)
    assert sorted(leaf["sequence"] for leaf in leaves) == list(range(TREE[0]))


def test_its_state_is_brought_up_and_is_what_its_ledger_says(site: Config, run: Run) -> None:
    as_json(run, "models", "list")
    upgraded = rows_of(site.at.registry)
    as_json(run, "state", "rebuild")

    assert rows_of(site.at.registry) == upgraded


def test_what_its_people_decided_is_told(run: Run) -> None:
    (alone,) = (one for one in as_json(run, "models", "list")["versions"] if one["alias"] == "production")

    assert alone["name"] == "tiny"


def test_its_answer_is_proven_by_the_proof_alone() -> None:
    key = (LEFT / "etc/sealift/ledger.pub").read_text().strip()

    done = check("proof", "--key", key, LEFT / "proof.json")

    assert done.returncode == 0, done.stdout + done.stderr
