import hashlib
from pathlib import Path

import pytest

from bundler.cache import Cache, default_root
from bundler.errors import SourceError

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def filled(root: Path) -> tuple[Cache, Path]:
    cache = Cache(root=root / "cache")
    (root / "download").write_bytes(CONTENT)
    return cache, cache.add(root / "download", sha256=DIGEST, name="w.gguf")


def test_a_file_is_found_by_its_digest_under_its_name_and_read_only(tmp_path: Path) -> None:
    cache, kept = filled(tmp_path)

    assert cache.find(DIGEST) == kept
    assert (kept.name, kept.read_bytes(), kept.stat().st_mode & 0o777) == ("w.gguf", CONTENT, 0o444)
    assert not (tmp_path / "download").exists()


def test_a_file_that_is_not_what_was_pinned_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path / "cache")
    (tmp_path / "download").write_bytes(b"something else")

    with pytest.raises(SourceError, match="not the file that was pinned"):
        cache.add(tmp_path / "download", sha256=DIGEST, name="w.gguf")

    assert cache.find(DIGEST) is None


def test_a_cached_file_that_changed_is_dropped_not_believed(tmp_path: Path) -> None:
    cache, kept = filled(tmp_path)
    kept.chmod(0o644)
    kept.write_bytes(b"Weights")

    assert cache.find(DIGEST) is None
    assert not kept.exists()


def test_what_was_never_added_is_not_there(tmp_path: Path) -> None:
    assert Cache(root=tmp_path).find("0" * 64) is None


def test_a_remembered_value_comes_back_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path)
    cache.remember("resolved", "k", {"name": "a"})

    assert cache.recall("resolved", "k") == {"name": "a"}
    (tmp_path / "resolved" / "k.json").write_text("{")
    assert cache.recall("resolved", "k") is None
    assert cache.recall("resolved", "other") is None


def test_the_cache_lies_outside_every_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "sealift"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "sealift"
