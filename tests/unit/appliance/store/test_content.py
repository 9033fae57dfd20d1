from pathlib import Path
from typing import Any

import pytest

from appliance.errors import StoreBusyError, StoreDamagedError, StoreWriteError, UnknownReleaseError
from appliance.store.content import ContentStore, StoredRelease
from media import canonical
from media.digest import sha256_hex

FILES = {"data/release.json": b'{"format":1,"models":[]}', "data/wheels/a.whl": b"wheel", "data/empty": b""}


def stored(root: Path, serial: int = 3, **changes: Any) -> StoredRelease:
    store = ContentStore(root)
    store.prepare()
    for content in FILES.values():
        place = store.object_path(sha256_hex(content))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o444)
    files = {
        path: {"kind": "wheel", "length": len(content), "sha256": sha256_hex(content)}
        for path, content in FILES.items()
    }
    facts = {"format": 1, "release": "r", "serial": serial, "code": "ab" * 32, "payload_digest": "cd" * 32}
    folder = store.release_folder(serial)
    folder.mkdir()
    (folder / "release.json").write_bytes(canonical.dumps({**facts, "files": files, **changes}))
    return StoredRelease.load(store, serial)


def test_a_release_names_its_files_and_where_they_lie(tmp_path: Path) -> None:
    release = stored(tmp_path)

    assert release.path_of("data/wheels/a.whl").read_bytes() == b"wheel"
    assert release.read("data/wheels/a.whl") == b"wheel"
    assert release.contents() == {"format": 1, "models": []}
    assert release.files["data/empty"].length == 0


def test_releases_are_listed_by_serial_as_numbers(tmp_path: Path) -> None:
    for serial in (10, 9, 100):
        stored(tmp_path, serial)
    (tmp_path / "releases/not-a-release").mkdir()

    assert [release.serial for release in ContentStore(tmp_path).releases()] == [9, 10, 100]


def test_an_empty_store_has_no_releases(tmp_path: Path) -> None:
    assert ContentStore(tmp_path / "none").releases() == ()

    with pytest.raises(UnknownReleaseError):
        StoredRelease.load(ContentStore(tmp_path), 1)


def test_a_file_that_a_release_does_not_have_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownReleaseError, match="has no file"):
        stored(tmp_path).path_of("data/other")


def test_a_damaged_object_is_not_handed_out(tmp_path: Path) -> None:
    release = stored(tmp_path)
    place = release.path_of("data/wheels/a.whl")
    place.chmod(0o644)
    place.write_bytes(b"Wheel")

    for use in (release.read, release.verify):
        with pytest.raises(StoreDamagedError):
            use("data/wheels/a.whl")
    with pytest.raises(StoreDamagedError):
        release.export_tree(tmp_path / "out")


def test_a_lost_object_is_damage(tmp_path: Path) -> None:
    release = stored(tmp_path)
    release.path_of("data/wheels/a.whl").unlink()

    with pytest.raises(StoreDamagedError):
        release.verify("data/wheels/a.whl")
    assert not release.store.holds(sha256_hex(b"wheel"), 5)


def test_files_are_laid_out_under_their_own_names(tmp_path: Path) -> None:
    release = stored(tmp_path)

    release.export_tree(tmp_path / "out")
    wheels = release.export_tree(tmp_path / "wheels", below="data/wheels/")

    assert {path: (tmp_path / "out" / path).read_bytes() for path in FILES} == FILES
    assert wheels == [tmp_path / "wheels/data/wheels/a.whl"]
    assert release.export_tree(tmp_path / "wheels", below="data/wheels/") == wheels


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"files":[]}', b'{"files":{"a":{}}}'])
def test_a_damaged_record_is_damage(tmp_path: Path, damage: bytes) -> None:
    release = stored(tmp_path)
    (release.folder / "release.json").write_bytes(damage)

    with pytest.raises(StoreDamagedError):
        StoredRelease.load(release.store, 3)


def test_two_receives_exclude_each_other(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with store.locked() as descriptor:
        with pytest.raises(StoreBusyError), store.locked():
            pass
        with ContentStore(tmp_path).locked(descriptor=descriptor) as inherited:
            assert inherited == descriptor
    with store.locked():
        pass


def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreWriteError), ContentStore(tmp_path / "file").locked():
        pass


def test_a_damaged_record_stops_no_other_release(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    for serial in (1, 2):
        folder = store.release_folder(serial)
        folder.mkdir(parents=True)
        facts: dict[str, object] = {
            "serial": serial,
            "release": f"r{serial}",
            "code": "a" * 64,
            "payload_digest": "b" * 64,
            "files": {},
        }
        (folder / "release.json").write_bytes(canonical.dumps(facts))
    (store.release_folder(1) / "release.json").write_bytes(b'{"serial":1,')

    assert [stored.serial for stored in store.releases()] == [2]
    assert store.serials() == (1, 2)
    (store.release_folder(1) / "release.json").unlink()
    (store.release_folder(1) / "release.json").mkdir()  # as a sector that the disk does not give back
    assert [stored.serial for stored in store.releases()] == [2]


def test_a_disk_that_does_not_give_the_list_back_is_damage(tmp_path: Path) -> None:
    (tmp_path / "releases").write_bytes(b"")

    with pytest.raises(StoreDamagedError, match="list of releases"):
        ContentStore(tmp_path).releases()
