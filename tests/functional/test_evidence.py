"""The evidence that people sign: made at the receive, also of a refusal, and again from the records."""

import io
from pathlib import Path
from typing import Any

import pypdf
import pytest
import typer
from typer.testing import CliRunner, Result

from appliance.actions import custody, evidence
from appliance.actions.custody import PaperHandOver, Rejection
from appliance.actions.site_custody import LookedAt
from appliance.cli import custody as custody_command
from appliance.cli import evidence as evidence_command
from appliance.cli import receive
from appliance.cli.context import Context
from appliance.config import Config
from appliance.errors import UnknownReleaseError
from appliance.verify.freshness import CustodyAcceptance, Decisions
from media.errors import CustodyError, DigestMismatchError, MissingVolumeError, UsageError
from tests.support.ledger import ledger_site
from tests.support.receiving import Shelf, Site, make_site

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all


def text_of(file: Path) -> str:
    if file.suffix == ".html":
        return file.read_text("utf-8")
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(file.read_bytes())).pages)


def lines_of(file: Path) -> str:
    return " ".join(text_of(file).split())


def results(body: Any) -> dict[str, str]:
    return {each["check"]: each["result"] for each in body["checks"]}


@pytest.fixture
def box(tmp_path: Path, genuine: Shelf) -> Site:
    return make_site(tmp_path / "box", genuine().root_json)


def test_a_receive_leaves_a_form_with_every_check_its_time_and_its_result(
    box: Site, genuine: Shelf, tmp_path: Path
) -> None:
    medium = genuine()

    facts = box.receive(medium, evidence=tmp_path / "e.pdf", looked_at=LookedAt.parsed(["1=S-0001-1"], []))

    text = lines_of(tmp_path / "e.pdf")
    assert "RECEIVED: every check held" in text
    assert medium.code in text.replace(" ", "")
    for said in ("Alice Archer", "Bob Baker", "found: S-0001-1; recorded: S-0001-1", "nobody looked", "demo-clinic"):
        assert said in text
    assert text.count("passed") == 17
    assert "2026-11-21T09:00:00Z" in text.replace(" ", "")
    assert facts.receipt.replace("-", "") in text.replace(" ", "").replace("-", "")
    assert "security officer (print)" in text
    (record,) = box.facts("release.")
    assert set(results(record["body"]).values()) == {"held"}
    assert len(record["body"]["verifier"]["sha256"]) == 64


def test_a_refusal_says_what_passed_what_failed_and_what_was_not_reached(
    box: Site, genuine: Shelf, tmp_path: Path
) -> None:
    medium = genuine(sites=("elsewhere",))

    with pytest.raises(Exception, match="elsewhere"):
        box.receive(medium, evidence=tmp_path / "e.html")

    (record,) = box.facts("release.")
    found = results(record["body"])
    assert found["index"] == "held"
    assert found["site"] == "refused"
    assert found["machine"] == found["bytes"] == "not-reached"
    text = text_of(tmp_path / "e.html")
    assert "REFUSED: wrong-site (exit code 24)" in text
    assert text.count("not reached") == 9
    assert "demo-1" in text


def test_a_damaged_file_is_found_in_the_step_that_reads_bytes(box: Site, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    medium.flip_bit("data/wheels/tiny-1.0-py3-none-any.whl")

    with pytest.raises(DigestMismatchError):
        box.receive(medium, evidence=tmp_path / "e.html")

    found = results(box.facts("release.")[0]["body"])
    assert (found["custody"], found["ledger"], found["bytes"]) == ("held", "held", "refused")
    assert "digest-mismatch" in text_of(tmp_path / "e.html")


def test_a_volume_that_came_alone_leaves_a_form_of_its_own(box: Site, genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine()
    with pytest.raises(MissingVolumeError):
        box.receive(medium.volumes[:1], evidence=tmp_path / "one.html", looked_at=LookedAt.parsed(["1=S-0001-1"], []))

    both = LookedAt.parsed(["1=S-0001-1", "2=S-0001-2"], [])
    box.receive(medium.volumes[1:], evidence=tmp_path / "two.html", looked_at=both)

    first, second = text_of(tmp_path / "one.html"), text_of(tmp_path / "two.html")
    assert "IN PART" in first
    assert first.count("<td>in part</td>") == 1
    assert "Seals seen on volume 1" in first
    assert second.count("found: S-0001-") == 2
    assert "nobody looked" not in second


def test_a_dry_run_leaves_a_form_and_no_record(box: Site, genuine: Shelf, tmp_path: Path) -> None:
    box.receive(genuine(), evidence=tmp_path / "e.html", dry_run=True)

    assert "CHECKED ONLY" in text_of(tmp_path / "e.html")
    assert box.facts() == []


@pytest.mark.parametrize("name", ["e.txt", "there.pdf", "nowhere/e.pdf"])
def test_a_form_that_could_not_be_written_is_refused_before_anything_is_read(
    box: Site, genuine: Shelf, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.pdf").write_bytes(b"")

    with pytest.raises(UsageError):
        box.receive(genuine(), evidence=tmp_path / name)

    assert box.facts() == []


def test_decisions_stand_on_the_form_with_names_and_nothing_in_them_can_mislead(
    box: Site, genuine: Shelf, tmp_path: Path
) -> None:
    medium = genuine()
    decisions = Decisions(custody=CustodyAcceptance(name="Dana <b>", reason="photo 12 & {{ 7 }}"))

    box.receive(medium, evidence=tmp_path / "e.html", looked_at=LookedAt.parsed(["1="], []), decisions=decisions)

    text = text_of(tmp_path / "e.html")
    assert "Dana &lt;b&gt;: photo 12 &amp; {{ 7 }}" in text
    assert "To be judged: volume 1: the seals found (none) are not those recorded last (S-0001-1)" in text


@pytest.mark.parametrize(("name", "reason"), [("Dana\u202e", "x"), ("Dana", "photo 12\x1b[2J"), ("Da\nna", "x")])
def test_a_name_or_a_reason_that_could_mislead_is_refused_before_anything_is_read(
    box: Site, genuine: Shelf, name: str, reason: str
) -> None:
    with pytest.raises(UsageError):
        box.receive(genuine(), decisions=Decisions(custody=CustodyAcceptance(name=name, reason=reason)))

    assert box.facts() == []


def test_the_form_is_made_again_from_the_records(tmp_path: Path, genuine: Shelf) -> None:
    medium = genuine()
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        made.config.at.pinned_trust.mkdir(parents=True)
        (made.config.at.pinned_trust / "1.root.json").write_bytes(medium.root_json)
        config: Config = made.config.model_copy(update={"environment": "demo", "profile": "cpu"})
        site = Site(config=config)
        with made.running(site.clock) as log:
            with pytest.raises(CustodyError):
                site.receive(medium, looked_at=LookedAt.parsed(["1=X"], ["2=0123456789abcdef"]))
            site.receive(medium, evidence=tmp_path / "first.html")
            refused = log.find(kind="release.refused")[0].sequence
            again = evidence.write_again(config, tmp_path / "again.html", serial=1, sequence=None, clock=site.clock)
            evidence.write_again(config, tmp_path / "no.pdf", serial=None, sequence=refused, clock=site.clock)
            with pytest.raises(UnknownReleaseError):
                evidence.write_again(config, tmp_path / "x.pdf", serial=9, sequence=None, clock=site.clock)
            with pytest.raises(UsageError):
                evidence.write_again(config, tmp_path / "x.pdf", serial=None, sequence=0, clock=site.clock)

    first, second = text_of(tmp_path / "first.html"), text_of(tmp_path / "again.html")
    assert f"record {again.sequence} of" in first
    assert f"record {again.sequence} of" in second
    assert f"<td>{refused}</td>" in second
    assert [row for row in first.splitlines() if "passed" in row][:16] == [
        row for row in second.splitlines() if "passed" in row
    ][:16]
    no = lines_of(tmp_path / "no.pdf")
    assert "REFUSED: custody (exit code 26)" in no
    assert "Seals seen on volume 1 X" in no
    assert "0123456789abcdef" in no


def test_a_form_of_what_waits_for_the_ledger_is_printed_too(box: Site, genuine: Shelf, tmp_path: Path) -> None:
    box.receive(genuine())

    said = run(box, "evidence", 1, "--out", tmp_path / "e.html")

    assert said.stdout == "the form is in e.html\n"
    assert "waits for the ledger to start" in text_of(tmp_path / "e.html")


def test_paper_and_rejections_of_this_site_count_for_the_next_receive(box: Site, genuine: Shelf) -> None:
    medium = genuine()
    shown = custody.show(box.config, medium.volumes, clock=box.clock)
    volume = shown[1]["id"]
    form = PaperHandOver(
        volume=volume,
        sender="Mallory",
        receiver="Dana",
        at="2026-11-20 12:00+02:00",
        place="Gate",
        seals=("S-0001-2",),
        condition="",
        entered_by="Dana",
    )
    custody.enter(box.config, form, clock=box.clock)
    custody.reject(box.config, Rejection(volume=shown[0]["id"], by="Dana", reason="no label"), clock=box.clock)

    with pytest.raises(CustodyError) as refusal:
        box.receive(medium)

    assert "this site has rejected this volume" in refusal.value.what
    assert "went to another person than the paper of 2026-11-20T10:00:00Z came from" in refusal.value.why


def run(site: Site, *arguments: object, as_json: bool = False) -> Result:
    own = Context(config_path=Path("unused"), as_json=as_json, clock=site.clock)
    own._config = site.config
    app = typer.Typer()
    for command in (receive, custody_command, evidence_command):
        command.register(app)
    return CliRunner().invoke(app, [str(each) for each in arguments], obj=own)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--seal", "A-1"),
        ("--seal", "0=A"),
        ("--seal", "1=", "--seal", "1=A"),
        ("--seal", "1=\u202e"),
        ("--custody-head", "1=abc"),
        ("--custody-head", f"1={'a' * 16}", "--custody-head", f"1={'b' * 16}"),
    ],
)
def test_a_slip_in_what_was_seen_is_told_before_anything_is_read(
    box: Site, genuine: Shelf, wrong: tuple[str, ...]
) -> None:
    said = run(box, "receive", *wrong, *genuine().volumes)

    assert isinstance(said.exception, UsageError)
    assert box.facts() == []


def test_heads_are_typed_as_people_read_them_out() -> None:
    assert LookedAt.parsed([], ["2=0123 4567 89AB CDEF"]).heads == {2: "0123456789abcdef"}


def test_a_label_code_names_the_volume_that_is_rejected(box: Site) -> None:
    assert custody.volume_of_label("SEALIFT:1:demo-1:1:1/2:0123456789abcdef") == "0123456789abcdef"
    for wrong in ("", "SEALIFT:1:demo-1:1:1/2:xyz", "0123456789abcdef"):
        with pytest.raises(UsageError):
            custody.volume_of_label(wrong)
    said = run(
        box, "custody", "reject", "--code", "SEALIFT:1:demo-1:1:1/2:0123456789abcdef", "--by", "D", "--reason", "r"
    )
    assert said.exit_code == 0
    assert box.facts("custody.")[-1]["body"]["volume"] == "0123456789abcdef"
    with pytest.raises(UsageError):
        custody.reject(box.config, Rejection(volume="label", by="D", reason="r"), clock=box.clock)
