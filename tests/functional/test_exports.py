"""What leaves a site: a closed list, shown in full, recorded, believed by the sender without the box."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from appliance.actions import custody, export_evidence, export_figures, export_probe, receipt
from appliance.actions.custody import Rejection
from appliance.actions.export_types import TYPES, ExportType, require_type
from appliance.actions.exporting import RECORDED, Export, write
from appliance.actions.reports import period
from appliance.actions.site_custody import LookedAt
from appliance.audit.entry import Entry
from appliance.audit.leaf import Via
from appliance.audit.log import Log
from appliance.audit.memory import MemoryLedger
from appliance.cli import export as export_command
from appliance.cli.context import Context
from appliance.errors import ExportRefusedError
from appliance.keys.files import FileKeys
from appliance.verify import trust
from appliance.verify.freshness import CustodyAcceptance, Decisions
from bundler.cli.main import create_app
from bundler.dispatch import record_site
from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import LedgerKey
from bundler.probe.facts import Probe
from bundler.receipt import read_receipt
from bundler.register import Register
from bundler.siteevidence import read_evidence, record_evidence
from bundler.sitefigures import read_figures
from media import canonical
from media.errors import BadSignatureError, CustodyError, MediaError, UsageError
from media.siteevidence import SiteEvidence
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.medium import SimulatedMedium
from tests.support.receiving import Shelf, Site

pytestmark = pytest.mark.slow

_NAMES = ("Dana Doe", "photo 12", "S-0001-1", "Gate")
_PROBE = {
    "format": 1,
    "product": "sealift-probe",
    "architecture": "x86_64",
    "cores": 8,
    "memory_mib": 32000,
    "cpu_flags": ["avx2", "sse4_2"],
    "glibc": "2.36",
    "musl": "",
    "distribution": "debian",
    "release": "12",
    "codename": "bookworm",
    "kernel": "6.1",
    "python": "3.11",
    "gpus": [{"name": "NVIDIA H200", "pci": "10de:2335", "count": 1, "memory_mib": 141000}],
    "driver": "550.54.15",
    "cuda": "12.4",
    "packages": ["adduser 3.134 all"],
}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        yield made


@pytest.fixture
def medium(genuine: Shelf) -> SimulatedMedium:
    return genuine()


@pytest.fixture
def site(box: LedgerSite, medium: SimulatedMedium) -> Site:
    places = box.config.at
    places.pinned_trust.mkdir(parents=True)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(medium.root_json)
    return Site(config=box.config.model_copy(update={"environment": "demo", "profile": "cpu"}))


@pytest.fixture
def log(box: LedgerSite, site: Site) -> Iterator[Log]:
    with box.running(site.clock) as running:
        yield running


def key_of(box: LedgerSite) -> LedgerKey:
    return LedgerKey.from_text((box.places.etc / "ledger.pub").read_text())


def taken_with_a_decision(site: Site, medium: SimulatedMedium) -> None:
    decisions = Decisions(custody=CustodyAcceptance(name="Dana Doe", reason="photo 12"))
    site.receive(medium, decisions=decisions, looked_at=LookedAt.parsed(["1=S-9"], []))


def run(site: Site, *arguments: object, as_json: bool = False) -> Result:
    own = Context(config_path=Path("unused"), as_json=as_json, clock=site.clock)
    own._config = site.config
    app = typer.Typer()
    export_command.register(app)
    return CliRunner().invoke(app, ["export", *map(str, arguments)], obj=own)


def decoded(file: bytes) -> str:
    """Return all that a file says, its payload and the record in its proof opened."""
    payload = b64decode(json.loads(file)["payload"])
    proof = json.loads(payload)["ledger"]
    return payload.decode() + (b64decode(proof["leaf"]).decode() if proof else "")


def test_a_receipt_leaves_without_what_people_of_the_site_typed(
    box: LedgerSite, site: Site, log: Log, medium: SimulatedMedium, tmp_path: Path
) -> None:
    taken_with_a_decision(site, medium)
    seen: list[str] = []

    def agrees(text: str) -> bool:
        seen.append(text)
        return True

    written = receipt.export(site.config, 1, tmp_path, clock=site.clock, agrees=agrees)

    assert written is not None
    found = read_receipt(written.file.read_bytes(), SiteKeys.of(key_of(box)))
    assert (found.serial, found.code, found.custody_complete) == (1, medium.code, False)
    assert found.vouched_by == ("signature", "ledger")
    own = (site.config.at.receipts / f"receipt-1-{medium.code[:12]}.dsse.json").read_bytes()
    for file in (written.file.read_bytes(), own):
        assert [name for name in _NAMES if name in decoded(file)] == []
    assert "Alice Archer" in seen[0]
    assert log.find(kind=RECORDED)[0].body["type"] == "receipt"


def test_evidence_of_a_receive_leaves_with_counts_in_place_of_names(
    box: LedgerSite, site: Site, log: Log, medium: SimulatedMedium, tmp_path: Path
) -> None:
    taken_with_a_decision(site, medium)

    written = export_evidence.export(
        site.config, tmp_path, serial=1, sequence=None, clock=site.clock, agrees=lambda _: True
    )

    assert written is not None
    found = read_evidence(written.file.read_bytes(), SiteKeys.of(key_of(box))).fields
    assert found["outcome"] == "received"
    assert found["decisions"] == {"stale": 0, "custody": 1}
    assert [each["seals"] for each in found["custody"]["looked_at"]] == ["other", "not-looked-at"]
    assert {each["result"] for each in found["checks"]} == {"held"}
    assert [name for name in _NAMES if name in decoded(written.file.read_bytes())] == []
    assert log.find(kind=RECORDED)[0].body["type"] == "evidence"


def test_the_sender_learns_why_a_medium_was_refused_and_enters_it(
    box: LedgerSite, site: Site, log: Log, medium: SimulatedMedium, tmp_path: Path
) -> None:
    with pytest.raises(CustodyError):
        site.receive(medium, looked_at=LookedAt.parsed(["1=S-9"], []))
    refused = log.find(kind="release.refused")[0].sequence

    written = export_evidence.export(
        site.config, tmp_path, serial=None, sequence=refused, clock=site.clock, agrees=lambda _: True
    )

    assert written is not None
    register = Register(folder=tmp_path / "register")
    with pytest.raises(UsageError, match="not registered"):
        record_evidence(register, written.file.read_bytes(), clock=site.clock)
    record_site(register, "demo-clinic", key_of(box), replaces=False, clock=site.clock)
    found, is_new = record_evidence(register, written.file.read_bytes(), clock=site.clock)
    assert is_new
    assert not record_evidence(register, written.file.read_bytes(), clock=site.clock)[1]
    assert (found.fields["outcome"], found.fields["error"], found.fields["exit_code"]) == ("refused", "custody", 26)
    entry = register.entries()[-1]
    assert (entry.kind, entry.facts["release"], entry.facts["error"]) == ("evidence", "demo-1", "custody")


_INTENT = {
    "department": "oncology-ward-7",
    "key_id": "secretkeyid",
    "user_hash": "ab" * 32,
    "model": "house-model",
    "model_digest": "cd" * 32,
    "arm": "production",
    "phi": {"SSN": 2},
}


def happened(log: Log, kind: str, body: dict[str, Any]) -> None:
    log.append([Entry.of(kind, body, via=Via(door="ledger-gateway", uid=0))])


def test_monitoring_figures_leave_as_counts_without_a_word_of_the_sites_own(
    box: LedgerSite, site: Site, log: Log, tmp_path: Path
) -> None:
    for number, said in enumerate(("PHI", "not said", "Dana Doe <said>")):
        happened(log, "request.intent", {**_INTENT, "request_id": f"req_{number}", "classification": said})
    happened(
        log, "request.outcome", {"request_id": "req_0", "outcome": "ok", "prompt_tokens": 7, "completion_tokens": 5}
    )
    happened(log, "request.refused", {"code": "rate-limited", "repeated": 41})
    now = site.clock.now()
    year = period.between(f"{now.year}-01-01", f"{now.year + 1}-01-01")

    written = export_figures.export(
        site.config, tmp_path, period=year, supervisor=None, clock=site.clock, agrees=lambda _: True
    )

    assert written is not None
    untrusted = written.file.read_bytes()
    register = Register(folder=tmp_path / "register")
    with pytest.raises(UsageError, match="not registered"):
        read_figures(register.entries(), untrusted)
    record_site(register, "demo-clinic", key_of(box), replaces=False, clock=site.clock)
    found = read_figures(register.entries(), untrusted)
    counts = found.fields["counts"]
    assert found.vouched_by == ("signature", "ledger")
    assert counts["answers"] == {"begun": 3, "ended": 1, "open": 2}
    assert counts["tokens"] == {"asked": 7, "answered": 5}
    assert counts["classes"] == {"PHI": 1, "not-said": 1}  # what is no name of ours stays
    assert (counts["phi"], counts["refusals"]) == ({"SSN": 6}, {"rate-limited": 41})
    numbers = {one["name"]: one["thousandths"] for one in found.fields["numbers"]}
    assert numbers["sealift_ledger_records"] >= 5000
    assert "sealift_production_info" not in numbers
    text = decoded(untrusted)
    words = (*_NAMES, "oncology", "secretkeyid", "ab" * 32, "house-model", "cd" * 32)
    assert [word for word in words if word in text] == []
    short = re.sub(r"[0-9a-f]{64}", "", text)  # a digest may have either of these by chance
    assert [part for part in ("abab", "cdcd") if part in short] == []
    assert log.find(kind=RECORDED)[0].body["type"] == "figures"
    with pytest.raises(MediaError):
        read_figures(register.entries(), untrusted.replace(b"payloadType", b"payloadTyp3"))
    told = CliRunner().invoke(
        create_app(), ["register", "figures", str(written.file), "--register", str(register.folder)]
    )
    assert told.exit_code == 0, told.output
    assert "refusals: rate-limited 41" in told.output
    assert "vouched for by the site's ledger key (signature and ledger)" in told.output


def test_figures_are_shown_by_the_command_and_need_a_time(site: Site, log: Log) -> None:
    shown = run(site, "figures", "--quarter", "last", "--dry-run")

    assert shown.exit_code == 0, shown.output
    assert "sealift_disk_available_bytes" in shown.output
    assert log.find(kind=RECORDED) == []
    assert isinstance(run(site, "figures", "--dry-run").exception, UsageError)


def test_a_volume_that_was_sent_back_unmounted_is_told_by_its_id(
    box: LedgerSite, site: Site, log: Log, tmp_path: Path
) -> None:
    rejection = Rejection(volume="0123456789abcdef", by="Dana Doe", reason="photo 12", seals=("S-9",))
    sequence = custody.reject(site.config, rejection, clock=site.clock).sequence

    written = export_evidence.export(
        site.config, tmp_path, serial=None, sequence=sequence, clock=site.clock, agrees=lambda _: True
    )

    assert written is not None
    found = read_evidence(written.file.read_bytes(), SiteKeys.of(key_of(box)))
    assert (found.fields["outcome"], found.volumes) == ("rejected", ("0123456789abcdef",))
    assert [name for name in _NAMES if name in decoded(written.file.read_bytes())] == []
    assert log.head().size > sequence


def test_changed_evidence_is_believed_by_nobody(
    box: LedgerSite, site: Site, log: Log, medium: SimulatedMedium, tmp_path: Path
) -> None:
    site.receive(medium)
    written = export_evidence.export(
        site.config, tmp_path, serial=1, sequence=None, clock=site.clock, agrees=lambda _: True
    )
    assert written is not None
    assert log.head().size
    envelope = canonical.mapping(canonical.loads(written.file.read_bytes()), "e")
    payload = canonical.mapping(canonical.loads(b64decode(envelope["payload"])), "p")
    for changes in ({"outcome": "refused"}, {"serial": 2}, {"site": "elsewhere"}):
        made = canonical.dumps(
            {**envelope, "signatures": [], "payload": b64encode(canonical.dumps({**payload, **changes})).decode()}
        )
        with pytest.raises(BadSignatureError):
            read_evidence(made, SiteKeys.of(key_of(box)))


def test_a_probe_leaves_as_it_is_and_recorded(site: Site, log: Log, tmp_path: Path) -> None:
    (tmp_path / "probe.json").write_bytes(canonical.dumps(_PROBE) + b"\n")

    written = export_probe.export(
        site.config, tmp_path / "probe.json", tmp_path / "out", clock=site.clock, agrees=lambda _: True
    )

    assert written is not None
    assert Probe.load(written.file).gpus[0].name == "NVIDIA H200"
    body = log.find(kind=RECORDED)[0].body
    assert (body["type"], body["sha256"]) == ("probe", written.sha256)


@pytest.mark.parametrize(
    "changes",
    [
        {"hostname": "ward-3"},
        {"distribution": "Debian 12 of Ward 3"},
        {"gpus": [{"name": "x\u202ey", "pci": "10de:2335", "count": 1, "memory_mib": 1}]},
        {"packages": ["note: patient John"]},
        {"product": "other"},
        {"cores": "8"},
    ],
)
def test_what_is_no_probe_does_not_leave(changes: dict[str, Any]) -> None:
    require_type(ExportType.PROBE, canonical.dumps(_PROBE))

    with pytest.raises(ExportRefusedError):
        require_type(ExportType.PROBE, canonical.dumps({**_PROBE, **changes}))


class _Draft:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def to_payload(self, *, ledger: Any) -> bytes:
        return self.content


@pytest.mark.parametrize("kind", list(ExportType))
def test_nothing_leaves_that_is_not_of_its_type(tmp_path: Path, kind: ExportType) -> None:
    ledger = MemoryLedger(site="demo-clinic")
    too_large = b'{"a":"' + b"x" * TYPES[kind].most_bytes + b'"}'
    for content in (b"{}", b'{"note":"hello"}', b"free text", too_large):
        made = Export(kind=kind, site="demo-clinic", name="x", draft=_Draft(content))
        with pytest.raises(ExportRefusedError):
            write(made, tmp_path / "out", ledger=ledger, keys=FileKeys(tmp_path), agrees=lambda _: True)
    assert not (tmp_path / "out").exists()
    assert ledger.find(kind=RECORDED) == []


def test_a_name_that_looks_like_a_patients_number_stops_a_receipt(site: Site, medium: SimulatedMedium) -> None:
    site.receive(medium)
    facts = receipt._stored(site.config, 1)
    facts["signers"] = [{"person": "a", "fingerprint": "A" * 40, "name": "SSN 123-45-6789"}]
    draft = receipt.Receipt(site="demo-clinic", outcome="received", at="2026-11-21T09:00:00Z", facts=facts)
    content = draft.to_payload(ledger=None)

    require_type(ExportType.RECEIPT, content)
    with pytest.raises(ExportRefusedError, match="signers"):
        write(
            Export(kind=ExportType.RECEIPT, site="demo-clinic", name="r", draft=draft),
            site.config.at.receipts,
            ledger=None,  # type: ignore[arg-type]  # it is refused before anything is recorded
            keys=FileKeys(site.config.at.key_files),
            agrees=lambda _: True,
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"note": "x"},
        {"outcome": "fine"},
        {"signers": ["Alice"]},
        {"volumes": [{"id": "x", "number": 1, "tagmanifest_sha256": ""}]},
        {"checks": [{"check": "site", "result": "maybe", "at": "", "end": ""}]},
        {"decisions": {"stale": "Dana", "custody": 0}},
        {"verifier": {"version": "free text here", "sha256": "a" * 64}},
        {"format": 2},
    ],
)
def test_evidence_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    plain: dict[str, Any] = {
        "format": 1,
        "type": "sealift/evidence",
        "site": "demo-clinic",
        "at": "2026-11-21T09:00:00Z",
        "record": {"kind": "release.refused", "sequence": 3},
        "outcome": "refused",
        "error": "custody",
        "exit_code": 26,
        "release": "",
        "serial": 0,
        "code": "",
        "payload_digest": "",
        "signers": [],
        "volumes": [],
        "checks": [],
        "custody": None,
        "decisions": {"stale": 0, "custody": 0},
        "verifier": None,
        "ledger": None,
    }
    assert SiteEvidence.from_payload(canonical.dumps(plain))[0].fields["error"] == "custody"
    with pytest.raises(MediaError):
        SiteEvidence.from_payload(canonical.dumps({**plain, **changes}))


def test_the_commands_show_all_before_they_write(site: Site, log: Log, medium: SimulatedMedium, tmp_path: Path) -> None:
    site.receive(medium)
    listed = json.loads(run(site, "list", as_json=True).stdout)["types"]
    assert sorted(listed) == ["evidence", "figures", "inventory", "probe", "receipt"]
    assert [kind for kind in listed if listed[kind]["free_text"]] == ["receipt"]

    assert isinstance(run(site, "receipt", 1).exception, UsageError)
    shown = run(site, "receipt", 1, "--dry-run", "--to", tmp_path / "out")
    assert medium.code in shown.stderr
    assert shown.stdout == "nothing was written\n"
    assert log.find(kind=RECORDED) == []

    done = run(site, "evidence", 1, "--yes", "--to", tmp_path / "out", as_json=True)
    assert json.loads(done.stdout)["written"]
    assert '"checks"' in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert isinstance(run(site, "evidence", "--yes").exception, UsageError)
