"""From a ceremony to a checked medium by command line, as people type it, with real GnuPG."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundler.cli.main import main
from media import layout
from tests.support.candidate import new_candidate
from tests.support.medium import make_medium

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all


class Typist:
    """Types commands in one folder and keeps what came out."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.talk = ""

    def run(self, *arguments: object) -> tuple[int, str]:
        """Return the exit code and what was printed."""
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        self.talk = captured.err
        return int(ended.value.code or 0), captured.out

    def facts(self, *arguments: object) -> dict[str, Any]:
        """Return the JSON result of a command that must succeed."""
        code, out = self.run("--json", *arguments)
        assert code == 0, self.talk
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    return Typist(capsys)


PEOPLE = ("--person", "alice:Alice Archer", "--person", "bob:Bob Baker")


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_of_each_command_that_changes_something_changes_nothing(typist: Typist, tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    fresh, root = new_candidate(tmp_path / "w").root, medium.ceremony.folder
    before = contents_of(tmp_path)
    as_alice = ("--ceremony", root, "--person", "alice")

    held = typist.facts("ceremony", "hold", tmp_path / "c", "--environment", "demo", *PEOPLE, "--dry-run")
    refused, _ = typist.run(
        "ceremony", "hold", tmp_path / "c", "--environment", "demo", "--person", "alice:A B", "--dry-run"
    )
    rotated = typist.facts("ceremony", "rotate", root, "--person", "dan:Dan Drew", "--dry-run")
    attested = typist.facts("attest", fresh, *as_alice, "--only", "sbom", "--capacity", "20MB", "--dry-run")
    again = typist.facts(
        "reissue", medium.work.root, tmp_path / "again", "--stale-after", "2031-01-01T00:00:00Z", "--dry-run"
    )
    earlier, _ = typist.run(
        "reissue", medium.work.root, tmp_path / "again", "--stale-after", "2001-01-01T00:00:00Z", "--dry-run"
    )

    assert contents_of(tmp_path) == before
    assert list(held["people"]) == ["alice", "bob"]
    assert (refused, earlier) == (114, 111)
    assert rotated["people"]["dan"]["name"] == "Dan Drew"
    assert (attested["would_sign"], attested["volumes"]) == (["sbom"], 1)
    assert (again["issue"], again["dry_run"]) == (1, True)


def test_a_release_goes_from_ceremony_to_checked_media(typist: Typist, tmp_path: Path) -> None:
    work, root = new_candidate(tmp_path / "w").root, tmp_path / "c"
    held = typist.facts("ceremony", "hold", root, "--environment", "demo", *PEOPLE)
    as_alice = ("--ceremony", root, "--person", "alice")
    as_bob = ("--ceremony", root, "--person", "bob")

    planned = typist.facts("seal", work, "--dry-run", "--capacity", "20MB")
    attested = typist.facts("attest", work, *as_alice, "--capacity", "20MB", "--seal", "1=A-100", "--place", "Room 1")
    first = typist.facts("sign", work, *as_bob)
    second = typist.facts("sign", work, *as_alice)
    sealed = typist.facts("seal", work, *as_bob)
    written = typist.facts("write", work, tmp_path / "stick", *as_alice, "--to", "Carl Courier")
    copied = typist.facts("write", work, f"1={tmp_path / 'v.img'}", *as_alice, "--format", "ext4")
    paper = typist.facts(
        *("custody", "hand-over", tmp_path / "stick", *as_bob, "--paper"),
        *("--from", "Carl Courier", "--to", "Sue Site", "--place", "Gate", "--seal", "A-100"),
    )
    checked = typist.facts("check", tmp_path / "stick", "--ceremony", root, "--code", sealed["code"])

    assert held["thresholds"] == {"release": 2, "root": 2}
    assert [volume["number"] for volume in planned["volumes"]] == [1]
    assert len(attested["signed"]) == 5
    assert (first["frozen"], second["frozen"], second["sealed_volumes"]) == (False, True, [1])
    assert sealed["sealed_by"] == ["alice", "bob"]
    assert written["sheet"]["code"] == sealed["code"]
    assert written["sheet"]["root_sha256"] == held["root_sha256"]
    assert written["volumes"][0]["read_back"].startswith("read back from")
    assert copied["volumes"][0]["medium"].endswith("/1/2")
    assert (tmp_path / "v.img").stat().st_size > 16 * 2**20
    assert paper["findings"] == []
    assert checked["custody"]["1"] == {"complete": True, "entries": 2, "findings": []}
    assert checked["root_is_known"] is True


def test_sign_shows_what_changed_against_the_release_before(typist: Typist, tmp_path: Path) -> None:
    before = make_medium(tmp_path / "m", serial=7, volumes=1)
    work, root = new_candidate(tmp_path / "w").root, before.ceremony.folder
    typist.facts("attest", work, "--ceremony", root, "--person", "alice")

    shown = typist.facts(
        "sign", work, "--ceremony", root, "--person", "alice", "--previous", before.volumes[0], "--dry-run"
    )

    assert shown["release"] == "demo-1"
    assert shown["difference"]["added"] == shown["difference"]["removed"] == []
    assert "data/models/tiny/tiny.gguf" in [each["path"] for each in shown["difference"]["changed"]]
    assert [each["name"] for each in shown["difference"]["models"][0]["fields"]] == ["version"]
    assert shown["difference"]["same"] == 13
    assert not (work / "signatures").exists()


def test_the_plan_of_the_volumes_shows_both_numbers(typist: Typist, tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w").root

    code, text = typist.run("seal", work, "--dry-run", "--capacity", "2MB")

    assert code == 0
    assert "16 files (0 cut)   11,815 bytes of" in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("seal", "{w}", "--person", "bob"), 2, "no ceremony folder is named"),
        (("seal", "{w}", "--dry-run", "--capacity", "1MB"), 115, "too small"),
        (("seal", "{w}", "--dry-run", "--capacity", "a lot"), 2, "no size"),
        (("seal", "{w}"), 2, "nobody is named"),
        (("seal", "{w}", "--person", "alice", "--ceremony", "{c}"), 111, "not ready to be sealed"),
        (("sign", "{w}", "--person", "alice", "--ceremony", "{c}"), 115, "not chosen yet"),
        (("attest", "{w}", "--person", "zoe", "--ceremony", "{c}"), 111, "names no person"),
        (("attest", "{w}", "--person", "alice", "--ceremony", "{w}"), 114, "no complete root chain"),
        (("attest", "{w}", "--person", "alice", "--ceremony", "{c}", "--seal", "A-1"), 2, "which volume"),
        (("write", "{w}", "{w}/stick", "--ceremony", "{c}"), 111, "not ready to be sealed"),
        (("check", "{w}"), 11, "no sealed release here"),
        (("custody", "form", "{w}"), 11, "no sealed release here"),
        (("ceremony", "hold", "{w}/c", "--environment", "demo", "--person", "alice"), 2, "is no person"),
        (("ceremony", "hold", "{w}/c", "--environment", "demo", "--person", "a:A", "--root-key", "a=1"), 2, "no key"),
        (("ceremony", "hold", "{w}/c", "--environment", "play", "--person", "a:Ann A"), 114, "environment"),
    ],
)
def test_what_cannot_be_done_says_why_and_ends_with_its_code(
    typist: Typist, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    work = new_candidate(tmp_path / "w").root
    root = make_medium(tmp_path / "m").ceremony.folder

    ended, out = typist.run(*(each.format(w=work, c=root) for each in arguments))

    assert (ended, out) == (code, "")
    assert said in typist.talk


def test_a_medium_without_a_ceremony_is_checked_with_a_warning(typist: Typist, tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    (medium.volumes[0] / layout.CUSTODY / "note").mkdir()

    code, text = typist.run("check", *medium.volumes)

    assert code == 0
    assert "THE ROOT IS THE MEDIUM'S OWN" in text


def test_custody_is_shown_and_the_form_is_printed(typist: Typist, tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")

    shown = typist.facts("custody", "show", medium.volumes[0], "--ceremony", medium.ceremony.folder)
    _, form = typist.run("custody", "form", medium.volumes[0])

    assert [entry["to"] for entry in shown["entries"]] == ["Alice Archer"]
    assert "CUSTODY OF A MEDIUM" in form


def test_the_ceremony_is_shown_with_its_fingerprints(typist: Typist, tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")

    code, text = typist.run("ceremony", "show", medium.ceremony.folder)

    assert code == 0
    assert medium.fingerprint("alice")[:4] in text
    assert "2 people sign a root, 2 a release" in text
