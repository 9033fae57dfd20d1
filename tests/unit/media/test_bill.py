from typing import Any

import pytest

from media.bill import files_of, require_same_files
from media.errors import DigestMismatchError, ExtraFileError, MalformedError, MissingFileError

FILES = {"data/a": "a" * 64, "data/b": "b" * 64}


def component(path: str, sha256: str) -> dict[str, Any]:
    return {
        "hashes": [{"alg": "SHA-256", "content": sha256}, {"alg": "MD5", "content": "0" * 32}],
        "properties": [{"name": "sealift:kind", "value": "wheel"}, {"name": "sealift:path", "value": path}],
    }


def bill(files: dict[str, str]) -> dict[str, Any]:
    return {"components": [component(*each) for each in files.items()]}


def test_a_bill_of_the_very_files_passes() -> None:
    require_same_files(bill(FILES), FILES)

    assert files_of(bill(FILES)) == FILES


def test_a_file_that_the_bill_lacks_is_named() -> None:
    with pytest.raises(ExtraFileError, match="data/b"):
        require_same_files(bill({"data/a": "a" * 64}), FILES)


def test_a_file_that_only_the_bill_has_is_named() -> None:
    with pytest.raises(MissingFileError, match="data/c"):
        require_same_files(bill({**FILES, "data/c": "c" * 64}), FILES)


def test_another_digest_is_named() -> None:
    with pytest.raises(DigestMismatchError, match="data/b"):
        require_same_files(bill({**FILES, "data/b": "c" * 64}), FILES)


@pytest.mark.parametrize(
    "untrusted",
    [
        None,
        {"components": {}},
        {"components": [{}]},
        {"components": [component("data/a", "A" * 64)]},
        {"components": [component("data/a", "a" * 64)] * 2},
        {"components": [{**component("data/a", "a" * 64), "hashes": []}]},
        {"components": [{**component("data/a", "a" * 64), "properties": [{"name": "sealift:path", "value": 1}]}]},
    ],
)
def test_a_bill_that_is_none_is_malformed(untrusted: Any) -> None:
    with pytest.raises(MalformedError):
        require_same_files(untrusted, FILES)
