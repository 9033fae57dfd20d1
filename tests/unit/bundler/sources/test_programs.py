"""An attached engine's program from files beside the recipe: into a wheel, into the environment, and approved."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from appliance.registry.descriptor import ModelDescriptor
from bundler import locks, wheelfile
from bundler.build import build_in
from bundler.cache import Cache
from bundler.errors import RecipeError, SourceError
from bundler.plan import ReleasePlan
from bundler.recipe import Recipe
from bundler.sources import programs
from bundler.sources.wheels import ChosenWheel
from bundler.workfolder import WorkFolder
from media.digest import sha256_hex
from tests.support.payload import TASKS, gguf, locked, recipe_text, sha256, wheel
from tests.support.workshop import workshop

PROGRAM = b"#!/bin/sh\necho here\n"
ATTACHED = 'arguments = ["--model", "{model}", "--socket", "{socket}"]'
SECTION = """
[[programs]]
name = "peer"
version = "1.2"
license = "MIT"
license_path = "LICENSE"
origin = "made by the tests"
path = "peer"
files = {{ "bin/peer" = "{sha256}"{more} }}
{keys}
"""


def elf(*, machine: int = 62, glibc: int = 17) -> bytes:
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little")
    return head + bytes(40) + f"\0GLIBC_2.{glibc}\0".encode()


def recipe_in(
    folder: Path,
    *,
    program: bytes = PROGRAM,
    attached: str = f'program = "bin/peer"\n{ATTACHED}',
    keys: str = "",
    files: str = "",
    tail: str = "",
    gpu: str = "",
) -> Recipe:
    (folder / "peer").mkdir(parents=True)
    (folder / "peer/peer").write_bytes(program)
    (folder / "tiny.gguf").write_bytes(gguf())
    (folder / "LICENSE").write_bytes(b"Do what you like.\n")
    (folder / "tasks.jsonl").write_bytes(TASKS)
    more = SECTION.format(sha256=sha256(folder / "peer/peer"), more=files, keys=keys)
    text = recipe_text(sha256(folder / "tiny.gguf"), more=more)
    text = text.replace('engine = "llama.cpp"', 'engine = "attached"').replace(
        "runtime = { n_ctx = 256 }", f"[models.runtime]\nn_ctx = 256\n[models.runtime.attached]\n{attached}\n"
    )
    text = text.replace('"popcnt"]', f'"popcnt"]\ngpu = "{gpu}"') if gpu else text
    return Recipe.parse((text + tail).encode(), folder=folder)


def test_it_becomes_a_wheel_that_pip_installs_where_the_profile_looks(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path / "recipe")
    first, again = (programs.wheels_of(recipe, cache=Cache(root=tmp_path / name))[0] for name in ("one", "two"))
    here = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--prefix", here, first.file], check=True)

    facts = wheelfile.read(first.file)
    assert (facts.name, facts.license, first.sha256) == ("sealift-program-peer", "MIT", again.sha256)
    assert subprocess.run([here / "bin/peer"], capture_output=True, check=True).stdout == b"here\n"
    assert programs.digest_of("bin/peer", [first], python="3.11", label="m") == sha256(here / "bin/peer")


def test_its_digest_is_in_what_people_approve_and_its_needs_in_what_is_signed(tmp_path: Path) -> None:
    shop = workshop(tmp_path / "shop")
    work = WorkFolder(root=tmp_path / "work")
    attached = f'program = "bin/peer"\nneeds_gpu = true\n{ATTACHED}'
    recipe = recipe_in(tmp_path / "recipe", program=elf(), attached=attached, keys='cpu_flags = ["ssse3"]', gpu="L4")
    runtime = recipe.models[0].runtime.attached
    assert runtime is not None

    build_in(shop, recipe, work)

    descriptor = ModelDescriptor.from_bytes(next(work.data.glob("models/*/descriptor.json")).read_bytes())
    assert descriptor.runtime.attached == runtime.settings(sha256(tmp_path / "recipe/peer/peer"))
    assert descriptor.is_content_addressed
    listed = (work.data / "server/requirements-engine-attached.txt").read_text()
    assert {line.partition("=")[0] for line in listed.splitlines()} == {"alpha", "sealift", "sealift-program-peer"}
    assert "ssse3" in ReleasePlan.load(work.plan).targets[0]["cpu_flags"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (elf(machine=183), "another kind of machine"),
        (elf(glibc=40), "newer glibc"),
        (b"\x7fELF\x01\x01", "another kind"),
    ],
)
def test_what_the_target_cannot_run_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        programs.wheels_of(recipe_in(tmp_path / "recipe", program=content), cache=Cache(root=tmp_path / "cache"))


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path / "recipe")
    (tmp_path / "recipe/peer/peer").write_bytes(b"another")

    with pytest.raises(SourceError, match="not the file that was pinned"):
        programs.wheels_of(recipe, cache=Cache(root=tmp_path / "cache"))


def test_a_processor_that_nobody_says_to_have_the_flags_stops_the_build(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path / "recipe", keys='cpu_flags = ["avx512f"]')

    with pytest.raises(SourceError, match="the program peer needs more than the processor"):
        build_in(workshop(tmp_path / "shop"), recipe, WorkFolder(root=tmp_path / "work"))


@pytest.mark.parametrize(
    ("attached", "keys", "files", "what"),
    [
        (f'program = "bin/peer"\nmodule = "peer"\n{ATTACHED}', "", "", "an engine is one of them"),
        ('program = "bin/peer"\narguments = ["{socket}"]', "", "", "where it listens"),
        (f'program = "bin/peer"\nneeds_gpu = true\n{ATTACHED}', "", "", "no target names a GPU"),
        (f'program = "bin/peer"\n{ATTACHED}', "", ', "bin/../x" = "00"', "files"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(
    tmp_path: Path, attached: str, keys: str, files: str, what: str
) -> None:
    with pytest.raises(RecipeError, match=what):
        recipe_in(tmp_path / "recipe", attached=attached, keys=keys, files=files)


def test_a_program_that_nothing_brings_and_a_script_that_pip_rewrites_are_refused(tmp_path: Path) -> None:
    made = programs.wheels_of(recipe_in(tmp_path / "recipe", program=b"#!python\n"), cache=Cache(root=tmp_path / "c"))

    with pytest.raises(RecipeError, match="nothing brings bin/other"):
        programs.digest_of("bin/other", made, python="3.11", label="m")
    with pytest.raises(RecipeError, match="a script of Python's"):
        programs.digest_of("bin/peer", made, python="3.11", label="m")


def test_a_program_inside_a_package_is_found_by_where_it_is_installed(tmp_path: Path) -> None:
    file = wheel(tmp_path, "engine", files={"engine/bin/run": elf()})
    with zipfile.ZipFile(file) as archive:
        assert archive.read("engine/bin/run") == elf()
    chosen = ChosenWheel(name="engine", version="1.0", file=file, sha256=sha256(file))

    path = "lib/python3.11/site-packages/engine/bin/run"
    assert programs.digest_of(path, [chosen], python="3.11", label="m") == sha256_hex(elf())


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ("engine-1.0.data/data/bin/run", "bin/run"),
        ("engine-1.0.data/scripts/run", "bin/run"),
        ("engine-1.0.data/platlib/bin/run", "lib/python3.11/site-packages/bin/run"),
        ("engine-1.0.data/purelib/bin/run", "lib/python3.11/site-packages/bin/run"),
    ],
)
def test_a_program_is_found_where_pip_puts_it_and_nowhere_else(tmp_path: Path, member: str, place: str) -> None:
    file = wheel(tmp_path, "engine", files={member: elf()})
    chosen = [ChosenWheel(name="engine", version="1.0", file=file, sha256=sha256(file))]

    assert programs.digest_of(place, chosen, python="3.11", label="m") == sha256_hex(elf())
    for other in {"bin/run", "run", member} - {place}:
        with pytest.raises(RecipeError, match="nothing brings"):
            programs.digest_of(other, chosen, python="3.11", label="m")


def test_the_engines_lock_lies_over_the_servers(tmp_path: Path) -> None:
    shop = workshop(tmp_path / "shop")
    newer, own = wheel(tmp_path, "alpha", "2.0"), wheel(tmp_path, "engine-of-theirs")
    recipe = recipe_in(tmp_path / "recipe", tail='\n[locks]\nengine-attached = "theirs.txt"\n')
    (tmp_path / "recipe/theirs.txt").write_text(locked(newer, own))

    found = locks.needed_of(recipe, locks.ATTACHED, shop.checkout)

    assert [(one.name, one.version) for one in found] == [("alpha", "2.0"), ("engine-of-theirs", "1.0")]


def test_what_counts_tokens_in_the_launcher_must_be_locked(tmp_path: Path) -> None:
    shop = workshop(tmp_path / "shop")
    attached = f'dialect = "sglang"\nprogram = "bin/peer"\n{ATTACHED}'
    recipe = recipe_in(tmp_path / "recipe", attached=attached, tail='\n[locks]\nengine-attached = "theirs.txt"\n')
    (tmp_path / "recipe/theirs.txt").write_text(locked(wheel(tmp_path, "engine-of-theirs")))

    with pytest.raises(RecipeError, match="does not lock tokenizers"):
        locks.needed_of(recipe, locks.ATTACHED, shop.checkout)
    (tmp_path / "recipe/theirs.txt").write_text(locked(wheel(tmp_path, "tokenizers")))
    assert "tokenizers" in {one.name for one in locks.needed_of(recipe, locks.ATTACHED, shop.checkout)}
