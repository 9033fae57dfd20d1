"""A release that brings an attached engine: from a recipe to a proven answer of llama.cpp's own server.

The commands are those that people type. The engine comes as a locked wheel (`tests/engines/xllamacpp.txt`); nothing of
llama-cpp-python is built or installed.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.demo.conversation import Answered, ask
from examples.demo.run import Demo
from tests.engines import line

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    demo: Demo
    answered: Answered


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    demo = line.prepared(tmp_path_factory.mktemp("attached") / "out")
    try:
        recipe = demo.out / "recipe"
        recipe.mkdir()
        for name in ("attached.toml", "xllamacpp.txt"):
            shutil.copy(line.HERE / name, recipe)
        shutil.copy(line.ROOT / "examples/evals/demo-tasks.jsonl", recipe)
        line.write_site_file(demo)
        volume = line.send(demo, recipe / "attached.toml")
        line.receive(demo, volume)
        line.promote(demo)
        made = demo.stage.ask(
            *("sealift", "keys", "create", "--department", "ward", "--owner", "test", "--phi", "tokenise")
        )
        yield Served(demo=demo, answered=ask(f"{demo.facts['gateway']}/v1", str(made["key"])))
    finally:
        sys.stdout.write(json.dumps(demo.stage.times, indent=1) + "\n")
        line.finish(demo)


def test_an_answer_is_proven_down_to_the_engine_that_the_release_brought(served: Served) -> None:
    proof = served.demo.stage.ask("sealift", "prove", served.answered.request_id)

    engine = next(step for step in proof["steps"] if step["name"] == "engine")
    lock = (line.HERE / "xllamacpp.txt").read_text()
    (wheel,) = [sha256 for name, sha256 in engine["data"]["wheels"].items() if name.startswith("xllamacpp-")]
    assert "Paris" in served.answered.text
    assert proof["ok"] is True
    assert engine["ok"] is True
    assert wheel in lock
    assert engine["data"]["module"] == "appliance.serve.attached_xllamacpp"
    assert served.answered.model_digest in json.dumps(proof)


def test_what_serves_is_the_installed_environment_that_people_approved(served: Served) -> None:
    python = f"{served.demo.appliance}/opt/sealift/engines/{served.answered.model_digest[:12]}/bin/python"
    running = [_command(process) for process in Path("/proc").glob("[0-9]*")]

    # The launcher, and the engine that it stands by: both by the interpreter of the version's own link.
    assert Path(python).resolve().exists()
    (engine,) = [words for words in running if words.startswith(python) and "attached_start" in words]
    assert "appliance.serve.attached_xllamacpp" in engine


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
