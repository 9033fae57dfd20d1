"""What is said of nodes where there are none, or where nobody can be asked; tests/interop has the server."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.actions import nodes
from appliance.config import Config, DatabaseSection, PlacesSection


def config(root: Path, section: DatabaseSection) -> Config:
    return Config(site="demo", places=PlacesSection(root=str(root)), database=section)


def test_nothing_is_said_where_a_single_node_answers(tmp_path: Path) -> None:
    waiting = DatabaseSection(kind="postgresql", socket=str(tmp_path))

    for section in (DatabaseSection(), waiting):
        assert nodes.said(config(tmp_path, section)) == ("", [])
        assert list(nodes.findings(config(tmp_path, section))) == []


def test_nothing_is_found_while_the_server_is_away(tmp_path: Path) -> None:
    away = DatabaseSection(kind="postgresql", socket=str(tmp_path), node="a")

    assert list(nodes.findings(config(tmp_path, away))) == []


def test_a_file_is_written_by_one_node() -> None:
    with pytest.raises(ValidationError, match="node is for postgresql"):
        DatabaseSection(node="a")


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a--b", "a" * 66, "é", "a b"])
def test_a_name_that_no_record_could_bear_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        DatabaseSection(kind="postgresql", socket="/run/postgresql", node=name)
