from pathlib import Path

from bundler.scan import Finding, scan
from tests.support.payload import artifact, wheel


def listed(folder: Path, files: dict[str, bytes], *, license_name: str = "MIT") -> dict[str, Finding]:
    stated = f"License-Expression: {license_name}"
    made = wheel(folder, "a", files={"a/__init__.py": b"", **files}, license_line=stated)
    return {each.rule: each for each in scan([artifact(made)]).findings}


def test_the_programs_that_a_wheel_installs_are_listed(tmp_path: Path) -> None:
    points = b"[console_scripts]\ntool = a:main\n\n[other]\nnot-a-program = a:x\n[gui_scripts]\nwindow=a:win [extra]\n"
    files = {"a-1.0.dist-info/entry_points.txt": points, "a-1.0.data/scripts/old": b"#!python\n"}

    assert listed(tmp_path, files)["programs"].detail == "it installs old, tool, window"


def test_native_libraries_are_listed(tmp_path: Path) -> None:
    found = listed(tmp_path, {"a/x.so": b"\x7fELF", "a.libs/libz.so.1.2": b"\x7fELF", "a/y.dll": b"MZ", "a/so.py": b""})

    assert found["native-code"].detail == "3 libraries: libz.so.1.2, x.so, y.dll"


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    found = listed(tmp_path, {f"a/{number:02}.so": b"\x7fELF" for number in range(20)})

    assert found["native-code"].detail.endswith("11.so and 8 more")


def test_a_licence_that_obliges_is_listed(tmp_path: Path) -> None:
    found = listed(tmp_path, {}, license_name="GPL-3.0-only")

    assert found["license-terms"].detail == "GPL-3.0-only: see what it obliges to"
    assert listed(tmp_path / "2", {}) == {}
