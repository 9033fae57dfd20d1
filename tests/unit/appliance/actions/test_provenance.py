"""One record of each version has every field that governance asks for, from what was signed and what is recorded."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from appliance.actions.history import history
from appliance.actions.provenance import provenance
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.registry import catalog, evidence
from appliance.registry.aliases import aliases
from appliance.state import projection
from media import canonical
from tests.support.installable import store_release
from tests.support.promotion import digest as sha
from tests.support.promotion import open_site
from tests.support.signatories import signatories
from tests.support.versions import version_files

SENT = {
    "format": 1,
    "name": "tiny",
    "version": "1",
    "source": "https://models.example/tiny",
    "download_date": "2026-11-01T00:00:00Z",
    "license": "Apache-2.0",
    "created_by": "ops team",
    "changes": ["longer context"],
}


def bring(config: Config, ledger: MemoryLedger, state: Engine, name: str, serial: int) -> str:
    files = version_files(name, weights=name.encode())
    files[f"data/models/{name}/provenance.json"] = canonical.dumps(SENT)
    stored = store_release(config.at, files, serial=serial)
    return catalog.register(ledger, state, stored)[0]


def judge(ledger: MemoryLedger, digest: str, **figures: int) -> None:
    body: dict[str, Any] = {"model_digest": digest, "passed": True, "evidence_digest": "e" * 64, "figures": figures}
    ledger.append("gate.result", {**body, "gate": "latency"})


def serve(ledger: MemoryLedger, digest: str, previous: str | None) -> None:
    statement = canonical.dumps({"meaning": "better answers"}).decode()
    ledger.append("promotion.requested", {"model_digest": digest, "requested_by": "iris", "statement": statement})
    approvals = [{"person": "ana", "name": "Ana"}, {"person": "ben", "name": "Ben"}]
    made = {"model_digest": digest, "previous": previous, "approvals": approvals, "requested_by": "iris"}
    ledger.append("promotion.made", {**made, "statement": statement})


def test_a_version_that_was_deployed_has_every_field(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    old, new = (bring(config, ledger, state, name, serial) for serial, name in enumerate(("old", "new"), start=1))
    judge(ledger, old, latency_p50_millis=1000, latency_p99_millis=2000, accuracy_millis=900, throughput_millis=10000)
    judge(ledger, new, latency_p50_millis=850, latency_p99_millis=2100, accuracy_millis=882, throughput_millis=14000)
    for person, digest in (("gus", new), ("ana", new), ("gus", new), ("ben", old)):
        ledger.append("answers.judged", {"model_digest": digest, "person": person})
    serve(ledger, old, None)
    serve(ledger, new, old)
    projection.catch_up(state, ledger)
    with state.connect() as session:
        version = catalog.version(session, "production")
        assert aliases(session) == {"production": new, "previous": old}

    told = provenance(config, ledger, version).to_json()

    assert (told["name"], told["version"], told["sha256"]) == ("new", "1", version.weights_digest)
    assert (told["source"], told["created_by"]) == (SENT["source"], "ops team")
    assert (told["approved_by"], told["review_status"]) == (["Ana", "Ben"], "approved")
    assert told["deployment_date"] is not None
    assert told["model_path"] == "data/models/new/weights.gguf"
    assert told["performance_baseline"] == {
        "latency_p50_millis": 850,
        "latency_p99_millis": 2100,
        "throughput_millis": 14000,
        "accuracy_millis": 882,
    }
    assert told["approval"] == {
        "requested_by": "iris",
        "reviewed_by": ["gus", "ana"],
        "approved_by": ["Ana", "Ben"],
        "tested": True,
    }
    assert told["changelog"] == {
        "version": "1",
        "date": SENT["download_date"],
        "changes": ["longer context"],
        "compared_with": old,
        "impact": {"latency": "-15.0 %", "quality": "-2.0 %", "throughput": "+40.0 %"},
    }


def test_who_asked_and_approved_are_those_of_what_brought_it_into_production(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    digest = bring(config, ledger, state, "new", 1)
    old = {"model_digest": digest, "statement_sha256": "a" * 64, "person": "gus", "name": "Gus"}
    ledger.append("approval.given", old)  # of a statement that was void before anybody else signed it
    approvals = [{"person": "ana", "name": "Ana"}, {"person": "ben", "name": "Ben"}]
    terms = {"version": digest, "percent": 20, "hours": 1, "watch_hours": 48}
    signed = {"approvals": approvals, "requested_by": "iris", "terms": terms}
    ledger.append("promotion.canary-started", {"model_digest": "b" * 64, "previous": "b" * 64, **signed})
    done = {"model_digest": digest, "previous": "b" * 64, "person": "dag", "reason": "quiet", "terms": terms}
    ledger.append("promotion.cut-over", done)
    ledger.append("promotion.requested", {"model_digest": digest, "requested_by": "cas"})  # again, after a stop
    with state.connect() as session:
        version = catalog.version(session, digest)

    told = provenance(config, ledger, version).to_json()["approval"]

    assert (told["requested_by"], told["approved_by"]) == ("iris", ["Ana", "Ben"])


def test_what_nobody_stated_or_measured_is_none_and_never_guessed(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    stored = store_release(config.at, version_files())
    (digest,) = catalog.register(ledger, state, stored)
    with state.connect() as session:
        version = catalog.version(session, digest)

    told = provenance(config, ledger, version).to_json()

    assert (told["source"], told["created_by"], told["deployment_date"]) == (None, None, None)
    assert (told["approved_by"], told["review_status"], told["performance_baseline"]) == ([], "not reviewed", None)
    assert (told["changelog"]["changes"], told["changelog"]["impact"]) == ([], None)


def test_a_deleted_version_leaves_the_list_stays_in_the_history_and_comes_back_by_a_new_receive(
    config: Config, state: Engine
) -> None:
    ledger = MemoryLedger()
    files = version_files()
    stored = store_release(config.at, files)
    received = {"serial": 1, "release": "r", "code": "c" * 64}
    ledger.append("release.received", received)
    (digest,) = catalog.register(ledger, state, stored)
    judge(ledger, digest)
    ledger.append("model.deleted", {"model_digest": digest, "person": "ana", "reason": "superseded"})
    projection.catch_up(state, ledger)

    def known() -> list[str]:
        with state.connect() as session:
            return [one.model_digest for one in catalog.versions(session)]

    catalog.register(ledger, state, stored)
    assert known() == []
    told = [(one.what, one.people, one.reason) for one in history(ledger, model_digest=digest)]
    assert told[-1] == ("deleted", ("ana",), "superseded")

    ledger.append("release.reverified", received)
    catalog.register(ledger, state, stored)
    assert known() == [digest]
    with state.connect() as session:
        assert catalog.judgements(session, digest) == ()


def test_history_says_why_in_the_words_that_people_signed(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    digest = bring(config, ledger, state, "tiny", 1)
    judge(ledger, digest)
    serve(ledger, digest, None)

    assert [(one.what, one.reason) for one in history(ledger)] == [
        ("requested", "better answers"),
        ("made", "better answers"),
    ]
    assert [one.what for one in history(ledger, every=True)] == ["registered", "validated", "requested", "made"]


def test_each_signature_is_told_with_the_signers_name_its_time_and_what_it_meant(tmp_path: Path) -> None:
    """21 CFR 11.50: in every form for people, also for one version alone and where two statements wait."""
    site = open_site(tmp_path)
    ana, ben, *_ = signatories()
    one, other = site.request(sha("one"), meaning="better answers"), site.request(sha("other"), meaning="shorter ones")
    site.clock.advance(60)
    site.approve(one, ana)
    site.approve(other, ben)

    def shown(name: str) -> str:
        return f"{name} (lower class: is an admin too)"

    told = [(e.what, e.people, e.at, e.reason) for e in history(site.ledger) if e.what == "approved"]
    assert told == [
        ("approved", (shown(ana.name),), "2026-11-20T08:01:00Z", "better answers"),
        ("approved", (shown(ben.name),), "2026-11-20T08:01:00Z", "shorter ones"),
    ]
    alone = history(site.ledger, model_digest=sha("other"))
    assert [(e.people, e.reason) for e in alone if e.what == "approved"] == [((shown(ben.name),), "shorter ones")]


def test_the_baseline_under_load_is_that_of_most_callers_as_the_evidence_has_it(config: Config, state: Engine) -> None:
    ledger = MemoryLedger()
    digest = bring(config, ledger, state, "tiny", 1)
    levels = [{"callers": callers, "latency_p50_millis": 100 * callers} for callers in (1, 16, 4)]
    gates = [{"gate": "performance", "figures": {"levels": levels}}, {"gate": "other", "figures": {"load_millis": 1}}]
    kept = evidence.store(config.at, {"gates": gates})
    body: dict[str, Any] = {"model_digest": digest, "passed": True, "evidence_digest": kept, "figures": {}}
    ledger.append("gate.result", {**body, "gate": "performance"})
    with state.connect() as session:
        version = catalog.version(session, digest)

    assert provenance(config, ledger, version).to_json()["performance_baseline"] == {"latency_p50_millis": 1600}
