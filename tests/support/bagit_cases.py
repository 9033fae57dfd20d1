"""The cases of the Library of Congress's BagIt conformance suite, as changes to a genuine volume of ours.

The suite's own bags are BagIt in general: unsigned, with other digests. Here each case's one peculiarity is put into a
volume that is right in all else, and people sign the result, so that nothing but the peculiarity can be the reason.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from media import layout
from media.bagit import BAGIT_TXT
from media.digest import file_sha256
from tests.support.medium import SimulatedMedium

Shape = Callable[[Path], object]
README = "data/debs/Packages"
OTHER = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Args:
        name: Its place in the suite, or that of the newest version that has it.
        shape: Puts its peculiarity into a `release/` folder.
        codes: How our reader may end; 0 is accepted.
        rule: What it breaks, where the profile is narrower than RFC 8493.
        is_sealed: People sign the tag files as they are then; otherwise they had signed before.
    """

    name: str
    shape: Shape
    codes: frozenset[int]
    rule: str = ""
    is_sealed: bool = True

    def apply(self, medium: SimulatedMedium) -> None:
        """Put the case into a volume."""
        for volume in medium.volumes:
            self.shape(volume / layout.RELEASE)
            if self.is_sealed:
                seal(medium, volume / layout.RELEASE)


def seal(medium: SimulatedMedium, release: Path) -> None:
    """Write a tag manifest of whatever lies there, and have two people sign it."""
    files = sorted(path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file())
    tags = [name for name in files if not name.startswith((f"{layout.DATA}/", layout.TAG_MANIFEST))]
    manifest = "".join(f"{file_sha256(release / name)}  {name}\n" for name in tags).encode()
    (release / layout.TAG_MANIFEST).write_bytes(manifest)
    for person in ("alice", "bob"):
        (release / layout.signature_name(medium.fingerprint(person))).write_bytes(medium.sign_as(person, manifest))


def cases() -> Iterable[Case]:
    """Return all cases of version 1.0, and those of 0.97 that speak of more than digests."""
    yield from _accepted()
    yield from _invalid()
    yield from _narrower()
    yield from _warned()


def _accepted() -> Iterable[Case]:
    yield _case("v1.0/valid/basicBag", lambda _: None, 0)


def _invalid() -> Iterable[Case]:
    spaced = b"BagIt-Version : 1.0\nTag-File-Character-Encoding : UTF-8\n"
    yield _case("v1.0/invalid/bagit-with-invalid-whitespace", _declared(spaced), 10)
    yield _case("v1.0/invalid/notAllManifestsListAllFiles", _unlisted, 12)
    yield _case("v1.0/invalid/same-filename-listed-twice-with-different-hashes", _listed_twice(OTHER), 10)
    yield _case("v1.0/invalid/same-filename-listed-twice-with-the-same-hash", _listed_twice(""), 10)
    yield _case("v0.97/invalid/baginfo-missing-encoding", _declared(b"BagIt-Version: 1.0\n"), 10)
    yield _case("v0.97/invalid/bom-in-bagit.txt", _declared(b"\xef\xbb\xbf" + BAGIT_TXT), 10)
    yield _case("v0.97/invalid/corrupt-data-file", _corrupted(README), 15)
    yield _case("v0.97/invalid/corrupt-tag-file", _corrupted(layout.BAG_INFO), 15, is_sealed=False)
    yield _case("v0.97/invalid/extra-file-in-bag", _added("data/bar"), 12)
    yield _case("v0.97/invalid/invalid-version-number", _declared(BAGIT_TXT.replace(b"1.0", b".97")), 10)
    yield _case("v0.97/invalid/missing-baginfo", _removed(layout.BAG_INFO), 11)
    yield _case("v0.97/invalid/missing-bagit.txt", _removed(layout.BAGIT), 11)
    for name, path in (
        ("invalid/out-of-scope-file-paths-using-dot-notation", "../../../README.md"),
        ("linux-only/out-of-scope-file-paths-using-absolute-path", "/tmp/foo"),
        ("linux-only/out-of-scope-file-paths-using-shortcut", "~/foo"),
        ("linux-only/out-of-scope-file-paths-using-shortcut-username", "~root/foo"),
        ("windows-only/out-of-scope-file-paths-using-absolute-path", "C:\\Windows\\System32\\setx.exe"),
        ("windows-only/out-of-scope-file-paths-using-shortcut", "%HomeDrive%\\Windows\\System32\\setx.exe"),
        ("windows-only/out-of-scope-file-paths-using-unc", "\\\\?\\UNC\\server\\Windows\\System32\\setx.exe"),
    ):
        yield _case(f"v0.97/{name}", _listed(path), 13)
        yield _case(f"v0.97/{name}-for-fetch", _fetched(path), 12, rule="FMT-57")


def _narrower() -> Iterable[Case]:
    latin = BAGIT_TXT.replace(b"UTF-8", b"ISO-8859-1")
    wide = BAGIT_TXT.replace(b"UTF-8", b"UTF-16")
    yield _case("v0.97/valid/ISO-8859-1-encoded-tag-files", _declared(latin), 10, rule="FMT-50")
    yield _case("v0.97/valid/UTF-16-encoded-tag-files", _declared(wide), 10, rule="FMT-50")
    yield _case("v0.97/valid/bag-with-encoded-names", _renamed("data/%7Etest1.txt"), 13, rule="FMT-2")
    yield _case("v0.97/valid/bag-with-encoded-names (tilde)", _renamed("data/~test3.txt"), 13, rule="FMT-2")
    yield _case("v0.97/valid/bag-with-escapable-characters", _renamed("data/test file.txt"), 13, rule="FMT-2")
    yield _case("v0.97/valid/bag-with-space", _renamed("data/test 1.txt"), 13, rule="FMT-2")
    yield _case("v0.97/valid/bag-with-leading-dot-slash-in-manifest", _dotted, 13, rule="FMT-2")
    yield _case("v0.97/valid/duplicate-metadata-entries", _told("Sealift-Serial: 1\n"), 10, rule="FMT-54")
    yield _case("v0.97/valid/uncommon-metadata-separators", _told("Test-Tag : 3\n"), 10, rule="FMT-54")
    yield _case("v0.97/valid/holey-bag", _fetched(README), 12, rule="FMT-57")
    yield _case("v1.0/valid/basicBag (a second digest)", _second_digest, 12, rule="FMT-53")
    yield _case("v1.0/valid/basicBag (line ends of DOS)", _dos, 10, rule="FMT-51")


def _warned() -> Iterable[Case]:
    yield _case("v0.97/warning/duplicate-file-with-different-case", _listed("data/debs/packages"), 13, rule="FMT-4")
    yield _case("v0.97/warning/made-with-md5sum-tools", _starred, 10, rule="FMT-51")
    yield _case("v0.97/warning/relative-path", _dotted, 13, rule="FMT-2")
    same = _renamed("data/N\u00fa\u00f1ez")
    yield _case("v0.97/warning/same-filename-listed-twice-with-different-normalization", same, 13, rule="FMT-2")
    for name in ("Thumbs.db", ".DS_Store"):
        yield _case(f"v0.97/warning/special-system-files ({name})", _added(f"data/{name}"), 12, rule="FMT-12")


def _case(name: str, shape: Shape, code: int, *, rule: str = "", is_sealed: bool = True) -> Case:
    return Case(name=name, shape=shape, codes=frozenset({code}), rule=rule, is_sealed=is_sealed)


def _declared(content: bytes) -> Shape:
    return lambda release: (release / layout.BAGIT).write_bytes(content)


def _corrupted(name: str) -> Shape:
    def shape(release: Path) -> None:
        content = (release / name).read_bytes()
        (release / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])

    return shape


def _added(name: str) -> Shape:
    return lambda release: (release / name).write_bytes(b"")


def _removed(name: str) -> Shape:
    return lambda release: (release / name).unlink()


def _rewritten(release: Path, change: Callable[[list[str]], object], *, end: str = "\n") -> None:
    """Change the lines of the payload manifest, sorted as they were."""
    path = release / layout.MANIFEST
    lines = path.read_text("utf-8").splitlines()
    change(lines)
    path.write_bytes("".join(f"{line}{end}" for line in sorted(lines, key=lambda line: line[66:])).encode())


def _unlisted(release: Path) -> None:
    _rewritten(release, lambda lines: lines.remove(_line_of(lines, README)))


def _listed(path: str) -> Shape:
    return lambda release: _rewritten(release, lambda lines: lines.append(f"{OTHER}  {path}"))


def _listed_twice(digest: str) -> Shape:
    def shape(release: Path) -> None:
        _rewritten(release, lambda lines: lines.append((digest or _line_of(lines, README)[:64]) + f"  {README}"))

    return shape


def _renamed(path: str) -> Shape:
    """Give a file another name, on the volume and in the manifest alike."""

    def shape(release: Path) -> None:
        (release / README).rename(release / path)
        _rewritten(release, lambda lines: lines.append(lines.pop(lines.index(_line_of(lines, README)))[:66] + path))

    return shape


def _dotted(release: Path) -> None:
    _rewritten(release, lambda lines: lines.append(lines.pop().replace("  data/", "  ./data/")))


def _starred(release: Path) -> None:
    _rewritten(release, lambda lines: lines.append(lines.pop().replace("  data/", " *data/")))


def _dos(release: Path) -> None:
    _rewritten(release, lambda _: None, end="\r\n")


def _told(line: str) -> Shape:
    def shape(release: Path) -> None:
        path = release / layout.BAG_INFO
        path.write_bytes(path.read_bytes() + line.encode())

    return shape


def _fetched(path: str) -> Shape:
    """Say where a file is to be fetched from, so that it need not be there."""
    return lambda release: (release / "fetch.txt").write_text(f"https://localhost:8989/x - {path}\n", "utf-8")


def _second_digest(release: Path) -> None:
    names = [line[66:] for line in (release / layout.MANIFEST).read_text("ascii").splitlines()]
    (release / "manifest-sha512.txt").write_text("".join(f"{'0' * 128}  {name}\n" for name in names), "ascii")


def _line_of(lines: list[str], path: str) -> str:
    return next(line for line in lines if line[66:] == path)
