"""The kind of database changed in a site file as people write it: that line and no other, or not at all."""

import pytest

from appliance import config as configuration
from appliance.errors import ConfigError
from appliance.install.sitefile import with_kind

SERVER = 'server = "db.h"\naddress = "10.0.0.8"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            f'site = "s"\n[database]\nkind = "sqlite"  # for now\n{SERVER}',
            f'site = "s"\n[database]\nkind = "postgresql"  # for now\n{SERVER}',
        ),
        (
            f'site = "s"\n [ database ] # ours\n{SERVER}[keys]\nprovider = "files"\n',
            f'site = "s"\n [ database ] # ours\nkind = "postgresql"\n{SERVER}[keys]\nprovider = "files"\n',
        ),
        (
            f"site = 's'\n[database]\n{SERVER}\n  kind='sqlite'\n[siem]\n",
            f"site = 's'\n[database]\n{SERVER}\n  kind = \"postgresql\"\n[siem]\n",
        ),
    ],
)
def test_one_line_says_where_the_records_are_and_all_others_stay(before: str, after: str) -> None:
    assert with_kind(before.encode(), "postgresql").decode() == after
    assert with_kind(after.encode(), "postgresql").decode() == after
    back = with_kind(after.encode(), "sqlite")
    assert configuration.parse(back) == configuration.parse(before.encode())


def test_a_file_without_the_section_gets_one_to_go_back_by() -> None:
    assert with_kind(b'site = "s"', "sqlite") == b'site = "s"'
    with pytest.raises(ConfigError, match=r"database\.kind"):
        with_kind(b'site = "s"', "postgresql")


@pytest.mark.parametrize(
    "text",
    [
        'database = { server = "db.h", address = "10.0.0.8" }\nsite = "s"\n',
        'site = "s"\ndatabase.server = "db.h"\ndatabase.address = "10.0.0.8"\n',
        f'site = "s"\n[database]\n"kind" = "sqlite"\n{SERVER}',
        f'site = "s"\n[database]\nkind = "sqlite"\nnode = "a"\n{SERVER}',
        "no site file",
    ],
)
def test_what_is_written_in_another_way_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ConfigError):
        with_kind(text.encode(), "postgresql")


def test_a_node_of_several_does_not_go_back_before_its_name_is_taken_out() -> None:
    text = f'site = "s"\n[database]\nkind = "postgresql"\nnode = "a"\n{SERVER}'

    with pytest.raises(ConfigError) as caught:
        with_kind(text.encode(), "sqlite")

    assert "node is for postgresql" in caught.value.why
