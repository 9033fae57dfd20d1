"""docs/format.md and the code speak of the same rules, limits and values."""

import re
from pathlib import Path

import pytest

from media import layout, limits
from media.digest import payload_digest, sha256_hex, volume_id

_ROOT = Path(__file__).resolve().parents[2]
_TEXT = (_ROOT / "docs" / "format.md").read_text(encoding="utf-8")
_DEFINED = re.findall(r"^\* \*\*([A-Z]+-[0-9]+)\*\* ", _TEXT, re.MULTILINE)
_CITED = re.compile(r"\b(?:FMT|TRUST|CUST|REG|PROM|HOST|EXP|REF|PIN|BILL|PROBE|SCAN|AUTO)-[0-9]+")


def test_each_rule_is_stated_once() -> None:
    assert len(_DEFINED) == len(set(_DEFINED))
    kinds = {"FMT", "TRUST", "CUST", "REG", "PROM", "HOST", "EXP", "REF", "PIN", "BAK", "BILL", "PROBE", "SCAN", "AUTO"}

    assert {rule.partition("-")[0] for rule in _DEFINED} == kinds


def test_the_page_refers_only_to_rules_that_it_states() -> None:
    assert set(_CITED.findall(_TEXT)) <= set(_DEFINED)


@pytest.mark.parametrize("package", ["media", "appliance", "bundler"])
def test_the_code_cites_only_rules_that_are_stated(package: str) -> None:
    cited = {
        rule: path.name
        for path in (_ROOT / package).rglob("*.py")
        for rule in _CITED.findall(path.read_text(encoding="utf-8"))
    }

    assert {rule: name for rule, name in cited.items() if rule not in _DEFINED} == {}


def test_the_test_vector_is_what_the_code_computes() -> None:
    payload = payload_digest([("data/b", 3, sha256_hex(b"abc")), ("data/a", 0, sha256_hex(b""))])

    assert payload in _TEXT
    assert volume_id(payload, 1) in _TEXT


def test_the_limits_are_those_of_the_code() -> None:
    mib = 2**20
    people = "people; keys of one person and use; signatures of a file"
    custody = "a custody entry; entries of a volume; seals of an entry"
    rows = [
        f"| a JSON document | {limits.JSON_BYTES // mib} MiB, {limits.JSON_DEPTH} levels |",
        f"| a manifest | {limits.MANIFEST_BYTES // mib} MiB, {limits.FILES:,} lines |",
        f"| targets of a release, parts of all volumes | {limits.FILES:,} |",
        f"| blocks of a file | {limits.BLOCKS_PER_FILE:,} (4 TiB) |",
        f"| volumes | {limits.VOLUMES} |",
        f"| `bag-info.txt` | {limits.BAG_INFO_BYTES:,} |",
        f"| a signature file | {limits.SIGNATURE_BYTES // 1024} KiB |",
        f"| a certificate | {limits.CERTIFICATE_BYTES // 1024} KiB |",
        f"| {people} | {limits.PEOPLE}; {limits.KEYS_PER_PERSON}; {limits.SIGNATURES} |",
        f"| an envelope; its payload | {limits.ENVELOPE_BYTES // mib} MiB; {limits.PAYLOAD_BYTES // mib} MiB |",
        f"| {custody} | {limits.CUSTODY_ENTRY_BYTES // 1024} KiB; {limits.CUSTODY_ENTRIES}; {limits.SEALS} |",
        f"| serial | {limits.SERIAL_MAX:,} |",
        f"| releases of a base; its runs | {limits.BASE_SERIALS}; {limits.FILES:,} |",
        f"| an inventory | {limits.INVENTORY_BYTES // mib} MiB |",
    ]

    assert [row for row in rows if row not in _TEXT] == []
    assert f"{limits.JSON_CONTAINERS:,} opening brackets" in _TEXT
    assert f"{layout.BLOCK_BYTES:,} bytes (64 MiB)" in _TEXT
    assert f"at most {layout.PART_BLOCKS} blocks" in _TEXT
    assert f"at most {limits.PATH_CHARS} characters and {limits.PATH_PARTS} parts" in _TEXT
    assert all(f"`{name}`" in _TEXT for name in layout.LITTER)
