"""One node of several is retired, and then the last: no node hears of keys of its own that they were destroyed.

Scenario: two nodes with the same keys on one database server; one of them goes, or burns, and the site ends with the
other. Promise: the records of one node's retirement name that node and no key of the site's, the site does not end
while another node has its keys, and what the last one records is true of all.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance.actions import nodes, retiring
from appliance.actions.backups import doomed, erasures
from appliance.actions.databases import migrating
from appliance.actions.retiring import Decision, Disks
from appliance.actions.retiring_scope import NODE_DONE
from appliance.actions.status import status
from appliance.audit.client import open_ledger
from appliance.audit.facts import EVERY
from appliance.audit.rights import ACTIONS
from appliance.errors import ConflictError, UnknownPersonError
from media.clock import SystemClock
from media.errors import UsageError
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.interop

SITE = Decision(typed_site="demo", people=("ann", "bo"), reason="replaced", disks=Disks(media=("SSD, S/N 1",)))


@dataclass(frozen=True, slots=True)
class Node:
    """One node and what is running of it."""

    site: LedgerSite
    stack: ExitStack

    def retire(self, certificate: Path, decision: Decision, **more: bool) -> str:
        def confirm(person: str) -> str:
            if not self.keys() - {"ledger-checkpoint.v1"}:
                raise UnknownPersonError(what=f"{person} has no password any more")
            return person.title()

        retiring.retire(
            self.site.config, decision, confirm=confirm, certificate=certificate, clock=SystemClock(), **more
        )
        return certificate.read_text() if certificate.exists() else ""

    def keys(self) -> set[str]:
        return {file.name for file in self.site.places.key_files.iterdir()}

    def kinds(self, family: str) -> list[tuple[str, str]]:
        ledger = open_ledger(self.site.config, ACTIONS, clock=SystemClock())
        try:
            found = ledger.find(kind=family, limit=EVERY, newest_first=False)
            # That a key is gone for the whole site, and from backups, is said by its digest.
            assert not any("digests" in leaf.body for leaf in found if leaf.kind.startswith("retire."))
        finally:
            ledger.close()
        return [(leaf.kind, leaf.via.node) for leaf in found]

    def is_retired(self) -> bool:
        ledger = open_ledger(self.site.config, ACTIONS, clock=SystemClock())
        try:
            return retiring.is_retired(self.site.config, ledger)
        finally:
            ledger.close()

    def told(self) -> str:
        """Return what the status says of it first; nothing where that is no retirement."""
        first = status(self.site.config, clock=SystemClock()).parts[0]
        return first.text if first.name == "retirement" else ""

    def listed(self) -> list[str]:
        """Return the keys that the newest retirement of a node lists."""
        ledger = open_ledger(self.site.config, ACTIONS, clock=SystemClock())
        try:
            (leaf,) = ledger.find(kind=NODE_DONE, limit=1)
        finally:
            ledger.close()
        return [str(one["name"]) for one in leaf.body["keys"]]

    def said_of_keys(self) -> str:
        ledger = open_ledger(self.site.config, ACTIONS, clock=SystemClock())
        try:
            found = nodes.keys(self.site.config, ledger)
            assert not erasures.recorded(ledger)
        finally:
            ledger.close()
        assert found is not None
        return found.text


@contextmanager
def node(postgres: PostgresServer, database: str, folder: Path, name: str, like: Node | None = None) -> Iterator[Node]:
    section = postgres.section(database).model_copy(update={"node": name})
    with ExitStack() as stack, ledger_site(folder, database=section) as site:
        if like is not None:
            shutil.copytree(like.site.places.key_files, site.places.key_files, dirs_exist_ok=True)
        stack.enter_context(site.running())
        yield Node(site, stack)


@pytest.fixture
def two(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    name = postgres.database()
    migrating.migrate(postgres.places(tmp_path / "owner", name), "up")
    with (
        node(postgres, name, tmp_path / "a", "a") as first,
        node(postgres, name, tmp_path / "b", "b", first) as second,
    ):
        yield first, second


def test_a_node_goes_by_itself_and_the_last_one_ends_the_site(two: tuple[Node, Node], tmp_path: Path) -> None:
    leading, other = two
    before = leading.keys()
    goes = replace(SITE, node="b")
    for wrong, error in ((SITE, ConflictError), (replace(SITE, node="a"), UsageError)):
        for dry_run in (True, False):
            with pytest.raises(error):
                other.retire(tmp_path / "c.html", wrong, dry_run=dry_run)
    assert (other.keys(), other.kinds("retire.")) == (before, [])

    page = other.retire(tmp_path / "b.html", goes)
    assert other.keys() == set()
    assert "demo, node b" in page
    assert "Other nodes have the same keys" in page
    assert {kind for kind, _ in leading.kinds("retire.")} == {"retire.node-begun", "retire.node-key", NODE_DONE}
    assert {by for _, by in leading.kinds("retire.")} == {"b"}
    assert (leading.kinds("key."), leading.said_of_keys()) == ([], "")
    assert "Other nodes have the same keys" in other.retire(tmp_path / "again.html", goes)
    assert len([kind for kind, _ in leading.kinds("retire.") if kind == NODE_DONE]) == 1

    assert (leading.is_retired(), other.is_retired()) == (False, True)
    assert leading.told() == ""
    assert "node b of demo was retired at" in other.told()
    with pytest.raises(ConflictError, match="other nodes of this site have the same keys: b"):
        leading.retire(tmp_path / "c.html", SITE)  # it runs, and holds them in memory
    other.stack.close()
    with pytest.raises(ConflictError, match="a is the last node"):
        leading.retire(tmp_path / "c.html", replace(SITE, node="a"))
    page = leading.retire(tmp_path / "a.html", SITE)

    assert leading.keys() == set()
    assert leading.told().startswith("demo was retired at")
    assert "node" not in page.split("Signatures")[0].split("Keys destroyed first")[0]
    assert leading.kinds("retire.")[-1] == ("retire.done", "a")
    assert {by for _, by in leading.kinds("key.destroyed")} == {"a"}


def test_a_node_that_burnt_is_named_as_gone_and_not_while_it_is_there(two: tuple[Node, Node], tmp_path: Path) -> None:
    leading, other = two
    for gone, error in ((("b",), ConflictError), (("c",), UsageError)):
        with pytest.raises(error):
            leading.retire(tmp_path / "c.html", replace(SITE, gone=gone))
    other.stack.close()
    with pytest.raises(ConflictError, match="the same keys: b"):
        leading.retire(tmp_path / "c.html", SITE)
    assert leading.kinds("retire.") == []

    page = leading.retire(tmp_path / "a.html", replace(SITE, gone=("b",)))
    assert "Of node b people said that its keys went with its machine." in page
    assert leading.kinds("retire.")[-1] == ("retire.done", "a")


def test_a_node_that_was_cut_off_goes_on_and_another_machine_of_its_name_goes_anew(
    two: tuple[Node, Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading, other = two
    goes, real, done = replace(SITE, node="b"), doomed.overwrite, list[Path]()

    def cut(file: Path) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(file)
        real(file)

    with monkeypatch.context() as power:
        power.setattr(doomed, "overwrite", cut)
        with pytest.raises(KeyboardInterrupt):
            other.retire(tmp_path / "c.html", goes)
    other.retire(tmp_path / "b.html", goes)
    assert other.keys() == set()

    shutil.copytree(leading.site.places.key_files, other.site.places.key_files, dirs_exist_ok=True)
    other.retire(tmp_path / "anew.html", goes)
    listed = leading.listed()
    assert sorted(listed) == sorted(set(listed))
    kinds = [kind for kind, _ in leading.kinds("retire.")]
    assert (kinds.count("retire.node-begun"), kinds.count(NODE_DONE), other.keys()) == (2, 2, set())
    assert leading.said_of_keys() == ""


def test_the_status_of_another_machine_of_a_retired_nodes_name_says_nothing_of_that_one(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    name = postgres.database()
    migrating.migrate(postgres.places(tmp_path / "owner", name), "up")
    with node(postgres, name, tmp_path / "a", "a") as first:
        with node(postgres, name, tmp_path / "b", "b", first) as goes:
            goes.retire(tmp_path / "b.html", replace(SITE, node="b"))
            assert "node b of demo was retired at" in goes.told()
        with node(postgres, name, tmp_path / "anew", "b", first) as anew:
            assert anew.told() == ""
