"""The test stage has keys of its own: what one stage hashes or encrypts means nothing in the other."""

from pathlib import Path

import pytest

from appliance.errors import CiphertextError, KeyMissingError
from appliance.keys.files import FileKeys, create_missing
from appliance.keys.stages import OWN, StageKeys, keys_of
from appliance.stages import Stage


@pytest.fixture
def files(tmp_path: Path) -> FileKeys:
    create_missing(tmp_path / "keys")
    return FileKeys(tmp_path / "keys")


def test_production_has_the_box_keys_and_test_has_others_under_the_same_names(files: FileKeys) -> None:
    test = keys_of(Stage.TEST, files)

    assert keys_of(Stage.PRODUCTION, files) is files
    for name in OWN:
        assert (test.versions(name), test.newest(name)) == ((1,), 1)
        assert test.get(name).bytes != files.get(name).bytes
        assert test.get(name, version=1).bytes == files.get(f"test-{name}").bytes
    assert test.hmac("identity-hmac", b"ana") != files.hmac("identity-hmac", b"ana")


def test_what_one_stage_encrypts_the_other_cannot_open(files: FileKeys) -> None:
    test = StageKeys(files)
    sealed = test.wrap("phi-map", b"Ana Ferrer", b"req_1")

    assert test.unwrap("phi-map", sealed, b"req_1") == b"Ana Ferrer"
    with pytest.raises(CiphertextError):
        files.unwrap("phi-map", sealed, b"req_1")


def test_other_keys_of_the_box_keep_their_names(files: FileKeys) -> None:
    test = StageKeys(files)

    assert test.public("ledger-checkpoint") == files.public("ledger-checkpoint")
    assert test.sign("ledger-checkpoint", b"x") == files.sign("ledger-checkpoint", b"x")


def test_destroying_a_key_of_test_leaves_productions(files: FileKeys) -> None:
    StageKeys(files).destroy("content-hmac")

    assert files.newest("content-hmac") == 1
    with pytest.raises(KeyMissingError):
        StageKeys(files).hmac("content-hmac", b"x")
