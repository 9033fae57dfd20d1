import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundler.errors import BuildError, SourceError
from bundler.sources import server
from bundler.sources.server import Checkout
from bundler.toolchain import Toolchain
from tests.support.payload import checkout, sha256

EPOCH = 1795161600
ROOT = Path(__file__).resolve().parents[4]
HERE = Toolchain(folder=Path(sys.prefix), lock_sha256="")  # the development environment has the locked hatchling


def test_our_wheel_carries_playbooks_and_units_and_two_builds_are_equal_bytes(tmp_path: Path) -> None:
    tree = Checkout(root=checkout(tmp_path / "tree"))

    first = server.build_wheel(tree, HERE, epoch=EPOCH, folder=tmp_path / "1")
    for path in tree.root.rglob("*"):
        path.touch()
    second = server.build_wheel(tree, HERE, epoch=EPOCH, folder=tmp_path / "2")

    assert first.sha256 == second.sha256 == sha256(second.file)
    assert {"appliance/_host/ansible/site.yml", "appliance/_host/systemd/sealift.target"} <= set(
        zipfile.ZipFile(first.file).namelist()
    )


def test_a_wheel_without_the_playbooks_is_refused(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    project = tree / "pyproject.toml"
    project.write_text(project.read_text().replace('"ansible" = "appliance/_host/ansible"\n', ""))

    with pytest.raises(BuildError) as caught:
        server.build_wheel(Checkout(root=tree), HERE, epoch=EPOCH, folder=tmp_path / "1")

    assert "it lacks appliance/_host/ansible/site.yml" in caught.value.why


def test_a_wheel_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    (tree / "pyproject.toml").write_text("[project]\n")

    with pytest.raises(BuildError, match="could not be built"):
        server.build_wheel(Checkout(root=tree), HERE, epoch=EPOCH, folder=tmp_path / "1")


def test_host_files_travel_one_by_one_and_hidden_ones_stay(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    (tree / "systemd" / ".hidden").touch()
    (tree / "systemd" / "__pycache__").mkdir()
    (tree / "systemd" / "__pycache__" / "x.pyc").touch()
    (tree / "systemd" / "link").symlink_to("sealift.target")

    brought = server.host_files(Checkout(root=tree))

    assert [artifact.target for artifact in brought.artifacts] == [
        "data/host/ansible/site.yml",
        "data/host/systemd/sealift.target",
    ]


def test_the_checkout_is_the_one_this_program_runs_from() -> None:
    assert Checkout.find().root == ROOT


def test_without_a_checkout_nothing_is_built(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source tree"):
        Checkout.find(tmp_path)


def test_provenance_names_the_commit_and_says_when_the_tree_differs(tmp_path: Path) -> None:
    tree = Checkout(root=checkout(tmp_path / "tree"))
    assert "not under version control" in tree.material().note

    identity = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", tree.root, *command], check=True, capture_output=True)
    clean = tree.material()
    (tree.root / "new.py").touch()

    assert (len(clean.git_commit), clean.note) == (40, "")
    assert "changes" in tree.material().note
