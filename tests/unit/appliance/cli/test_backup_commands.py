"""`sealift backup` as a person types it."""

from pathlib import Path

import typer
from typer.testing import CliRunner

from appliance.cli import backup
from appliance.cli.context import Context
from appliance.errors import BackupDamagedError


def test_a_backup_that_is_not_there_is_no_fault_of_ours(tmp_path: Path) -> None:
    app = typer.Typer()

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Context(config_path=tmp_path / "sealift.toml")

    backup.register(app)

    done = CliRunner().invoke(app, ["backup", "verify", str(tmp_path / "b.backup.gpg")])

    assert isinstance(done.exception, BackupDamagedError)
    assert "b.backup.gpg cannot be read" in done.exception.what
