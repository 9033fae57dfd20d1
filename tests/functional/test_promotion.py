"""From a received medium to an answer's proof: real ledger and promoter processes, real keys, the real commands."""

import json
import re
import tempfile
from pathlib import Path

import pytest

from appliance.audit.client import SocketLedger
from appliance.errors import ConflictError
from appliance.promote.passwords import PASSWORDS
from media import gpgagent, signers
from tests.support.promoting import PEOPLE, bring, enrol_all, homes, record_answer, serve, site
from tests.support.running_site import Run, RunningSite, as_json, runner

pytestmark = pytest.mark.slow  # whole commands and processes, seconds each

__all__ = ["homes", "site"]  # a fixture


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


def test_who_has_keys_and_no_password_here_gets_one_by_a_signature_at_the_machine_or_elsewhere(
    site: RunningSite, sealift: Run, homes: dict[str, Path], tmp_path: Path
) -> None:
    enrol_all(site, sealift, homes)
    (site.config.at.promoter / PASSWORDS).unlink()  # as where the people came from another box
    chosen = tmp_path / "password"
    chosen.write_text("a password of this box\n")
    told = ("--password-file", str(chosen))
    assert sealift("people", "invite", *("--by", "eva-rossi", *told), *("--by", "finn-olsen", *told)).code != 0

    as_json(sealift, "people", "password", "eva-rossi", "--gnupg-home", str(homes["eva-rossi"]), *told)
    statement, signature = tmp_path / "statement", tmp_path / "signature"
    as_json(sealift, "people", "password", "finn-olsen", "--statement-to", str(statement))
    (fingerprint,) = signers.secret_fingerprints(homes["finn-olsen"])
    signature.write_bytes(signers.detached_sign(homes["finn-olsen"], fingerprint, statement.read_bytes()))
    as_json(sealift, "people", "password", "finn-olsen", "--signature", str(signature), *told)

    assert as_json(sealift, "people", "invite", *("--by", "eva-rossi", *told), *("--by", "finn-olsen", *told))["code"]
    refused = sealift("people", "password", "eva-rossi", "--gnupg-home", str(homes["eva-rossi"]), *told)
    assert (refused.code, "has a password on this box" in refused.err) == (ConflictError.exit_code, True)


def test_from_a_medium_to_production_and_back(site: RunningSite, sealift: Run, homes: dict[str, Path]) -> None:
    enrol_all(site, sealift, homes)
    first, second = bring(site, 1), bring(site, 2)

    served = serve(sealift, first, homes)
    assert (served["step"], served["promotion"]) == ("serving", 1)
    assert serve(sealift, second, homes)["stopped"] == [f"sealift-engine-production@{first[:12]}.service"]

    stages = {one["model_digest"]: one["stage"] for one in as_json(sealift, "models", "list")["versions"]}
    assert stages == {first: "validated", second: "production"}
    back = as_json(sealift, "rollback", "--as", "finn-olsen", "--reason", "worse answers")
    assert (back["model_digest"], back["class"]) == (first, "operator")
    assert as_json(sealift, "stop", "--as", "eva-rossi", "--reason", "incident")["previous"] == first
    events = as_json(sealift, "history")["events"]
    assert [one["what"] for one in events[-2:]] == ["rolled back", "stopped"]
    text = sealift("history").out
    assert "Eva Rossi, Finn Olsen" in text
    assert "(worse answers)" in text


def test_every_refusal_has_its_exit_code_and_says_what_to_do(
    site: RunningSite, sealift: Run, homes: dict[str, Path]
) -> None:
    enrol_all(site, sealift, homes)
    digest = bring(site, 1)
    eva = str(homes["eva-rossi"])

    cases = [
        (40, ("validate", "unknown")),
        (41, ("promote", digest, "--as", "eva-rossi")),
        (42, ("approve", digest, "--as", "eva-rossi", "--gnupg-home", eva, "--yes")),
        (44, ("rollback", "--as", "eva-rossi", "--reason", "x")),
        (45, ("stop", "--as", "mallory", "--reason", "x")),
        (47, ("people", "codes")),
        (2, ("promote", digest, "--nonsense")),
    ]
    for code, arguments in cases:
        ended = sealift(*arguments)
        assert (ended.code, "fix:" in ended.err) == (code, True), (arguments, ended.err)
    as_json(sealift, "validate", digest)
    as_json(sealift, "promote", digest, "--as", "eva-rossi")
    waiting = sealift("promote", digest)
    assert waiting.code == 43
    assert "0 of 2" in waiting.err
    as_json(sealift, "approve", digest, "--as", "eva-rossi", "--gnupg-home", eva, "--yes")
    twice = sealift("--json", "approve", digest, "--as", "eva-rossi", "--gnupg-home", eva, "--yes")
    assert (twice.code, twice.facts["error"]["code"]) == (42, "approval-refused")


def test_keys_are_made_listed_and_ended(site: RunningSite, sealift: Run) -> None:
    made = sealift(
        "keys", "create", "--department", "radiology", "--owner", "Ana", "--phi", "block", "--purpose", "care"
    )
    assert made.out.startswith("sl-")
    key_id = made.out.split("-")[1]

    listed = sealift("keys", "list").out
    assert made.out.strip() not in listed
    assert "  care" in listed
    as_json(sealift, "keys", "revoke", key_id, "--reason", "left")
    (only,) = as_json(sealift, "keys", "list")["keys"]
    assert (only["key_id"], only["phi_mode"], only["revoked_at"] is not None) == (key_id, "block", True)


def test_an_answer_is_proven_running_and_with_nothing_running(
    site: RunningSite, sealift: Run, homes: dict[str, Path]
) -> None:
    enrol_all(site, sealift, homes)
    digest = bring(site, 1)
    serve(sealift, digest, homes)
    record_answer(site, digest, 1, "req_one")

    running = sealift("prove", "req_one")
    assert (running.code, "✗" in running.out) == (0, False), running.out
    taken = sealift("prove", "req_one", "--out", str(site.config.at.config_file))
    assert (taken.code != 0, "cannot be written" in taken.err) == (True, True)
    ledger = SocketLedger(site.config.at.socket("ledger-actions"))
    read = ledger.find(kind="evidence.read")
    ledger.close()
    # Each is on record before anything of it leaves, the second though its file was not written.
    assert [leaf.body["how"] for leaf in read] == ["prove", "prove"]
    assert site.end("promoter") == 0
    assert site.end("ledger") == 0
    site.supervisor.close()

    offline = sealift("--json", "prove", "chatcmpl-one")

    assert offline.code == 0, offline.out
    steps = {step["name"]: step for step in offline.facts["steps"]}
    assert offline.facts["ok"] is True
    assert set(steps) == {
        *("request", "answer", "version", "weights", "release", "trust", "metadata", "media", "custody", "rehearsal"),
        *("promotion", "approvals", "gates", "ledger"),
    }
    assert steps["approvals"]["data"]["people"] == ["eva-rossi", "finn-olsen"]
    assert [volume["number"] for volume in steps["media"]["data"]["volumes"]] == [1, 2]
    assert steps["rehearsal"]["detail"] == "answered-on-cpu"


def spoil_weights(site: RunningSite) -> None:
    weights = max(site.config.at.store.glob("objects/sha256/*/*"), key=lambda path: path.read_bytes()[:4] == b"GGUF")
    weights.chmod(0o644)
    weights.write_bytes(b"GGUF weights X")


def spoil_evidence(site: RunningSite) -> None:
    (only,) = (site.config.at.registry / "evidence").glob("*.json")
    only.write_bytes(only.read_bytes().replace(b"smoke", b"smoky"))


def spoil_metadata(site: RunningSite) -> None:
    path = site.config.at.store / "releases/1/metadata/1.targets.json"
    path.write_bytes(path.read_bytes().replace(b"demo-clinic", b"other-place"))


def spoil_signature(site: RunningSite) -> None:
    path = next((site.config.at.store / "releases/1/volumes/1").glob("*.sig"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


def spoil_pin(site: RunningSite) -> None:
    path = site.config.at.etc / "ledger.pub"
    name, _, _ = path.read_text().partition("+")
    path.write_text(f"{name}+00000000+{'A' * 44}\n")


def spoil_root(site: RunningSite) -> None:
    path = site.config.at.pinned_trust / "1.root.json"
    path.write_bytes(path.read_bytes().replace(b'"demo"', b'"production"'))


def test_a_proof_says_which_line_does_not_hold(site: RunningSite, sealift: Run, homes: dict[str, Path]) -> None:
    enrol_all(site, sealift, homes)
    digest = bring(site, 1)
    serve(sealift, digest, homes)
    record_answer(site, digest, 1, "req_one")
    site.end("promoter")
    site.end("ledger")
    spoilers = [
        (spoil_weights, {"weights"}),
        (spoil_evidence, {"gates"}),
        (spoil_metadata, {"metadata", "media", "custody", "rehearsal"}),
        (spoil_signature, {"media"}),
        (spoil_root, {"trust", "metadata", "media", "custody", "rehearsal"}),
        (spoil_pin, {"request", "ledger"}),
    ]

    for spoil, wrong in spoilers:
        kept = {path: path.read_bytes() for path in site.root.rglob("*") if path.is_file()}
        spoil(site)
        ended = sealift("--json", "prove", "req_one")
        assert ended.code == 92, spoil
        failed = {step["name"] for step in ended.facts["steps"] if not step["ok"]}
        assert wrong <= failed, (spoil, ended.facts)
        for path, content in kept.items():
            if path.read_bytes() != content:
                path.chmod(0o644)
                path.write_bytes(content)
    unknown = sealift("prove", "req_nothing")
    assert (unknown.code, "✗ request" in unknown.out) == (92, True)
    assert json.loads(sealift("--json", "prove", "req_one").out)["ok"] is True


def test_people_come_and_go_by_commands(site: RunningSite, sealift: Run, homes: dict[str, Path]) -> None:
    enrol_all(site, sealift, homes)
    password = str(site.root / "password")

    vouchers = [word for person in PEOPLE for word in ("--by", person, "--password-file", password)]
    code = sealift("people", "invite", *vouchers).out.strip()
    with tempfile.TemporaryDirectory(prefix="slf", dir="/tmp") as folder:
        home = Path(folder) / "g"
        fingerprint = signers.generate_key(home, "Gil Moreau", "gil@site.example")
        certificate = site.root / "gil.gpg"
        certificate.write_bytes(signers.export_minimal(home, fingerprint))
        gpgagent.stop_agents(home)
    arguments = ("--code", code, "--name", "Gil Moreau", "--id", "gil", "--certificate", str(certificate))
    enrolled = sealift("people", "enrol", *arguments, "--password-file", password)
    assert f"Gil Moreau is enrolled as gil\n  OpenPGP key {fingerprint}" in enrolled.out
    sealift("people", "revoke", "gil", "--as", "eva-rossi", "--reason", "left", "--password-file", password)

    listed = as_json(sealift, "people", "list")["people"]
    assert [(one["person"], one["revoked"]) for one in listed] == [*((one, False) for one in PEOPLE), ("gil", True)]
    assert re.search(r"^gil .*revoked$", sealift("people", "list").out, re.MULTILINE)


def test_a_command_that_needs_a_person_or_a_password_says_so(site: RunningSite, sealift: Run) -> None:
    cases = [
        ("people", "enrol", "--code", "x", "--name", "Gil Moreau"),
        ("people", "enrol", "--code", "x", "--name", "Gil Moreau", "--certificate", str(site.config.at.config_file)),
        ("people", "revoke", "gil", "--as", "eva", "--reason", "x", "--password-file", "/nonexistent"),
        ("people", "invite"),
        ("keys", "create", "--department", "d", "--owner", "o", "--phi", "ignore"),
    ]

    for arguments in cases:
        ended = sealift(*arguments)
        assert (ended.code, "fix:" in ended.err) == (2, True), (arguments, ended.err)
    missing = sealift("people", "enrol", "--code", "x", "--name", "G M", "--certificate", "/nonexistent.gpg")
    assert missing.code == 11


def test_a_version_is_shown_with_its_gates(site: RunningSite, sealift: Run) -> None:
    digest = bring(site, 1)
    sealift("validate", digest, "--only", "smoke")

    text = sealift("models", "show", digest[:10]).out

    assert "Stage           registered" in text
    assert "✓ smoke" in text
    assert digest[:12] in sealift("models", "list").out
    assert sealift("history").out == "nothing was ever in production\n"


def test_a_version_that_fails_ends_with_41_and_one_json_document(site: RunningSite, sealift: Run) -> None:
    digest = bring(site, 1)
    for replies in site.supervisor.versions.values():
        replies.pop("/v1/chat/completions")

    failed = sealift("--json", "validate", digest)

    assert (failed.code, failed.facts["passed"], failed.facts["gates"][-1]["gate"]) == (41, False, "smoke")
    assert "✗ smoke" in sealift("validate", digest).out
