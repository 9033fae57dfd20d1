"""A bar on a terminal, also before it is known how much there is to do."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from appliance.cli.context import Context


@pytest.mark.parametrize("in_bytes", [False, True])
def test_a_bar_is_shown_before_its_end_is_known(tmp_path: Path, *, in_bytes: bool) -> None:
    shown = io.StringIO()
    own = Context(config_path=tmp_path / "none", talk=Console(file=shown, force_terminal=True, width=100))

    with own.progress(in_bytes=in_bytes) as bar:
        task = bar.add_task("copying", total=None)
        bar.refresh()
        assert "/?" in shown.getvalue()
        bar.update(task, completed=7, total=9)

    assert "7/9" in shown.getvalue()
