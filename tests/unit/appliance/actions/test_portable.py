"""The proof of an answer as a file, read by the stand-alone checker in this process."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appliance.actions import canary, portable, teststage
from appliance.audit import pin
from appliance.audit.facts import Ledger
from appliance.audit.note import VerifierKey
from appliance.store.content import ContentStore
from tests.support import checker
from tests.support.floor import Floor, open_floor
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return checker.loaded()


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    """A proof as a file, the ledger's key, and a checkpoint that was printed before."""
    folder = tmp_path_factory.mktemp("proof")
    with open_floor() as floor:
        config, ledger = floor.site.config, floor.site.ledger
        config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(config.at, VerifierKey.from_text(ledger.vkey))
        descriptor = floor.bring()
        ledger.append("release.received", received(floor))
        printed = ledger.checkpoint()
        floor.serve(descriptor)
        answered(ledger, "req_one", descriptor.model_digest)
        made = portable.made(config, ledger, "chatcmpl-one", printed=[printed])
        (folder / "proof.json").write_bytes(made.content)
        (folder / "printed.txt").write_text(printed)
        yield folder, ledger.vkey, descriptor.model_digest


def answered(ledger: Ledger, request_id: str, digest: str, **more: str) -> None:
    asked = ledger.append("request.intent", {"request_id": request_id, "model_digest": digest, **more})
    ledger.append("request.outcome", {"request_id": request_id, "intent_sequence": asked.sequence, "outcome": "ok"})


def received(floor: Floor) -> dict[str, Any]:
    (stored,) = ContentStore(floor.site.config.at.store).releases()
    return {"serial": stored.serial, "release": stored.release, "code": stored.code, "site": "demo", "files": 1}


def test_the_checker_follows_the_line_from_the_answer_to_the_people_who_approved(
    proven: tuple[Path, str, str], module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, key, digest = proven

    words = ("proof", "--key", key, "--printed", folder / "printed.txt", folder / "proof.json")
    assert checker.ending(module, *words) == 0
    out = capsys.readouterr().out
    assert f"version       {digest}" in out
    assert out.count("checked with gpgv") == 2
    assert "HOLDS" in out


def test_the_checker_follows_the_line_of_a_version_that_answered_as_a_canary(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ana, ben, *_ = signatories()
    with open_floor() as floor:
        config, ledger = floor.site.config, floor.site.ledger
        config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(config.at, VerifierKey.from_text(ledger.vkey))
        floor.serve(floor.bring("old"))
        new = floor.bring("new")
        serial = floor.site.ledger.find(kind="model.registered", limit=1)[0].body["serial"]
        (stored,) = (one for one in ContentStore(config.at.store).releases() if one.serial == serial)
        known = {"serial": stored.serial, "release": stored.release, "code": stored.code, "site": "demo", "files": 1}
        ledger.append("release.received", known)
        floor.validate(new).require_passed()
        floor.approve(new, ana, ben)
        canary.start(floor.here, new.model_digest)
        answered(ledger, "req_two", new.model_digest)
        made = portable.made(config, ledger, "chatcmpl-two")
        vkey = ledger.vkey
    (tmp_path / "proof.json").write_bytes(made.content)

    assert checker.ending(module, "proof", "--key", vkey, tmp_path / "proof.json") == 0
    out = capsys.readouterr().out
    assert f"version       {new.model_digest}" in out
    assert out.count("checked with gpgv") == 2


def test_the_checker_names_those_who_approved_a_cut_over_anew(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ana, ben, chi, dag = signatories()
    with open_floor() as floor:
        config, ledger, client = floor.site.config, floor.site.ledger, floor.site.client
        config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(config.at, VerifierKey.from_text(ledger.vkey))
        floor.serve(floor.bring("old"))
        new = floor.bring("new")
        (stored,) = (one for one in ContentStore(config.at.store).releases() if one.serial == floor.serial)
        known = {"serial": stored.serial, "release": stored.release, "code": stored.code, "site": "demo", "files": 1}
        ledger.append("release.received", known)
        floor.validate(new).require_passed()
        for person in (chi, dag):
            code = client.invite([(ana.id, PASSWORD), (ben.id, PASSWORD)])
            client.enrol(code=code, name=person.name, certificate=person.certificate, password=PASSWORD)
        floor.approve(new, ana, ben)
        canary.start(floor.here, new.model_digest)
        floor.approve(new, chi, dag)  # few requests came
        client.cut_over(person=ana.id, reason="enough for us", keeps_before=False)
        answered(ledger, "req_three", new.model_digest)
        made = portable.made(config, ledger, "req_three")
        vkey = ledger.vkey
    (tmp_path / "proof.json").write_bytes(made.content)
    (approvals,) = (step for step in made.report.steps if step.name == "approvals")

    assert approvals.data["people"] == [chi.id, dag.id]
    assert checker.ending(module, "proof", "--key", vkey, tmp_path / "proof.json") == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("promoted"))
    assert chi.id in line
    assert dag.id in line
    assert ana.id not in line


def test_the_checker_says_of_an_answer_of_the_test_stage_who_lent_the_version_and_names_no_approver(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_floor() as floor:
        config, ledger = floor.site.config, floor.site.ledger
        config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(config.at, VerifierKey.from_text(ledger.vkey))
        descriptor = floor.bring()
        ledger.append("release.received", received(floor))
        floor.serve(descriptor)
        answered(ledger, "req_early", descriptor.model_digest, stage="test")
        teststage.load(floor.bench, descriptor.model_digest, person="iris")
        answered(ledger, "req_tried", descriptor.model_digest, stage="test")
        answered(ledger, "req_served", descriptor.model_digest)
        for name in ("early", "tried", "served"):
            (tmp_path / f"{name}.json").write_bytes(portable.made(config, ledger, f"req_{name}").content)
        vkey = ledger.vkey
    served, tried = (json.loads((tmp_path / f"{name}.json").read_bytes()) for name in ("served", "tried"))
    every = {one["sequence"]: one for one in (*served["records"], *tried["records"])}
    (tmp_path / "mixed.json").write_bytes(
        module.written({**tried, "records": [every[place] for place in sorted(every)]}) + b"\n"
    )

    for name in ("tried", "mixed"):  # what production did is not said of it, whatever else the file brings
        assert checker.ending(module, "proof", "--key", vkey, tmp_path / f"{name}.json") == 0
        out = capsys.readouterr().out
        assert "loaded by iris" in out
        assert "promoted" not in out
        assert "approved" not in out
    assert checker.ending(module, "proof", "--key", vkey, tmp_path / "early.json") == 91


def test_a_version_that_came_again_after_the_answer_and_keys_that_had_ended_mislead_no_checker(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ana, ben, chi, dag = signatories()
    with open_floor() as floor:
        config, ledger, client = floor.site.config, floor.site.ledger, floor.site.client
        config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(config.at, VerifierKey.from_text(ledger.vkey))
        descriptor = floor.bring()
        ledger.append("release.received", received(floor))
        floor.serve(descriptor)
        answered(ledger, "req_one", descriptor.model_digest)
        (registered,) = ledger.find(kind="model.registered")
        ledger.append("model.deleted", {"model_digest": descriptor.model_digest, "person": ana.id, "reason": "room"})
        ledger.append("model.registered", {**registered.body, "serial": 7})
        (tmp_path / "proof.json").write_bytes(portable.made(config, ledger, "req_one").content)
        code = client.invite([(ana.id, PASSWORD), (ben.id, PASSWORD)])
        client.enrol(code=code, name=chi.name, certificate=chi.certificate, password=PASSWORD)
        code = client.reset(ana.id, [(ben.id, PASSWORD), (chi.id, PASSWORD)])
        leaves = {leaf.sequence: json.loads(leaf.raw) for leaf in ledger.leaves(0, 1000)}
        (made,) = (leaf for leaf in leaves.values() if leaf["kind"] == "promotion.made")
        client.enrol(code=code, name=ana.name, certificate=dag.certificate, password=PASSWORD, person=ana.id)
        renewed = {leaf.sequence: json.loads(leaf.raw) for leaf in ledger.leaves(0, 1000)}
        vkey = ledger.vkey

    assert checker.ending(module, "proof", "--key", vkey, tmp_path / "proof.json") == 0
    assert f"serial {registered.body['serial']}, received" in capsys.readouterr().out
    assert len(module.approvers(made, leaves)) == 2
    for known in (leaves, renewed):
        with pytest.raises(module.RefusedError, match="not enrolled"):
            module.approvers({**made, "sequence": max(known) + 1}, known)


def test_that_a_version_is_in_doubt_since_leaves_with_its_proof(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_floor() as floor:
        config, ledger = floor.site.config, floor.site.ledger
        config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(config.at, VerifierKey.from_text(ledger.vkey))
        descriptor = floor.bring()
        ledger.append("release.received", received(floor))
        floor.serve(descriptor)
        answered(ledger, "req_one", descriptor.model_digest)
        ledger.append("trust.doubted", {"model_digests": [descriptor.model_digest], "notes": 1})
        ledger.append("trust.doubted", {"model_digests": [], "notes": 1})
        doubted = ledger.append("trust.doubted", {"model_digests": [descriptor.model_digest], "notes": 2})
        floor.site.clock.advance(60)
        ledger.append("trust.doubted", {"model_digests": ["0" * 64, descriptor.model_digest], "notes": 3})
        (tmp_path / "proof.json").write_bytes(portable.made(config, ledger, "req_one").content)
        vkey = ledger.vkey

    assert checker.ending(module, "proof", "--key", vkey, tmp_path / "proof.json") == 0
    assert f", in doubt since {doubted.time}" in capsys.readouterr().out


def test_a_proof_that_was_changed_in_any_record_is_refused(
    proven: tuple[Path, str, str], module: ModuleType, tmp_path: Path
) -> None:
    folder, key, _ = proven
    value = json.loads((folder / "proof.json").read_bytes())
    spoilt = []
    for number, record in enumerate(value["records"]):
        changed = json.loads(json.dumps(value))
        changed["records"][number]["raw"] = record["raw"].replace('"schema":1', '"schema":1 ')
        spoilt.append(changed)
        changed = json.loads(json.dumps(value))
        del changed["records"][number]
        if '"kind":"person.enrolled"' not in record["raw"] and '"kind":"gate.result"' not in record["raw"]:
            spoilt.append(changed)
    spoilt.append({**value, "request": "req_two"})
    spoilt.append({**value, "checkpoint": (folder / "printed.txt").read_text()})

    taken = []
    for number, one in enumerate(spoilt):
        text = json.dumps(one, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        (tmp_path / "proof.json").write_text(text + "\n")
        if checker.ending(module, "proof", "--key", key, tmp_path / "proof.json") == 0:
            taken.append(number)

    assert [json.loads(value["records"][one // 2]["raw"])["kind"] for one in taken] == []


def test_a_print_of_another_ledger_or_a_foreign_key_is_refused(
    proven: tuple[Path, str, str], module: ModuleType, tmp_path: Path
) -> None:
    folder, key, _ = proven
    (tmp_path / "other.txt").write_text((folder / "printed.txt").read_text().replace("sealift/", "sealift/x", 1))

    foreign = checker.ending(module, "proof", "--key", key.replace("+", "x+", 1), folder / "proof.json")
    other = checker.ending(module, "proof", "--key", key, "--printed", tmp_path / "other.txt", folder / "proof.json")

    assert 0 not in {foreign, other}
