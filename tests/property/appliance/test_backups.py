"""The plaintext of a backup: any change is refused or changes nothing, and its manifest reads as it was written."""

import os
import random
import shutil
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.actions.backups import archive
from appliance.actions.backups.archive import Contents, Draft
from appliance.actions.backups.manifest import (
    BackedUpFile,
    LedgerPart,
    Manifest,
    NeededMedium,
    files_sha256,
    part_name,
)
from appliance.audit import note
from appliance.audit.rights import ACTIONS
from appliance.errors import BackupDamagedError
from media.errors import MediaError, SealiftError
from tests.support.ledger import ledger_site

CHANGES = 4000 if os.environ.get("SEALIFT_DEEP") else 40
FILES = {"site/sealift.toml": b"format = 1\n", "keys/identity-hmac.v1": b"k" * 32, "trust/state.json": b"{}"}
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)


def stream_of(folder: Path, files: dict[str, bytes]) -> bytes:
    """Return the stream of a small site whose ledger recorded FILES, with these files in it."""
    with ledger_site(folder) as box, box.running() as log:
        ledger = box.door(ACTIONS)
        ledger.append(archive.BEGUN, {"files_sha256": files_sha256(archive.describe(FILES))})
        text = ledger.checkpoint()
        stream = BytesIO()
        archive.write(
            stream,
            ledger,
            Draft(
                site="demo",
                environment="demo",
                made_at=datetime(2026, 11, 20, tzinfo=UTC),
                files=files,
                checkpoint=text,
                signed=note.verify_checkpoint(text, [log.vkey]),
                serial=3,
                media=(NeededMedium(serial=3, release="r3", code="c" * 64, payload_digest="d" * 64),),
            ),
        )
        ledger.close()
        return stream.getvalue()


@pytest.fixture(scope="module")
def plaintext(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The stream of a small site."""
    return stream_of(tmp_path_factory.mktemp("b"), FILES)


def read(untrusted: bytes, folder: Path) -> Contents:
    try:
        return archive.read(BytesIO(untrusted), folder)
    finally:
        shutil.rmtree(folder)


def test_any_change_of_the_plaintext_is_refused_or_changes_nothing(plaintext: bytes, tmp_path: Path) -> None:
    genuine = read(plaintext, tmp_path / "genuine")
    assert dict(genuine.files) == FILES
    chance = random.Random(20261120)
    refused = 0
    for number in range(CHANGES):
        changed = bytearray(plaintext)
        at = chance.randrange(len(changed))
        kind = number % 4
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            start = at // 512 * 512
            changed[start:start] = changed[start : start + 512 * chance.randrange(1, 5)]
        else:
            del changed[at : at + chance.randrange(1, 2000)]
        try:
            found = read(bytes(changed), tmp_path / str(number))
        except BackupDamagedError:
            refused += 1
            continue
        assert found == genuine, (number, at)
    assert refused > CHANGES * 0.4  # the rest hit what pads the files


@pytest.mark.parametrize(
    "files",
    [
        {**FILES, "keys/identity-hmac.v1": b"x" * 32},
        {**FILES, "receipts/more.json": b"{}"},
        {name: content for name, content in FILES.items() if not name.startswith("trust/")},
    ],
)
def test_files_other_than_those_that_the_ledger_recorded_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    swapped = stream_of(tmp_path / "b", files)

    with pytest.raises(BackupDamagedError) as refusal:
        read(swapped, tmp_path / "read")
    assert "those that the ledger names" in refusal.value.why


@given(st.binary(max_size=2000))
def test_what_is_no_manifest_is_refused_with_an_error_of_ours(untrusted: bytes) -> None:
    with pytest.raises(MediaError):
        Manifest.from_bytes(untrusted)


@given(
    counts=st.lists(st.integers(1, 10**6), min_size=1, max_size=5),
    names=st.lists(st.text("abcdefghij.-_0123456789", min_size=1, max_size=20), max_size=5, unique=True),
    digest=hexes,
    serial=st.integers(1, 10**6),
)
def test_a_manifest_reads_as_it_was_written(counts: list[int], names: list[str], digest: str, serial: int) -> None:
    firsts = [sum(counts[:index]) for index in range(len(counts))]
    manifest = Manifest(
        site="demo",
        environment="production",
        made_at=datetime(2026, 11, 20, tzinfo=UTC),
        serial=serial,
        origin="sealift/demo/0123abcd",
        size=sum(counts),
        root=digest,
        files=tuple(
            BackedUpFile(path=path, length=1, sha256=digest) for path in sorted(f"trust/a{name}" for name in names)
        ),
        parts=tuple(
            LedgerPart(path=part_name(first), length=1, sha256=digest, first=first, count=count)
            for first, count in zip(firsts, counts, strict=True)
        ),
        media=(NeededMedium(serial=serial, release="r", code=digest, payload_digest=digest),),
    )
    written = manifest.to_bytes()

    try:
        assert Manifest.from_bytes(written) == manifest
    except SealiftError:
        # The one thing the writer may not write: a name that climbs.
        assert any(".." in name for name in names)
