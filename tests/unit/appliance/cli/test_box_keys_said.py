"""What `sealift box-keys destroy` says to the person who destroyed keys: what is left to do is theirs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.actions.boxkeys import Changed
from appliance.cli import boxkeys
from appliance.cli.context import Context
from tests.support.commands import typed


class _Keyring:
    def __init__(self, record: int) -> None:
        self._record = record

    def destroy(self, name: str, *, reason: str) -> Changed:
        assert reason
        return Changed(name=name, versions=(2,), gone=(1,), restarted=(), record=self._record)


@pytest.mark.parametrize(("record", "is_told"), [(41, True), (0, False)])
def test_disks_that_are_away_learn_of_it_later_and_the_record_to_print_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    record: int,
    is_told: bool,
) -> None:
    """Scenario: two disks take turns; the one at home still holds the key when the box burns down."""
    config = tmp_path / "sealift.toml"
    config.write_text(f'site = "s"\nenvironment = "demo"\n[places]\nroot = "{tmp_path}"\n')

    @contextmanager
    def keyring(_own: Context) -> Iterator[_Keyring]:
        yield _Keyring(record)

    monkeypatch.setattr(boxkeys, "keyring_of", keyring)

    said = typed(config, (boxkeys,), capsys)("box-keys", "destroy", "session", "--reason", "over", "--yes")

    assert ("not plugged in now learn of it with their next backup" in str(said)) is is_told
    assert (f"sealift audit show {record}`" in str(said)) is is_told
