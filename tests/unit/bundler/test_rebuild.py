"""The second signer's own build: no difference where there is none, and every difference by name."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bundler.build import Candidate, Workshop, build_in, build_sites
from bundler.errors import SigningError
from bundler.measure import measure_tree
from bundler.plan import ReleasePlan
from bundler.rebuild import Rebuilt, compare_rebuilt, rebuild
from bundler.recipe import Recipe
from bundler.workfolder import WorkFolder
from media import layout
from media.canonical import dumps, loads
from media.errors import MalformedError
from tests.support.payload import recipe_folder
from tests.support.workshop import workshop

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each


@dataclass(frozen=True, slots=True, kw_only=True)
class Desks:
    """One recipe, a candidate of the first desk, and the second desk with a checkout and a cache of its own."""

    recipe: Recipe
    first: WorkFolder
    second: Workshop

    def again(self, work: WorkFolder) -> Rebuilt:
        def made(wanted: Recipe, place: WorkFolder) -> Sequence[Candidate]:
            return build_sites(self.second, wanted, place.root)

        payload = measure_tree(work.data, prefix=layout.DATA)
        return rebuild(work, self.recipe, made, payload=payload, cache=self.second.cache)


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Desks:
    folder = tmp_path_factory.mktemp("desks")
    recipe = Recipe.load(recipe_folder(folder / "recipe"))
    first = WorkFolder(root=folder / "work")
    build_in(workshop(folder / "first"), recipe, first)
    return Desks(recipe=recipe, first=first, second=workshop(folder / "second"))


@pytest.fixture
def work(desks: Desks, tmp_path: Path) -> WorkFolder:
    """A copy of the first candidate, to meddle with."""
    shutil.copytree(desks.first.root, tmp_path / "copy")
    return WorkFolder(root=tmp_path / "copy")


def compared(work: WorkFolder, desks: Desks) -> Rebuilt:
    """Compare a meddled copy with the genuine candidate, as if that had been built now."""
    measured = [measure_tree(each.data, prefix=layout.DATA) for each in (work, desks.first)]
    return compare_rebuilt(
        work, desks.first, first_payload=measured[0], second_payload=measured[1], recipe_sha256=desks.recipe.sha256
    )


def change(file: Path, edit: Any) -> None:
    value = loads(file.read_bytes(), allow_floats=True)
    edit(value)
    file.write_bytes(dumps(value, allow_floats=True))


def test_the_same_recipe_and_locks_give_no_difference_on_another_desk(desks: Desks) -> None:
    found = desks.again(desks.first)

    assert found.differing == ()
    assert found.same > found.own > 0
    assert "no difference" in found.to_text()
    found.require_accepted(())


def test_a_line_of_code_that_only_one_desk_has_is_seen_in_our_wheel(
    desks: Desks, tmp_path: Path, work: WorkFolder
) -> None:
    second = workshop(tmp_path / "third")
    module = next(path for path in second.checkout.root.rglob("*.py"))
    module.write_text(module.read_text() + "# changed\n")

    found = replace(desks, second=second).again(work)

    wheel = next(each for each in found.differing if each.name.endswith(".whl"))
    assert any(line.startswith("~ ") and line.endswith(module.name) for line in wheel.shown)
    with pytest.raises(SigningError, match="came out otherwise"):
        found.require_accepted([wheel.name])
    found.require_accepted(each.name for each in found.differing)


def test_a_file_that_was_slipped_in_or_taken_out_is_named(desks: Desks, work: WorkFolder) -> None:
    (work.data / "server" / "extra.txt").write_text("hello")
    next(work.data.glob("evals/*.jsonl")).unlink()

    found = compared(work, desks)

    by_name = {each.name: each for each in found.differing}
    assert by_name["data/server/extra.txt"].second == ""
    assert [each.first for each in found.differing if each.name.startswith("data/evals/")] == [""]


def test_a_changed_text_is_shown_by_what_changed(desks: Desks, work: WorkFolder) -> None:
    change(work.data / "release.json", lambda value: value.update(release="another"))

    (differing,) = compared(work, desks).differing

    assert differing.name == "data/release.json"
    assert differing.shown[0] == "-release = another"


def test_a_plan_for_another_date_is_named_by_its_field(desks: Desks, work: WorkFolder) -> None:
    plan = ReleasePlan.load(work.plan)
    work.plan.write_bytes(replace(plan, stale_after="2031-01-01T00:00:00Z").to_bytes())

    (differing,) = compared(work, desks).differing

    assert differing.name == "plan: stale_after"
    assert differing.shown[0] == "- 2031-01-01T00:00:00Z"


def test_a_release_that_is_signed_again_has_another_date_and_no_difference(desks: Desks, work: WorkFolder) -> None:
    plan = ReleasePlan.load(work.plan)
    work.plan.write_bytes(replace(plan, stale_after="2031-01-01T00:00:00Z", issue=1).to_bytes())

    assert compared(work, desks).differing == ()


def test_a_bill_of_materials_that_says_something_else_is_named(desks: Desks, work: WorkFolder) -> None:
    change(work.attest / "sbom.json", lambda value: value["predicate"]["components"][0].update(name="innocent"))

    (differing,) = compared(work, desks).differing

    assert differing.name == "statement: sbom"
    assert any("innocent" in line for line in differing.shown)


def test_when_it_was_built_and_on_which_machine_is_no_difference(desks: Desks, work: WorkFolder) -> None:
    def elsewhere(value: dict[str, Any]) -> None:
        value["predicate"]["runDetails"]["metadata"]["startedOn"] = "2020-01-01T00:00:00Z"
        value["predicate"]["buildDefinition"]["internalParameters"]["libc"] = "glibc 9.9"

    change(work.attest / "provenance.json", elsewhere)
    assert compared(work, desks).differing == ()
    change(
        work.attest / "provenance.json",
        lambda value: value["predicate"]["buildDefinition"]["externalParameters"].update(recipe_sha256="0" * 64),
    )

    assert [each.name for each in compared(work, desks).differing] == ["statement: provenance"]


@pytest.mark.parametrize(
    "predicate",
    [
        [],
        {"buildDefinition": []},
        {"buildDefinition": {"resolvedDependencies": 5}},
        {"buildDefinition": {"resolvedDependencies": ["x"]}},
        {"buildDefinition": {"resolvedDependencies": [{"digest": [1]}]}},
        {"buildDefinition": {"resolvedDependencies": [{"annotations": "x"}]}},
    ],
)
def test_a_provenance_of_another_shape_is_said_to_be_one(desks: Desks, work: WorkFolder, predicate: Any) -> None:
    """It is the first signer's; to the second one it was a fault of ours."""
    change(work.attest / "provenance.json", lambda value: value.update(predicate=predicate))

    with pytest.raises(MalformedError, match="provenance"):
        compared(work, desks)


def test_a_wheel_that_is_no_archive_hides_no_other_difference(desks: Desks, work: WorkFolder) -> None:
    wheel = next((work.data / "wheels").glob("alpha-*.whl"))
    wheel.unlink()
    wheel.write_bytes(b"PK\x03\x04 none")
    (work.data / "slipped-in.txt").write_text("x")

    found = {each.name: each.shown for each in compared(work, desks).differing}

    assert found[f"data/wheels/{wheel.name}"][0] == "one of them is no archive that reads"
    assert "data/slipped-in.txt" in found


def test_what_is_named_and_does_not_differ_is_refused(desks: Desks, work: WorkFolder) -> None:
    with pytest.raises(SigningError, match="does not differ"):
        compared(work, desks).require_accepted(["data/release.json"])


def test_a_recipe_for_other_sites_is_refused(desks: Desks, work: WorkFolder) -> None:
    plan = ReleasePlan.load(work.plan)
    work.plan.write_bytes(replace(plan, sites=("elsewhere",)).to_bytes())

    with pytest.raises(SigningError, match="makes no release for elsewhere"):
        desks.again(work)
