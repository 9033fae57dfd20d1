"""What of llama.cpp's source is changed before it is built: all of it, or the build ends."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from bundler.errors import BuildError, SourceError
from bundler.sources import llama_source
from tests.support.llama_source import PATCHED, archive, before


def test_the_patch_is_applied_and_what_it_includes_lies_beside_it(tmp_path: Path) -> None:
    source = llama_source.unpacked(archive(tmp_path), tmp_path / "unpacked")

    llama_source.change(source)

    changed = source / llama_source.LLAMA_CPP / PATCHED
    assert "x16::product<x16::q8_0>" in changed.read_text()
    assert "namespace ggml::cpu::repack::x16" in (changed.parent / "repack_x16.h").read_text()
    assert sorted(path.name for path in source.iterdir()) == ["vendor"]


def test_a_source_that_the_patch_does_not_fit_in_every_line_is_left_as_it_was(tmp_path: Path) -> None:
    lacking = "repack<block_iq4_nl, 4, 4>"
    source = llama_source.unpacked(archive(tmp_path, changed=lacking), tmp_path / "unpacked")

    with pytest.raises(BuildError, match="processors without AMX") as caught:
        llama_source.change(source)

    assert "release of Sealift" in caught.value.fix
    folder = (source / llama_source.LLAMA_CPP / PATCHED).parent
    assert (folder / "repack.cpp").read_bytes() == before(changed=lacking)
    assert sorted(path.name for path in folder.iterdir()) == ["repack.cpp"]


def test_an_archive_that_is_none_or_laid_out_otherwise_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")

    with pytest.raises(SourceError, match="cannot be unpacked"):
        llama_source.unpacked(broken, tmp_path / "first")
    with pytest.raises(SourceError, match="not laid out as expected"):
        llama_source.unpacked(archive(tmp_path, names=("LICENSE",)), tmp_path / "second")


def test_what_is_changed_is_told_by_digests() -> None:
    told = llama_source.changes()

    assert sorted(told) == ["header", "patch"]
    assert all(len(digest) == 16 for digest in told.values())


def _holding(folder: Path, *members: tarfile.TarInfo) -> Path:
    held = folder / "held.tar.gz"
    with tarfile.open(held, "w:gz") as made:
        for member in members:
            made.addfile(member, io.BytesIO(b""))
    return held


@pytest.mark.parametrize("has_filters", [True, False])
def test_a_python_without_filters_unpacks_the_same_and_refuses_the_same(
    *, has_filters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's own Python is 3.11.2; filters came with 3.11.4."""
    if not has_filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        monkeypatch.setattr(tarfile.TarFile, "extractall", _of_3_11_2(tarfile.TarFile.extractall))

    source = llama_source.unpacked(archive(tmp_path), tmp_path / "unpacked")

    assert (source / llama_source.LLAMA_CPP / "LICENSE").is_file()
    link = tarfile.TarInfo("a/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for name, member in (("above", tarfile.TarInfo("../above")), ("link", link)):
        with pytest.raises(SourceError, match="cannot be unpacked"):
            llama_source.unpacked(_holding(tmp_path, member), tmp_path / name)
    assert not (tmp_path / "above").is_file()


def _of_3_11_2(now: Callable[..., None]) -> Callable[..., None]:
    def extractall(opened: tarfile.TarFile, path: Path, members: Iterable[tarfile.TarInfo] | None = None) -> None:
        now(opened, path, members)

    return extractall
