"""A list is taken whole or not at all, recorded before it holds, and never quoted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from appliance.actions import census
from appliance.actions.census import FORGOTTEN, IMPORTED, bring, forget, parsed, standing
from appliance.audit.memory import MemoryLedger
from appliance.audit.rights import is_privileged
from appliance.config import Config
from appliance.errors import KeyMissingError, LedgerUnavailableError, StoreWriteError
from appliance.keys.files import FileKeys, create_missing
from appliance.phi import censusfile
from media.clock import FixedClock
from media.errors import LimitExceededError, MalformedError, UsageError

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LIST = parsed(b"Jane Doe\nRoe, Max\n")


@pytest.fixture
def keys(config: Config) -> FileKeys:
    create_missing(config.at.key_files)
    return FileKeys(config.at.key_files)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


def kept(config: Config, keys: FileKeys) -> list[str]:
    found = censusfile.read(config.at.census)
    return [] if found is None else censusfile.names_of(censusfile.opened(found[0], keys))


def test_a_line_is_a_name_and_a_name_is_kept_once() -> None:
    found = parsed("\ufeffJane  Doe\r\n\r\n Roe, Max \nJane Doe\nWill\nZo\u0308e X\n".encode())

    assert found.names == ("Jane Doe", "Roe, Max", "Will", "Zöe X")
    assert (found.rows, found.unseen) == (5, 1)


@pytest.mark.parametrize("apart", [",", ";", "\t"])
def test_columns_are_named_by_the_first_line(apart: str) -> None:
    text = apart.join(("id", '"Family"', "Given")) + "\n" + apart.join(("1", '"Doe"', "Jane")) + "\n" + "2\n"

    assert parsed(text.encode(), ("Family", "Given")).names == ("Doe, Jane",)
    assert parsed(text.encode(), ("Given",)).names == ("Jane",)
    with pytest.raises(UsageError):
        parsed(text.encode(), ("Nonsense",))


def test_a_delimiter_within_the_name_of_a_column_moves_no_other_column() -> None:
    text = b'"Last, First",Ward,Doctor\n"Doe, Jane",Cardiology,Anna Smith\n'

    assert parsed(text, ("Ward",)).names == ("Cardiology",)
    assert parsed(text, ("Last, First",)).names == ("Doe, Jane",)


@pytest.mark.parametrize(
    ("untrusted", "columns", "lines"),
    [
        (b"Jane Doe\nsecret\x00one\n", (), "line 2"),
        (b"Jane Doe\n12345\nA B\n!!\n", (), "line 2, 4"),
        (b"Jane Doe\n" + b"secret" * 21 + b"\n", (), "line 2"),
        (b"Jane Doe\nsecret\xff\n", (), "line 2"),
        (b'name\nJane Doe\n"secret"x\n', ("name",), "line 3"),
        (b"1\n" * 30, (), "19, 20 and 10 more"),
    ],
)
def test_rows_that_are_no_names_are_named_by_line_and_never_quoted(
    untrusted: bytes, columns: tuple[str, ...], lines: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        parsed(untrusted, columns)

    said = str(caught.value.to_json())
    assert lines in said
    assert "secret" not in said
    assert "Doe" not in said


def test_sizes_are_bounded() -> None:
    with pytest.raises(LimitExceededError):
        parsed(b"a" * (census.MAX_BYTES + 1))
    with pytest.raises(LimitExceededError):
        parsed("\n".join(f"N{at:x}x" for at in range(censusfile.MAX_NAMES + 1)).encode())
    with pytest.raises(UsageError):
        parsed(b"\n \n,\n")


def test_a_list_is_recorded_without_a_name_and_replaces_the_one_before(
    config: Config, keys: FileKeys, ledger: MemoryLedger
) -> None:
    bring(config, parsed(b"Old Name"), ledger=ledger, keys=keys, person="ada")
    bring(config, LIST, ledger=ledger, keys=keys, person="ben")

    assert kept(config, keys) == ["Jane Doe", "Roe, Max"]
    leaf, first = ledger.find(IMPORTED)
    assert dict(leaf.body) == {"names": 2, "digest": leaf.body["digest"], "person": "ben"}
    assert leaf.body["digest"] != first.body["digest"]
    assert b"Doe" not in leaf.raw
    assert is_privileged(IMPORTED)
    assert (config.at.census / censusfile.NAME).stat().st_mode & 0o777 == 0o640
    assert standing(config, ledger, keys).to_json() == {
        "names": 2, "at": leaf.time, "by": "ben", "digest": leaf.body["digest"], "fault": None,
    }  # fmt: skip


def test_what_cannot_be_recorded_changes_nothing(config: Config, keys: FileKeys, ledger: MemoryLedger) -> None:
    bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        bring(config, parsed(b"Other One"), ledger=ledger, keys=keys, person="ada")
    with pytest.raises(LedgerUnavailableError):
        forget(config, ledger=ledger, person="ada", reason="x")

    assert kept(config, keys) == ["Jane Doe", "Roe, Max"]


def test_the_record_comes_first(config: Config, keys: FileKeys, ledger: MemoryLedger) -> None:
    class Watching(MemoryLedger):
        def append(self, kind: str, body: Any, *, key: str | None = None) -> Any:
            seen.append((kind, kept(config, keys)))
            return super().append(kind, body, key=key)

    seen: list[tuple[str, list[str]]] = []
    watching = Watching()
    bring(config, LIST, ledger=watching, keys=keys, person="ada")
    forget(config, ledger=watching, person="ada", reason="x")

    assert seen == [(IMPORTED, []), (FORGOTTEN, ["Jane Doe", "Roe, Max"])]


def test_where_nothing_can_be_written_or_encrypted_nothing_is_recorded(
    config: Config, keys: FileKeys, ledger: MemoryLedger
) -> None:
    config.at.state.mkdir(parents=True)
    config.at.census.write_text("in the way")
    with pytest.raises(StoreWriteError):
        bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    config.at.census.unlink()
    keys.destroy("phi-map")
    with pytest.raises(KeyMissingError):
        bring(config, LIST, ledger=ledger, keys=keys, person="ada")

    assert ledger.find(IMPORTED) == []


def test_a_list_is_taken_away_once(config: Config, keys: FileKeys, ledger: MemoryLedger) -> None:
    assert not forget(config, ledger=ledger, person="ada", reason="none")
    bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    assert forget(config, ledger=ledger, person="ben", reason="moved")
    assert not forget(config, ledger=ledger, person="ben", reason="again")

    assert kept(config, keys) == []
    assert [dict(leaf.body) for leaf in ledger.find(FORGOTTEN)] == [{"person": "ben", "reason": "moved"}]
    found = standing(config, ledger, keys)
    assert (found.names, found.person, found.fault) == (0, "ben", "")


def test_it_is_said_when_disk_and_ledger_disagree(config: Config, keys: FileKeys, ledger: MemoryLedger) -> None:
    file = config.at.census / censusfile.NAME
    bring(config, parsed(b"Other One"), ledger=ledger, keys=keys, person="ada")
    other = file.read_bytes()
    bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    whole = file.read_bytes()
    assert standing(config, ledger, keys).fault == ""

    file.write_bytes(other)
    assert "not the one" in standing(config, ledger, keys).fault
    file.write_bytes(whole[:-1])
    assert "cannot" in standing(config, ledger, keys).fault or "does not open" in standing(config, ledger, keys).fault
    file.unlink()
    missing = standing(config, ledger, None)
    assert missing.fault == "a list is on record, and there is none on the disk"
    assert "import` with the list again" in missing.fix
    file.write_bytes(whole)
    forget(config, ledger=ledger, person="ada", reason="x")
    file.write_bytes(whole)
    found = standing(config, ledger, keys)
    assert found.fault == "there is a list on the disk, and none on record"
    assert found.fix.startswith("`sealift census forget`")


def test_the_doctor_says_how_old_the_list_is_and_misses_one_that_went(config: Config, keys: FileKeys) -> None:
    ledger = MemoryLedger(FixedClock(at=NOW))

    def said(days: float) -> tuple[bool | None, str]:
        clock = FixedClock(at=NOW + timedelta(days=days, minutes=1))
        one = census.finding(config, ledger, clock)
        return one.is_good, one.text

    assert said(0) == (None, "there is no list of names")
    bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    assert said(40) == (True, "2 names, 40 days old")
    (config.at.census / censusfile.NAME).unlink()
    assert said(0) == (False, "a list is on record, and there is none on the disk")


def test_the_doctor_advises_what_helps_where_there_is_none_was_none_or_is_one_that_nobody_recorded(
    config: Config, keys: FileKeys, ledger: MemoryLedger
) -> None:
    def fix() -> str:
        return census.finding(config, ledger, FixedClock(at=NOW)).fix

    never = "`sealift census import`, as root, if names that stand alone are to be masked"
    assert fix() == never, "there is nothing to import again"
    bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    assert fix() == ""
    left = (config.at.census / censusfile.NAME).read_bytes()
    forget(config, ledger=ledger, person="ada", reason="x")
    assert fix() == f"it was taken away; {never}"
    (config.at.census / censusfile.NAME).write_bytes(left)
    assert fix().startswith("`sealift census forget`, or")
    assert "again" not in fix()


def test_a_renewed_key_leaves_the_list_as_it_was(config: Config, keys: FileKeys, ledger: MemoryLedger) -> None:
    bring(config, LIST, ledger=ledger, keys=keys, person="ada")
    keys.create("phi-map")
    keys.create("content-hmac")

    assert standing(config, ledger, keys).fault == ""
    keys.remove("content-hmac", 1)
    assert standing(config, ledger, keys).fault == ""
