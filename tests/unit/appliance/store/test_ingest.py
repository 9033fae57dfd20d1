"""A whole release into the store: resumed, reused, refused, and never half visible."""

import os
from pathlib import Path
from typing import Any

import pytest

from appliance.store import ingest as module
from appliance.store.content import ContentStore, StoredRelease
from appliance.store.incoming import discard, publish
from media import canonical, layout
from media.digest import sha256_hex
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import copy_here


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def done(medium: SimulatedMedium, store: ContentStore, **changes: Any) -> dict[str, Any]:
    code, lines = copy_here(medium, store.root, **changes)
    assert code == 0, lines[-1]
    return lines[-1]


def test_nothing_is_a_release_before_it_is_published(medium: SimulatedMedium, store: ContentStore) -> None:
    done(medium, store)
    assert store.releases() == ()

    publish(store, code=medium.code, serial=1)

    (release,) = store.releases()
    assert (release.release, release.serial, release.code) == ("demo-1", 1, medium.code)
    assert {path: release.read(path) for path in release.files} == medium.payload
    assert list(store.incoming.iterdir()) == []


def test_publishing_again_changes_nothing(medium: SimulatedMedium, store: ContentStore) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)

    publish(store, code=medium.code, serial=1)

    assert len(store.releases()) == 1


def test_a_stored_release_keeps_all_that_is_needed_to_verify_it_again(
    medium: SimulatedMedium, store: ContentStore
) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)
    folder = StoredRelease.load(store, 1).folder

    for name in ("metadata/1.root.json", "metadata/timestamp.json", "attest/sbom.dsse.json", "check/VERIFY.txt"):
        assert (folder / name).read_bytes() == medium.path(name).read_bytes()
    for number in (1, 2):
        kept = folder / "volumes" / str(number)
        assert sha256_hex((kept / layout.TAG_MANIFEST).read_bytes())
        assert len(list(kept.glob("*.sig"))) == 2
        assert len(list((folder / "custody" / str(number)).iterdir())) == 1


def test_an_interrupted_receive_reads_only_what_is_not_there_yet(
    medium: SimulatedMedium, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(medium, store)

    again = done(medium, store)

    # Three names share one content: the second and third are read on every receive.
    shared = medium.payload["data/server/requirements-server.txt"]
    assert (again["read_bytes"], again["written_bytes"]) == (2 * len(shared), 0)
    assert again["resumed_files"] == len(medium.payload) - 2


@pytest.mark.parametrize("name", ["server", "host", "engine-llama-cpp"])
def test_files_of_equal_content_are_each_proven_also_after_an_interruption(
    medium: SimulatedMedium, store: ContentStore, name: str
) -> None:
    medium.flip_bit(f"data/server/requirements-{name}.txt")
    assert copy_here(medium, store.root)[0] == 15

    if name != "engine-llama-cpp":  # the first by name is in quarantine, proven
        assert copy_here(medium, store.root)[0] == 15


def test_full_proves_everything_again(medium: SimulatedMedium, store: ContentStore) -> None:
    done(medium, store)

    again = done(medium, store, full=True)

    assert again["read_bytes"] == sum(map(len, medium.payload.values()))
    assert again["resumed_files"] == 0


def test_what_an_earlier_release_brought_is_proven_on_both_sides_and_not_written_again(
    tmp_path: Path, store: ContentStore, medium: SimulatedMedium
) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)
    next_medium = make_medium(tmp_path / "n", serial=2, files={**tiny_payload(), "data/evals/new.jsonl": b"{}\n"})

    facts = done(next_medium, store)

    assert facts["written_bytes"] == 3
    assert facts["read_bytes"] == sum(map(len, next_medium.payload.values()))


def test_a_damaged_object_of_an_earlier_release_is_replaced_by_the_mediums_bytes(
    medium: SimulatedMedium, store: ContentStore
) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)
    release = StoredRelease.load(store, 1)
    place = release.path_of("data/models/tiny/tiny.gguf")
    place.chmod(0o644)
    place.write_bytes(b"\0" * place.stat().st_size)

    done(medium, store)

    assert release.read("data/models/tiny/tiny.gguf") == medium.payload["data/models/tiny/tiny.gguf"]


def test_a_refused_release_leaves_objects_alone_and_waits_in_quarantine(
    medium: SimulatedMedium, store: ContentStore
) -> None:
    good = medium.path("data/models/tiny/tiny.gguf").read_bytes()
    medium.flip_bit("data/models/tiny/tiny.gguf")

    code, lines = copy_here(medium, store.root)

    assert code == 15
    assert "volume 2 (volume folder 2): release/data/models/tiny/tiny.gguf" in lines[-1]["error"]["what"]
    assert list(store.objects.iterdir()) == []
    assert [path.name for path in store.quarantine.iterdir()] == [medium.code[:12]]
    assert list(store.incoming.iterdir()) == []

    medium.replace("data/models/tiny/tiny.gguf", good)
    facts = done(medium, store)
    assert facts["read_bytes"] < sum(map(len, medium.payload.values()))
    assert list(store.quarantine.iterdir()) == []


def test_a_medium_that_cannot_be_read_keeps_what_is_stored_for_the_next_try(
    medium: SimulatedMedium, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv

    def failing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "tiny.gguf":
            raise OSError(5, "Input/output error")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr("appliance.store.opened.os.preadv", failing)
    code, lines = copy_here(medium, store.root)
    monkeypatch.undo()

    assert code == 18
    assert "tiny.gguf" in lines[-1]["error"]["what"]
    assert list(store.quarantine.iterdir()) == []
    assert done(medium, store)["resumed_files"] > 0


def test_room_is_asked_for_before_the_first_byte_with_both_numbers(
    medium: SimulatedMedium, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SPARE_BYTES", 2**60)

    code, lines = copy_here(medium, store.root)

    assert code == 30
    assert str(2**60 + sum(map(len, set(medium.payload.values())))) in lines[-1]["error"]["why"]
    assert "are free" in lines[-1]["error"]["why"]


def test_a_release_that_was_signed_anew_takes_the_place_of_the_older_signatures(
    tmp_path: Path, medium: SimulatedMedium, store: ContentStore
) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)
    again = make_medium(tmp_path / "again", issue=1)

    done(again, store)
    publish(store, code=again.code, serial=1)

    release = StoredRelease.load(store, 1)
    assert release.code == again.code != medium.code
    assert release.facts["timestamp_version"] == 1001
    assert list(store.incoming.iterdir()) == []


def test_a_power_cut_between_the_two_renames_of_a_publication_loses_nothing(
    tmp_path: Path, medium: SimulatedMedium, store: ContentStore
) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)
    again = make_medium(tmp_path / "again", issue=1)
    done(again, store)
    folder = store.incoming / again.code[:12]
    store.release_folder(1).rename(folder / "replaced")

    publish(store, code=again.code, serial=1)

    assert StoredRelease.load(store, 1).code == again.code


def test_what_is_discarded_is_gone(medium: SimulatedMedium, store: ContentStore) -> None:
    done(medium, store)

    discard(store, code=medium.code)

    assert list(store.incoming.iterdir()) == []


def test_a_file_cut_over_two_volumes_is_one_object(tmp_path: Path, store: ContentStore) -> None:
    weights = bytes(4096) * (layout.BLOCK_BYTES // 4096) + b"tail"
    medium = make_medium(tmp_path / "big", files=tiny_payload(weights=weights), cut=True)
    done(medium, store)
    publish(store, code=medium.code, serial=1)

    release = StoredRelease.load(store, 1)

    assert release.verify("data/models/tiny/tiny.gguf").stat().st_size == len(weights)


def test_the_stores_record_is_canonical(medium: SimulatedMedium, store: ContentStore) -> None:
    done(medium, store)
    publish(store, code=medium.code, serial=1)

    assert canonical.loads_canonical((store.release_folder(1) / "release.json").read_bytes())["format"] == 1
