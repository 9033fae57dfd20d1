"""Engines of production go by what their version's validation measured, where it is about that machine and engine."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.serve import keptsteps
from appliance.serve.curve import Curve
from appliance.serve.instance import Instance
from appliance.serve.keptsteps import Kept
from appliance.serve.machinemark import mark
from media import canonical
from media.clock import FixedClock
from tests.support.decoder import EchoDecoder
from tests.support.promotion import site_config
from tests.support.versions import store_version

HERE = mark() or pytest.skip("this kernel does not say what processor it has", allow_module_level=True)
PROMPTS = {1: 5000, 32: 60_000, 110: 199_000}
CURVE = Curve(threads=3, micros={1: 5000, 4: 9000}, machine=HERE, prompts=PROMPTS)
GPU = {"n_gpu_layers": 2, "num_gpu": 1, "main_gpu": 0, "tensor_split": [], "num_keep": 0}


class Box:
    """A place with one version, and what lies there for its engines."""

    def __init__(self, root: Path, **version: Any) -> None:
        self.config: Config = site_config(root)
        _, self.descriptor = store_version(self.config, **version)
        self.file = self.config.at.kept_steps(self.descriptor.model_digest[:12])
        self.file.parent.mkdir(parents=True)

    def lay(self, curve: Curve = CURVE, **fields: Any) -> None:
        self.file.write_bytes(canonical.dumps({**curve.to_json(), **fields}))

    def kept(self, *, threads: int = 3, stage: str = "production", which: str = "") -> Kept:
        instance = Instance.parse(f"{stage}-{self.descriptor.model_digest[:12]}{which}")
        return keptsteps.kept(self.config.at, self.descriptor, instance, threads=threads)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_what_was_measured_here_with_these_threads_is_gone_by(box: Box) -> None:
    box.lay()

    assert box.kept() == Kept(threads=3, machine=HERE, curve=CURVE)
    assert box.kept(which="-2").curve == CURVE


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        (Curve(threads=3, micros=CURVE.micros, machine="ab" * 32), "on another machine or processor"),
        (Curve(threads=3, micros=CURVE.micros), "on another machine or processor"),
        (Curve(threads=2, micros=CURVE.micros, machine=HERE), "with 2 threads, and this engine has 3"),
        (Curve(threads=3, micros=CURVE.micros, machine=HERE), "did not measure how prompts are read"),
    ],
    ids=["another machine", "a release that did not say", "other threads", "a release that did not ask"],
)
def test_what_was_measured_otherwise_is_not(box: Box, curve: Curve, why: str) -> None:
    box.lay(curve)

    assert box.kept().curve is None
    assert why in box.kept().why


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"7", b"[]", b"\xff", b" " * 70_000, canonical.dumps({**CURVE.to_json(), "format": 3})],
)
def test_what_does_not_read_is_not(box: Box, content: bytes) -> None:
    box.file.write_bytes(content)

    assert box.kept() == Kept(threads=3, machine=HERE, why="what its validation measured does not read")


def test_no_file_and_what_is_none_is_passed_over(box: Box) -> None:
    assert "nothing that its validation measured" in box.kept().why

    other = box.file.with_name("other")
    other.write_bytes(canonical.dumps(CURVE.to_json()))
    box.file.symlink_to(other)
    assert "cannot be read" in box.kept().why

    box.file.unlink()
    os.mkfifo(box.file)
    assert "does not read" in box.kept().why


def test_validation_itself_always_measures(box: Box) -> None:
    box.lay()

    assert box.kept(stage="test") == Kept(threads=3, machine=HERE, why="this is the test stage")


def test_a_version_with_layers_on_a_card_measures(tmp_path: Path) -> None:
    box = Box(tmp_path, llama_cpp=GPU)
    box.lay()

    assert (box.kept().curve, box.kept(which="-cpu").curve) == (None, None)


def test_a_kernel_that_names_no_processor_has_it_measured(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.lay(Curve(threads=3, micros=CURVE.micros))
    monkeypatch.setattr(keptsteps, "mark", lambda: "")

    assert "another machine" in box.kept().why


class Slow(EchoDecoder):
    """Takes a while for each row."""

    def __init__(self, clock: FixedClock, micros: int) -> None:
        super().__init__(sequences=4, batch_tokens=64)
        self._clock, self._micros = clock, micros

    def decode(self, rows: Any) -> bool:
        self._clock.advance(len(rows) * self._micros / 1e6)
        return super().decode(rows)


@pytest.mark.parametrize(
    ("micros", "curve", "steps", "told"),
    [
        (5000, {1: 5000, 4: 20000}, 12, "as its validation measured them"),
        (5000, {1: 9000, 4: 20000}, 34, "since steps no longer take what its validation measured"),
        (5000, {1: 5000, 64: 20000}, 28, "since steps no longer take what its validation measured"),
        (5000, {}, 28, "since there is none"),
    ],
    ids=["they fit", "the machine is another one", "wider than it decodes", "nothing kept"],
)
def test_it_is_looked_whether_steps_still_take_what_was_measured(
    micros: int, curve: dict[int, int], steps: int, told: str
) -> None:
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    decoder, said = Slow(clock, micros), list[str]()
    held = Curve(threads=3, micros=curve, machine=HERE) if curve else None
    known = Kept(threads=3, machine=HERE, curve=held, why="there is none")

    found = keptsteps.taken(known, decoder, clock=clock, seconds=100, say=said.append)

    assert (found is held) is (told == "as its validation measured them")
    assert (found.threads, found.machine) == (3, HERE)
    assert found.micros[1] == 5000
    assert found is held or set(found.prompts) == {1, 32, 40}
    assert len(decoder.steps) <= steps
    assert len(said) == 1
    assert told in said[0]


def test_a_mark_is_of_processor_and_machine(tmp_path: Path) -> None:
    def lay(**files: str) -> str:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_id", "-id")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return mark(tmp_path)

    assert lay(etc__machine_id="a") == ""
    first = lay(sys__devices__system__cpu__modalias="cpu:type:x86,ven0000fam0006mod00CF:feature:,0000")
    assert len(first) == 64
    found = [
        first,
        lay(sys__devices__system__cpu__modalias="cpu:type:x86,ven0000fam0006mod00CF:feature:,0000,0001"),
        lay(sys__devices__system__cpu__online="0-3"),
        lay(etc__machine_id="b"),
    ]
    assert len(set(found)) == 4
    assert mark(tmp_path) == found[-1]
