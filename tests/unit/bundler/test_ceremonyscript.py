"""The script of a ceremony says who does what, with the very digests that people read aloud."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from bundler.ceremonyscript import Script, ceremony_script
from bundler.chunks import to_lines
from bundler.cli.main import main
from bundler.errors import CeremonyError
from bundler.joining import Joining
from bundler.keyfile import KeyKind
from bundler.proposal import Proposal, propose
from bundler.sheet import spaced
from media.errors import UsageError
from tests.support.gpg import GnuPG
from tests.support.members import make_member

AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def joinings(tmp_path_factory: pytest.TempPathFactory, gnupg: GnuPG) -> list[Joining]:
    folder = tmp_path_factory.mktemp("script")
    names = {"sam": "Sam Sørensen", "tess": "Tess Ж"}
    return [
        make_member(folder / person, gnupg, person, kinds=(KeyKind.P384,), name=name).joining
        for person, name in names.items()
    ]


@pytest.fixture(scope="module")
def proposal(joinings: list[Joining]) -> Proposal:
    return propose(None, add=joinings, environment="demo")


def script(proposal: Proposal, joinings: list[Joining], **changes: Any) -> Script:
    facts: dict[str, Any] = {
        "before": None,
        "witnesses": ["Wendy Witness"],
        "place": "Room 1",
        "at": AT,
        "is_offline": True,
    }
    return ceremony_script(proposal, joinings, **{**facts, **changes})


def test_the_script_has_every_digest_and_a_line_for_everyone(proposal: Proposal, joinings: list[Joining]) -> None:
    text = script(proposal, joinings).to_text()

    for line in (*spaced(proposal.digest, 8, 4), *spaced(joinings[0].sha256, 8, 4), *spaced(joinings[1].sha256, 8, 4)):
        assert line in text
    assert "I am Sam Sørensen" in text
    assert "*** DEMO: a production box refuses this root for ever ***" in text
    assert [number for number in range(1, 40) if f"[ ] {number}. " in text] == list(range(1, 18))
    assert text.count("witnesses' initials") == 8
    assert text.count("--offline-required") == 3
    assert "Wendy Witness" in text.rpartition("Witnesses: I saw every step ticked")[2]


def test_the_same_stands_in_the_pdf(proposal: Proposal, joinings: list[Joining]) -> None:
    pages = PdfReader(io.BytesIO(script(proposal, joinings).to_pdf())).pages
    text = "\n".join(page.extract_text() for page in pages)

    for line in (*spaced(proposal.digest, 8, 4), "Tess Ж: signs on the own machine", "Wendy Witness", "Will"):
        assert (line in text) is (line != "Will")


def test_a_network_is_not_spoken_of_where_it_is_allowed(proposal: Proposal, joinings: list[Joining]) -> None:
    assert "offline" not in script(proposal, joinings, is_offline=False).to_text()


@pytest.mark.parametrize("witnesses", [[], [" "], ["sam  sørensen"], ["Wendy Witness", "wendy witness"]])
def test_a_witness_is_somebody_else(proposal: Proposal, joinings: list[Joining], witnesses: list[str]) -> None:
    with pytest.raises(CeremonyError, match="witness"):
        script(proposal, joinings, witnesses=witnesses)


def test_a_joining_file_of_another_ceremony_is_refused(
    proposal: Proposal, joinings: list[Joining], gnupg: GnuPG, tmp_path: Path
) -> None:
    stranger = make_member(tmp_path, gnupg, "uma", kinds=(KeyKind.P384,)).joining

    with pytest.raises(CeremonyError, match="joining file of uma"):
        script(proposal, [*joinings, stranger])


def test_codes_of_two_files_are_no_proposal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scanned.txt").write_text("\n".join([*to_lines(b"one"), *to_lines(b"two")]))
    words = ["ceremony", "script", str(tmp_path / "script.txt"), "--proposal", str(tmp_path / "scanned.txt")]

    with pytest.raises(SystemExit) as ended:
        main([*words, "--witness", "Wendy Witness"])

    assert ended.value.code == UsageError.exit_code
    assert "one proposal is expected" in capsys.readouterr().err
