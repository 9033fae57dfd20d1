import json
from pathlib import Path

import pytest

from bundler.artifact import Artifact
from bundler.assemble import assemble, merged, plan_of, release_facts
from bundler.errors import BuildError, NotEmptyError
from bundler.plan import ReleasePlan
from bundler.workfolder import WorkFolder
from media.errors import UnsafePathError
from tests.support.payload import artifact, recipe


def made(target: str, content: bytes = b"x", kind: str = "host") -> Artifact:
    return Artifact.of_bytes(content, target=target, kind=kind)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_two_assemblies_of_the_same_artifacts_are_equal_bytes(tmp_path: Path) -> None:
    wanted = recipe(tmp_path / "recipe")
    artifacts = [made("data/host/b"), made("data/host/a")]

    for name in ("1", "2"):
        assemble(wanted, artifacts, WorkFolder(root=tmp_path / name))

    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_the_plan_says_what_the_candidate_is(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")

    plan = assemble(recipe(tmp_path / "recipe"), [made("data/host/a")], work)

    assert ReleasePlan.load(work.plan) == plan
    assert (plan.release, plan.serial, plan.created) == ("small", 3, "2026-11-20T08:00:00Z")
    assert plan.kinds == {"data/host/a": "host"}
    assert plan.targets[0]["cpu_flags"] == ["popcnt", "ssse3"]
    assert len(plan.payload_digest) == 64


def test_large_files_are_linked_and_small_ones_copied(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2**20))
    (tmp_path / "small").write_bytes(b"x")
    work = WorkFolder(root=tmp_path / "work")
    artifacts = [artifact(tmp_path / name, target=f"data/{name}", kind="host") for name in ("large", "small")]

    assemble(recipe(tmp_path / "recipe"), artifacts, work)

    assert (work.data / "large").samefile(tmp_path / "large")
    assert not (work.data / "small").samefile(tmp_path / "small")


@pytest.mark.parametrize(
    "names", [["data/../x"], ["/etc/x"], ["data/a", "data/A"], ["data/a", "data/a/b"], ["data/a b"]]
)
def test_names_that_may_not_travel_are_refused_before_anything_is_written(tmp_path: Path, names: list[str]) -> None:
    work = WorkFolder(root=tmp_path / "work")

    with pytest.raises(UnsafePathError):
        assemble(recipe(tmp_path / "recipe"), [made(name) for name in names], work)

    assert not work.root.exists()


def test_an_unsigned_candidate_is_replaced_with_its_statements(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")
    wanted = recipe(tmp_path / "recipe")
    assemble(wanted, [made("data/host/old")], work)
    work.attest.mkdir()
    (work.attest / "rehearsal.json").touch()

    assemble(wanted, [made("data/host/new")], work)

    assert list(tree(work.root)) == ["candidate/data/host/new", "candidate/plan.json"]


@pytest.mark.parametrize("name", ["signatures/ann.json", "seals/1/x", "metadata/x", "attest/scan.dsse.json"])
def test_a_release_that_people_have_begun_to_sign_is_never_replaced(tmp_path: Path, name: str) -> None:
    work = WorkFolder(root=tmp_path / "work")
    wanted = recipe(tmp_path / "recipe")
    assemble(wanted, [made("data/host/old")], work)
    (work.root / name).parent.mkdir(parents=True, exist_ok=True)
    (work.root / name).touch()

    with pytest.raises(NotEmptyError, match="begun to sign"):
        assemble(wanted, [made("data/host/new")], work)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(NotEmptyError, match="other files"):
        assemble(recipe(tmp_path / "recipe"), [made("data/a")], WorkFolder(root=tmp_path))


def test_a_disk_that_refuses_leaves_nothing_half_made(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")
    gone = artifact(recipe(tmp_path / "recipe").beside("LICENSE"), target="data/host/b", kind="host")
    (tmp_path / "recipe" / "LICENSE").unlink()

    with pytest.raises(BuildError, match="could not be written"):
        assemble(recipe(tmp_path / "other"), [made("data/host/a"), gone], work)

    assert tree(work.root) == {}


def test_the_same_file_from_two_sources_travels_once_and_a_different_one_is_refused() -> None:
    assert [item.target for item in merged([made("data/b"), made("data/a"), made("data/b")])] == ["data/a", "data/b"]
    with pytest.raises(BuildError, match="two sources bring data/a"):
        merged([made("data/a"), made("data/a", b"y")])


def test_the_release_facts_say_what_the_appliance_reads_first(tmp_path: Path) -> None:
    facts = release_facts(
        recipe(tmp_path),
        environments={"server": "data/server/requirements-server.txt"},
        debs=["data/debs/b", "data/debs/a"],
        references={"tiny": [{"eval": "data/evals/tasks.jsonl", "not_made": "too large"}]},
    )

    assert json.loads(facts.content) == {
        "format": 1,
        "product": "sealift",
        "release": "small",
        "serial": 3,
        "created": "2026-11-20T08:00:00Z",
        "models": [
            {
                "name": "tiny",
                "descriptor": "data/models/tiny/descriptor.json",
                "evals": ["data/evals/tasks.jsonl"],
                "references": [{"eval": "data/evals/tasks.jsonl", "not_made": "too large"}],
            }
        ],
        "environments": {"server": "data/server/requirements-server.txt"},
        "debs": ["data/debs/a", "data/debs/b"],
    }


def test_the_payload_digest_follows_the_payload(tmp_path: Path) -> None:
    wanted = recipe(tmp_path)

    digests = {
        plan_of(wanted, artifacts).payload_digest
        for artifacts in ([made("data/a")], [made("data/a", b"y")], [made("data/b")], [made("data/a"), made("data/b")])
    }

    assert len(digests) == 4
