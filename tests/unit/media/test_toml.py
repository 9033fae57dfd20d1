"""What people wrote as TOML: the mark that nobody sees is called by its name."""

from pathlib import Path

import pytest

from appliance import config
from appliance.errors import ConfigError
from appliance.install import answers
from appliance.promote.sitepolicy import SitePolicy
from bundler.errors import RecipeError
from bundler.recipe import Recipe
from media import toml
from media.errors import MalformedError


@pytest.mark.parametrize("untrusted", [b"\xef\xbb\xbfa = 1\n", b"\xff", b"a = ", b"a = " + b"1" * 5000])
def test_what_is_no_toml_is_refused(untrusted: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        toml.read(untrusted)


def test_what_is_read_is_what_was_written() -> None:
    assert toml.read('a = "ü"\n[b]\nc = 1\n'.encode()) == {"a": "ü", "b": {"c": 1}}


def test_every_file_of_people_says_so_where_an_editor_marked_it(tmp_path: Path) -> None:
    untrusted = b"\xef\xbb\xbfformat = 1\n"
    for read, error in (
        (config.parse, ConfigError),
        (answers.parse, ConfigError),
        (SitePolicy.from_bytes, MalformedError),
        (lambda one: Recipe.parse(one, folder=tmp_path), RecipeError),
    ):
        with pytest.raises(error) as refused:
            read(untrusted)
        assert "save it as UTF-8 without one" in refused.value.why
