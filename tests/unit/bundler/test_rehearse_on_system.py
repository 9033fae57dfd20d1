"""A rehearsal on a system that boots: what is typed, what is stated, what is refused. The system is scripted."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundler.cache import Cache
from bundler.errors import RehearsalError
from bundler.rehearse import Rehearsal, rehearse
from bundler.rehearsing.nspawn import CleanSystem, booted
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from tests.support.workshop import NOON, candidate

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

SMOKE = {
    "name": "tiny",
    "model_digest": "a" * 64,
    "evidence_digest": "b" * 64,
    "passed": True,
    "gates": [{"gate": "smoke", "passed": True, "figures": {"answer_millis": 12}}],
}


@dataclass(slots=True, kw_only=True)
class ScriptedSystem:
    """A system on which every program ends well, unless its step is named in `failing`."""

    name: str = "Debian GNU/Linux 12 (bookworm)"
    failing: str = ""
    ran: list[tuple[str, str]] = field(default_factory=list)

    def run(self, words: Sequence[str], *, step: str, feed: str = "") -> str:
        self.ran.append((" ".join(words), feed))
        if self.failing and self.failing in step:
            raise RehearsalError(what=f"rehearsal: {step} failed")
        return json.dumps(SMOKE if "validate" in words else {})

    def boots(self) -> AbstractContextManager[CleanSystem]:
        @contextmanager
        def lend() -> Iterator[CleanSystem]:
            yield self

        return lend()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return candidate(tmp_path_factory.mktemp("built")).root


def rehearsed(work: WorkFolder, system: ScriptedSystem, cache: Cache, *, is_fresh: bool = False) -> Rehearsal:
    return rehearse(
        work,
        cache=cache,
        clock=FixedClock(NOON),
        system=Path("base"),
        is_fresh=is_fresh,
        boot=lambda _base, _folder, _volume: system.boots(),
    )


def test_the_sheets_commands_are_typed_word_for_word_and_the_statement_names_the_system(
    built: Path, tmp_path: Path
) -> None:
    work = WorkFolder(root=Path(shutil.copytree(built, tmp_path / "work")))
    system, cache = ScriptedSystem(), Cache(root=tmp_path / "cache")

    found = rehearsed(work, system, cache)

    typed = [words for words, _ in system.ran]
    stated = json.loads((work.attest / "rehearsal.json").read_bytes())["predicate"]
    (code,) = {line for _, feed in system.ran for line in feed.splitlines()[1::2]}
    assert "MEDIUM=/media/sealift-1" in typed[0]
    assert "cp -rL" in typed[0]
    assert f"echo '{code}  tagmanifest-sha256.txt' | sha256sum --check --strict" in typed[1]
    assert sum("gpgv --ignore-time-conflict" in words for words in typed) == 2
    assert "&& echo COMPLETE" in typed[4]
    assert 'python3 -I check/bootstrap.py --medium "$MEDIUM"' in typed[5]
    assert typed[6:] == ["sealift --json install", "sealift --json validate tiny --only smoke"]
    assert (found.level, stated["system"]) == ("answered-on-cpu", "Debian GNU/Linux 12 (bookworm)")
    assert stated["network"] == "none: a system that has only a loopback"

    # It shows more than a rehearsal in a namespace, so it is remembered in the place of one, and never the other way.
    again = rehearse(work, cache=cache, clock=FixedClock(NOON))
    assert (again.was_remembered, again.system) == (True, found.system)


def test_what_was_rehearsed_in_a_namespace_is_rehearsed_again_on_a_system(built: Path, tmp_path: Path) -> None:
    work = WorkFolder(root=Path(shutil.copytree(built, tmp_path / "work")))
    cache, system = Cache(root=tmp_path / "cache"), ScriptedSystem(failing="installing")
    digest = json.loads(work.plan.read_bytes())["payload_digest"]
    light = Rehearsal(payload_digest=digest, level="installed", at="2026-11-20T12:00:00Z", seconds=1, models=())
    cache.remember("rehearsals", digest, light.predicate())

    with pytest.raises(RehearsalError, match="installing"):
        rehearsed(work, system, cache)

    assert not (work.attest / "rehearsal.json").exists()
    assert "install" in system.ran[-1][0]


def test_a_folder_that_is_no_system_is_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "base").mkdir()

    with (
        pytest.raises(RehearsalError, match="base is no system that boots"),
        booted(tmp_path / "base", tmp_path, tmp_path),
    ):
        pass

    assert not (tmp_path / "system").exists()


def test_only_root_boots_a_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(RehearsalError, match="only root can boot") as refused, booted(tmp_path, tmp_path, tmp_path):
        pass

    assert "leave --system out" in refused.value.fix
