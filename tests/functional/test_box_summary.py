"""What a script of booted boxes says of itself in the end: it held only where nothing was raised."""

import json
import signal
from pathlib import Path

import pytest

from examples.demo.stage import Stage
from tests.box.machine import BoxError, Machine
from tests.box.network import Facility
from tests.box.run import Run


@pytest.mark.parametrize(
    ("fault", "ended"), [(None, None), (BoxError("not true: it"), "not true: it"), (RuntimeError(), "RuntimeError")]
)
def test_a_run_held_only_where_nothing_was_raised_even_without_a_word(
    tmp_path: Path, fault: Exception | None, ended: str | None
) -> None:
    run = Run(
        out=tmp_path,
        stage=Stage(tmp_path, tools=tmp_path, environment={}),
        machine=Machine(root=tmp_path, name="none", media={}, log=tmp_path / "console"),
        facility=Facility(name="none"),
    )
    before = signal.getsignal(signal.SIGINT)

    try:
        with run.summary():
            if fault is not None:
                raise fault
    finally:
        signal.signal(signal.SIGINT, before)

    told = json.loads((tmp_path / "summary.json").read_text())
    assert (told["ok"], told.get("ended")) == (fault is None, ended)
