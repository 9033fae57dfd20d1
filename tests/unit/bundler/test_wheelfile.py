import stat
import zipfile
from pathlib import Path

import pytest

from bundler import wheelfile
from bundler.errors import ScanError
from tests.support.payload import wheel


def refused(path: Path) -> ScanError:
    with pytest.raises(ScanError) as caught:
        wheelfile.read(path)
    return caught.value


def with_member(path: Path, member: zipfile.ZipInfo, data: bytes = b"x") -> Path:
    """Add a member behind the back of RECORD."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, data)
    return path


def test_a_true_wheel_says_who_it_is(tmp_path: Path) -> None:
    path = wheel(tmp_path, "small-thing", "2.0", files={"small_thing/__init__.py": b"", "small_thing/a.txt": b"a"})

    facts = wheelfile.read(path)

    assert (facts.name, facts.version, facts.license) == ("small-thing", "2.0", "MIT")
    assert "small_thing/a.txt" in facts.members


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("License-Expression: Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
        ("License: BSD", "BSD"),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: " + "a long text " * 20 + "\nClassifier: License :: OSI Approved", ""),
        ("Summary: nothing about it", ""),
    ],
)
def test_the_licence_is_what_the_metadata_states(tmp_path: Path, line: str, found: str) -> None:
    assert wheelfile.read(wheel(tmp_path, "a", license_line=line)).license == found


@pytest.mark.parametrize(
    "name", ["a-1.0.tar.gz", "a.zip", "a-1.0-py3-none-any.whl.zip", "a-x-py3-none-any.whl", "a.whl"]
)
def test_only_wheels_travel(name: str) -> None:
    with pytest.raises(ScanError, match="not a wheel"):
        wheelfile.parse_name(name)


def test_a_member_that_record_does_not_list_is_refused(tmp_path: Path) -> None:
    path = with_member(wheel(tmp_path, "a"), zipfile.ZipInfo("a/extra.py"))

    assert "RECORD does not list a/extra.py" in refused(path).why


def test_a_member_that_is_not_there_is_refused(tmp_path: Path) -> None:
    record = "a/__init__.py,sha256=x,1\n"

    error = refused(wheel(tmp_path, "a", files={}, record=record))

    assert "RECORD" in error.why


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("a/__init__.py,sha256=AAAA,10\n", "another digest"),
        ("a/__init__.py,md5=AAAA,10\n", "no SHA-256"),
        ("a/__init__.py,,\n", "no SHA-256"),
        ("a/__init__.py\n", "three fields"),
        ("", "does not list"),
    ],
)
def test_a_record_that_is_not_the_truth_is_refused(tmp_path: Path, record: str, why: str) -> None:
    assert why in refused(wheel(tmp_path, "a", record=record)).why


@pytest.mark.parametrize(
    "member", ["../a.py", "/a.py", "a/../../b.py", "a//b.py", "a\\b.py", "c:/a.py", "a/\n.py", "./a.py"]
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, member: str) -> None:
    assert "unsafe path" in refused(wheel(tmp_path, "a", files={member: b""})).why


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("member", ["a/__init__.py", "A/__INIT__.py"])
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path, member: str) -> None:
    assert "there twice" in refused(with_member(wheel(tmp_path, "a"), zipfile.ZipInfo(member))).why


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_link_or_a_device_is_refused(tmp_path: Path, mode: int) -> None:
    member = zipfile.ZipInfo("a/link")
    member.external_attr = (mode | 0o644) << 16

    assert "a link, a device" in refused(with_member(wheel(tmp_path, "a"), member, b"/etc/shadow")).why


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("b-1.0.dist-info/METADATA", "dist-info folders"),
        ("a-1.0.data/bin/x", "does not have"),
        ("b-1.0.data/scripts/x", "does not have"),
        ("a-1.0.data/scripts", "does not have"),
        ("a-1.0.data/data/bin/python", "replace a program"),
        ("a-1.0.data/data/bin/Activate.ps1", "replace a program"),
        ("a-1.0.data/data/bin/deep/x", "the environment itself"),
        ("a-1.0.data/data/Bin/x", "the environment itself"),
        ("a-1.0.data/data/lib/x.py", "the environment itself"),
        ("a-1.0.data/data/lib/libpython3.11.so.1.0", "the environment itself"),
        ("a-1.0.data/data/lib/python3.11/libx.so", "the environment itself"),
        ("a-1.0.data/data/lib64/python3.11/site-packages/x.pth", "the environment itself"),
        ("a-1.0.data/data/pyvenv.cfg", "the environment itself"),
        ("a-1.0.data/scripts/python3", "replace a program"),
        ("a-1.0.data/scripts/pip", "replace a program"),
    ],
)
def test_what_would_land_on_the_environments_own_programs_is_refused(tmp_path: Path, member: str, why: str) -> None:
    assert why in refused(wheel(tmp_path, "a", files={"a.py": b"", member: b"#!python\n"})).why


def test_scripts_and_shared_files_of_its_own_are_a_wheels_right(tmp_path: Path) -> None:
    files = {
        "a-1.0.data/scripts/a-tool": b"#!python\n",
        "a-1.0.data/data/share/a.1": b"",
        "a-1.0.data/data/external/ffmpeg/readme.txt": b"",
        "a-1.0.data/data/bin/z3": b"\x7fELF",
        "a-1.0.data/data/lib/libiomp5.so": b"\x7fELF",
        "a-1.0.data/purelib/a.py": b"",
    }

    facts = wheelfile.read(wheel(tmp_path, "a", files=files))

    assert facts.is_script("a-1.0.data/scripts/a-tool")
    assert facts.is_script("a-1.0.data/data/bin/z3")
    assert not facts.is_script("a-1.0.data/data/external/ffmpeg/readme.txt")
    assert str(facts.installed("a-1.0.data/purelib/a.py")) == "a.py"
    assert facts.installed("a-1.0.data/data/share/a.1") is None


def test_metadata_of_another_package_is_refused(tmp_path: Path) -> None:
    assert "METADATA says b 1.0" in refused(wheel(tmp_path, "a", metadata_name="b")).why


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a-1.0-py3-none-any.whl"
    path.write_bytes(b"not a zip")

    assert "not a readable archive" in refused(path).why


def test_a_wheel_with_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", files={"a/__init__.py": b"VALUE = 1\n" * 9})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"VALUE = 1", b"VALUE = 2", 1))

    assert refused(path).why
