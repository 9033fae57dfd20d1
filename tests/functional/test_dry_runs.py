"""Commands that write say with `--dry-run` what they would, and leave everything as it was."""

import hashlib
from pathlib import Path

import pytest

from bundler.attest import attest, choose_volumes
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from tests.support.candidate import new_candidate
from tests.support.gpg import GnuPG
from tests.support.medium import MADE_AT, make_medium, throwaway_ceremony
from tests.support.members import make_member
from tests.support.typist import Typist

pytestmark = pytest.mark.slow  # whole sheets and papers, seconds in all

NOT_EMPTY = 113
KEYS = "correct horse battery"


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    return Typist(capsys)


@pytest.fixture(scope="module")
def held() -> Ceremony:
    return throwaway_ceremony("demo")


@pytest.fixture(scope="module")
def work(held: Ceremony, tmp_path_factory: pytest.TempPathFactory) -> WorkFolder:
    """A candidate with volumes chosen, its statements signed by Alice."""
    made, clock = new_candidate(tmp_path_factory.mktemp("dry") / "w"), FixedClock(at=MADE_AT)
    choose_volumes(made, "alice", VolumeChoice(), ceremony=held, clock=clock, place="Room 1")
    attest(made, "alice", ceremony=held)
    return made


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("taken", ["", "somebody's"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("key", "make", "{t}/new", "--kind", "ed25519"),
        ("emergency", "draft", "{t}/new", "--ceremony", "{c}", "--revoke", "bob:release", "--number", "1",
         "--since", "2026-01-01T00:00:00Z"),
        ("emergency", "sign", "{t}/draft", "{t}/new", "--ceremony", "{c}", "--person", "alice"),
        ("emergency", "print", "{t}/signed", "{t}/new", "--ceremony", "{c}"),
    ],
    ids=lambda arguments: "-".join(arguments[:2]) if isinstance(arguments, tuple) else str(arguments),
)  # fmt: skip
def test_a_dry_run_writes_nothing_and_refuses_what_the_command_would(
    typist: Typist, held: Ceremony, work: WorkFolder, tmp_path: Path, arguments: tuple[str, ...], taken: str
) -> None:
    note(typist, held, tmp_path)
    if taken:
        (tmp_path / "new").write_text(taken)
    before = {**everything(tmp_path), **everything(work.root)}
    typed = [each.format(t=tmp_path, w=work.root, c=held.folder) for each in arguments]

    code, said = typist.run("--json", *typed, "--dry-run")

    assert {**everything(tmp_path), **everything(work.root)} == before
    if taken:
        assert code == NOT_EMPTY, typist.talk
        return
    assert code == 0, typist.talk
    assert '"dry_run": true' in said


@pytest.mark.parametrize("name", ["new.pdf", "new.html"])
def test_labels_are_shown_and_not_written(typist: Typist, tmp_path: Path, name: str) -> None:
    medium, out = make_medium(tmp_path / "m"), tmp_path / name
    before = everything(tmp_path)

    shown = typist.facts("labels", medium.work.root, "--out", out, "--dry-run")

    assert (shown["dry_run"], len(shown["labels"])) == (True, len(medium.volumes))
    assert everything(tmp_path) == before
    out.write_text("somebody's")
    assert typist.run("labels", medium.work.root, "--out", out, "--dry-run")[0] == NOT_EMPTY


@pytest.mark.parametrize(
    "arguments",
    [("probe", "file", "-o"), ("probe", "form", "-o"), ("custody", "form", "{v}", "--out")],
    ids=lambda arguments: "-".join(arguments[:2]),
)
@pytest.mark.parametrize("name", ["new.pdf", "new.html"])
def test_forms_and_programs_are_shown_and_not_written(
    typist: Typist, tmp_path: Path, arguments: tuple[str, ...], name: str
) -> None:
    volume = make_medium(tmp_path / "m").volumes[0] if arguments[0] == "custody" else tmp_path
    out = tmp_path / name
    before = everything(tmp_path)
    typed = [*(each.format(v=volume) for each in arguments), out]

    assert typist.facts(*typed, "--dry-run")["dry_run"] is True

    assert everything(tmp_path) == before
    assert typist.facts(*typed)["dry_run"] is False
    written = out.read_bytes()
    for more in ((), ("--dry-run",)):
        assert typist.run(*typed, *more)[0] == NOT_EMPTY, typist.talk
    assert out.read_bytes() == written


def note(typist: Typist, held: Ceremony, folder: Path) -> None:
    """Write a draft, and a note that two signed."""
    place = ("--ceremony", held.folder)
    since = ("--since", "2026-01-01T00:00:00Z")
    typist.facts("emergency", "draft", folder / "draft", *place, "--revoke", "bob:release", "--number", 1, *since)
    typist.facts("emergency", "sign", folder / "draft", folder / "once", *place, "--person", "alice")
    typist.facts("emergency", "sign", folder / "once", folder / "signed", *place, "--person", "bob")


def test_who_signed_a_note_learns_it_before_a_key_is_used(typist: Typist, held: Ceremony, tmp_path: Path) -> None:
    note(typist, held, tmp_path)

    code, _ = typist.run(
        *("emergency", "sign", tmp_path / "once", tmp_path / "new", "--ceremony", held.folder, "--person", "alice"),
        "--dry-run",
    )

    assert code == 2
    assert "signed this note already" in typist.talk


def test_a_hand_in_is_measured_and_not_written(
    typist: Typist, held: Ceremony, work: WorkFolder, tmp_path: Path
) -> None:
    out, codes = tmp_path / "alice.json", tmp_path / "codes"
    typed = ("hand-in", work.root, "--ceremony", held.folder, "--person", "alice", "--out", out, "--codes", codes)

    dry = typist.facts(*typed, "--dry-run")

    assert dry["dry_run"] is True
    assert list(tmp_path.iterdir()) == []
    real = typist.facts(*typed)
    assert out.is_file()
    assert codes.is_dir()
    assert {**real, "dry_run": True} == dry


def test_a_joining_and_a_script_are_made_and_not_written(typist: Typist, gnupg: GnuPG, tmp_path: Path) -> None:
    for person in ("gina", "hugo"):
        (tmp_path / f"{person}.json").write_bytes(make_member(tmp_path, gnupg, person).joined)
    joins = ("--join", tmp_path / "gina.json", "--join", tmp_path / "hugo.json")
    typist.facts("root", "propose", tmp_path / "p.json", *joins, "--environment", "demo")
    key = f"file:{tmp_path / 'gina.root.ed25519.pem'}"
    before = everything(tmp_path)

    script = typist.facts(
        *("ceremony", "script", tmp_path / "new.pdf", "--proposal", tmp_path / "p.json", *joins, "--witness", "Wendy"),
        "--dry-run",
    )
    joining = typist.run(
        *("ceremony", "join", tmp_path / "new.json", "--person", "gina:Gina:root", "--root-key", key, "--dry-run"),
        secrets=(KEYS,),
    )

    assert script["steps"] > 5
    assert joining[0] == 0, typist.talk
    assert "nothing was written" in joining[1]
    assert everything(tmp_path) == before


def test_a_joining_and_a_script_are_not_written_over_a_file(typist: Typist, gnupg: GnuPG, tmp_path: Path) -> None:
    (tmp_path / "gina.json").write_bytes(make_member(tmp_path, gnupg, "gina").joined)
    (tmp_path / "hugo.json").write_bytes(make_member(tmp_path, gnupg, "hugo").joined)
    joins = ("--join", tmp_path / "gina.json", "--join", tmp_path / "hugo.json")
    typist.facts("root", "propose", tmp_path / "p.json", *joins, "--environment", "demo")
    key = f"file:{tmp_path / 'gina.root.ed25519.pem'}"
    before = everything(tmp_path)

    joining = typist.run(
        *("ceremony", "join", tmp_path / "gina.json", "--person", "gina:Gina:root", "--root-key", key), secrets=(KEYS,)
    )
    said = typist.talk
    script = typist.run(
        *("ceremony", "script", tmp_path / "p.json", "--proposal", tmp_path / "p.json", *joins, "--witness", "Wendy")
    )

    assert (joining[0], script[0]) == (NOT_EMPTY, NOT_EMPTY), said + typist.talk
    assert "gina.json exists" in said
    assert everything(tmp_path) == before


def test_a_time_that_is_none_is_called_so_and_no_file_is_blamed(typist: Typist, held: Ceremony, tmp_path: Path) -> None:
    code, _ = typist.run(
        *("emergency", "draft", tmp_path / "new", "--ceremony", held.folder, "--revoke", "bob", "--number", 1),
        *("--since", "2026-11-18"),
    )

    assert code == 2
    assert "write it as 2026-11-20T08:00:00Z" in typist.talk
