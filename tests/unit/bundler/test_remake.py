import json
from pathlib import Path

import pytest

from bundler.cli.main import main
from bundler.errors import NotEmptyError, ReadBackError
from bundler.remake import remake
from media import layout
from media.errors import BadSignatureError, UsageError
from tests.support.medium import SimulatedMedium, make_medium


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_volume_is_made_again_byte_by_byte_and_its_signatures_hold(medium: SimulatedMedium, tmp_path: Path) -> None:
    made = remake(medium.work, 2, tmp_path / "again", ceremony=medium.ceremony)

    assert tree(tmp_path / "again" / layout.RELEASE) == tree(medium.volumes[1] / layout.RELEASE)
    assert made.code == medium.code
    assert len(made.signers) == 2
    assert "byte by byte what was sealed" in made.to_text()
    assert "signatures    hold" in made.to_text()


def test_a_work_folder_that_changed_since_sealing_makes_no_volume(medium: SimulatedMedium, tmp_path: Path) -> None:
    index = next(path for path in medium.volumes[0].rglob("*.whl"))
    source = medium.work.candidate / index.relative_to(medium.volumes[0] / layout.RELEASE)
    source.write_bytes(bytes(len(source.read_bytes())))

    with pytest.raises(ReadBackError, match="not what was sealed"):
        remake(medium.work, 1, tmp_path / "again", ceremony=medium.ceremony)

    assert not (tmp_path / "again" / layout.RELEASE).exists()


def test_a_signature_that_does_not_hold_makes_no_volume(medium: SimulatedMedium, tmp_path: Path) -> None:
    folder = medium.work.seal_of(1)
    (folder / layout.TAG_MANIFEST).write_bytes((folder / layout.TAG_MANIFEST).read_bytes() + b"\n")

    with pytest.raises(BadSignatureError):
        remake(medium.work, 1, tmp_path / "again", ceremony=medium.ceremony)


def test_the_old_medium_is_not_written_over(medium: SimulatedMedium) -> None:
    with pytest.raises(NotEmptyError, match="holds other data"):
        remake(medium.work, 2, medium.volumes[1], ceremony=medium.ceremony)


def test_there_is_no_third_volume_of_two(medium: SimulatedMedium, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no volume 3"):
        remake(medium.work, 3, tmp_path / "again", ceremony=medium.ceremony)


def test_the_command_enters_the_first_hand_over_of_the_new_medium(
    medium: SimulatedMedium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--json", "remake", medium.work.root, tmp_path / "again", "--volume", 2]
    arguments += ["--ceremony", medium.ceremony.folder, "--person", "alice", "--to", "Carl Courier"]

    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])

    facts = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert facts["number"] == 2
    assert len(facts["signatures_hold"]) == 2
    assert len(list((tmp_path / "again" / layout.CUSTODY).iterdir())) == 1
