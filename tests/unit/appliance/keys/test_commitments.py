"""Commitments to keys: the same for the same key and for no other one, and nothing of a key in them."""

from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, PlacesSection
from appliance.errors import KeyMissingError
from appliance.keys import commitments
from appliance.keys.files import FileKeys, create_missing
from appliance.keys.opening import open_keys
from appliance.keys.provider import PURPOSES, Key
from media import canonical


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(site="ward-7", environment="demo", places=PlacesSection(root=str(tmp_path)))
    create_missing(made.at.key_files)
    return made


def test_each_version_of_each_key_has_one_and_a_copy_of_the_folder_has_the_same(config: Config, tmp_path: Path) -> None:
    keys = FileKeys(config.at.key_files)
    keys.create("session")
    (tmp_path / "copy").mkdir()
    for path in config.at.key_files.iterdir():
        copied = tmp_path / "copy" / path.name
        copied.write_bytes(path.read_bytes())
        copied.chmod(0o400)

    made = commitments.of(keys)

    assert set(made) == {*(f"{name}.v1" for name in PURPOSES), "session.v2"}
    assert len(set(made.values())) == len(made)
    assert commitments.of(FileKeys(tmp_path / "copy")) == made


def test_the_same_bytes_under_two_names_do_not_look_the_same(config: Config) -> None:
    folder = config.at.key_files
    for name in ("phi-map", "retention", "identity-hmac", "content-hmac"):
        (folder / f"{name}.v1").unlink()
        (folder / f"{name}.v1").write_bytes(b"k" * 32)
        (folder / f"{name}.v1").chmod(0o400)

    made = commitments.of(FileKeys(folder))

    assert len(set(made.values())) == len(made)
    assert (b"k" * 32).hex() not in made.values()


def test_it_is_nothing_that_the_key_hashes_for_a_caller(config: Config) -> None:
    keys = FileKeys(config.at.key_files)

    assert commitments.commitment(keys, "api-key-pepper", 1) not in {
        keys.hmac("api-key-pepper", text).hex() for text in (b"", b"api-key-pepper.v1", b"sealift/key-commitment/v1")
    }


class Token(FileKeys):
    """Keys that encrypt and never leave."""

    def get(self, name: str, *, version: int | None = None) -> Key:
        if name in {"phi-map", "retention", "test-phi-map"}:
            raise KeyMissingError(what="the key", why="it never leaves its token", fix="")
        return super().get(name, version=version)


def test_a_token_tells_nothing_of_keys_that_encrypt(config: Config) -> None:
    made = commitments.of(Token(config.at.key_files))

    assert set(PURPOSES) - {name.rpartition(".")[0] for name in made} == {"phi-map", "retention", "test-phi-map"}


def test_a_unit_that_sees_two_keys_reads_what_root_wrote_and_else_tells_of_these(config: Config) -> None:
    whole = commitments.of(open_keys(config, environ={}))
    seen = config.at.key_files.with_name("credentials")
    seen.mkdir()
    (seen / "session").write_bytes((config.at.key_files / "session.v1").read_bytes())
    (seen / "session").chmod(0o400)
    assert commitments.seen_from(config, FileKeys(seen)) == {"session.v1": whole["session.v1"]}

    commitments.write(config)

    assert commitments.seen_from(config, FileKeys(seen)) == whole
    assert (config.at.run / commitments.FILE_NAME).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"{}",
        canonical.dumps({"format": 2, "keys": {}}),
        canonical.dumps({"format": 1, "keys": []}),
        canonical.dumps({"format": 1, "keys": {"session.v1": "ab"}}),
    ],
)
def test_what_root_does_not_write_is_not_believed(config: Config, untrusted: bytes) -> None:
    config.at.run.mkdir(parents=True, exist_ok=True)
    (config.at.run / commitments.FILE_NAME).write_bytes(untrusted)

    with pytest.raises(KeyMissingError, match="cannot be compared"):
        commitments.written(config.at)


def test_keys_of_a_newer_release_are_passed_over() -> None:
    value: Any = {"session.v1": "a" * 64, "newer.v1": "b" * 64}

    assert commitments.from_json(value) == {"session.v1": "a" * 64}


def test_the_entry_point_ends_with_the_errors_code(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "sealift.toml"
    file.write_text(f'site = "ward-7"\n[places]\nroot = "{tmp_path}"\n')

    assert commitments.main(["--config", str(file)]) == 0
    assert commitments.written(config.at) is not None
    (config.at.key_files / "session.v1").chmod(0o644)
    assert commitments.main(["--config", str(file)]) == KeyMissingError.exit_code
    assert commitments.written(config.at) is None
