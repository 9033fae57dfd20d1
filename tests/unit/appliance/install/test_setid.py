"""Packages whose programs run with their owner's rights: named before anything changes, where none may be made."""

import os
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.errors import InstallError, PreflightError
from appliance.install import maintainer, setid
from appliance.install.maintainer import Package
from appliance.store.content import StoredRelease
from tests.support.debs import deb


@dataclass
class Stored:
    """A stored release of some packages."""

    debs: dict[str, Path]
    serial: int = 7
    hashed: list[str] = field(default_factory=list)

    def read(self, target: str, *, max_bytes: int) -> bytes:
        assert target == "data/debs/Packages"
        assert max_bytes > 1024
        return "\n\n".join(f"Package: {name}\nVersion: 1.0-1\nFilename: ./{name}.deb" for name in self.debs).encode()

    def verify(self, target: str) -> Path:
        self.hashed.append(target)
        return self.debs[target.removeprefix("data/debs/").removesuffix(".deb")]


def packages_of(stored: Stored) -> list[Package]:
    return [
        Package(name=name, before="", after="1.0-1", scripts=maintainer.scripts_of(path))
        for name, path in stored.debs.items()
    ]


@pytest.fixture
def _no_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse such modes as a unit with RestrictSUIDSGID= does."""
    real = os.fchmod

    def fchmod(descriptor: int, mode: int) -> None:
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise PermissionError
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)


def require(stored: Stored) -> None:
    setid.require_possible(packages_of(stored), cast("StoredRelease", cast("Any", stored)))


@pytest.mark.usefixtures("_no_such_files")
def test_each_package_that_brings_one_is_named_and_root_is_sent_to_the_console(tmp_path: Path) -> None:
    stored = Stored(
        {
            "plain": deb(tmp_path, "plain"),
            "program": deb(tmp_path, "program", is_setuid=True),
            "script": deb(tmp_path, "script", script="#!/bin/sh\nset -e\nchmod 2755 /usr/bin/script\n"),
        }
    )

    with pytest.raises(PreflightError, match=r"set-user-ID bit, in program, script$") as caught:
        require(stored)

    assert "sealift install 7 --here" in str(caught.value.fix)
    assert stored.hashed == ["data/debs/plain.deb", "data/debs/program.deb"]


@pytest.mark.usefixtures("_no_such_files")
def test_other_packages_go_on(tmp_path: Path) -> None:
    require(
        Stored({"plain": deb(tmp_path, "plain"), "other": deb(tmp_path, "other", script="#!/bin/sh\nchmod 0755 /x\n")})
    )


def test_where_such_files_may_be_made_nothing_is_read(tmp_path: Path) -> None:
    stored = Stored({"program": deb(tmp_path, "program", is_setuid=True)})

    require(stored)

    assert stored.hashed == []
    assert not setid.is_forbidden()


@pytest.mark.usefixtures("_no_such_files")
def test_a_package_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    stored = Stored({"plain": deb(tmp_path, "plain")})
    packages = packages_of(stored)
    content = stored.debs["plain"].read_bytes()
    stored.debs["plain"].write_bytes(content[: len(content) // 2])

    with pytest.raises(InstallError, match="cannot be read"):
        setid.require_possible(packages, cast("StoredRelease", cast("Any", stored)))


def test_a_folder_that_is_there_counts_for_nothing_and_a_new_one_does(tmp_path: Path) -> None:
    for name, expected in (("usr", False), ("nowhere-yet", True)):
        tree = deb(tmp_path / name, "folders").with_name("folders-tree")
        (tree / name).mkdir(exist_ok=True)
        (tree / name).chmod(0o2755)
        again = tmp_path / f"{name}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(again)]
        subprocess.run(command, check=True, capture_output=True)

        assert setid.has_such_files(again) is expected


@pytest.mark.parametrize(
    "line",
    [
        "chmod 4755 /usr/bin/x",
        "  chmod 02755 /usr/bin/x",
        "chmod u+s /usr/bin/x",
        "chmod g+rxs /var/x",
        "install -d -m 2750 /var/log/x",
        "dpkg-statoverride --update --add root messagebus 4754 /x",
        "chmod '4755' /usr/bin/x",
        'chmod "u+s" /usr/bin/x',
        "chmod o-w,g+s /var/x",
        "chmod 004755 /usr/bin/x",
        "mkdir --mode=2755 /var/x",
        "install -o root -m2750 x /usr/bin/x",
    ],
)
def test_a_script_that_sets_such_a_mode_is_seen(line: str) -> None:
    assert setid.sets_such_a_mode(f"#!/bin/sh\nset -e\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "chmod 0755 /usr/bin/x",
        "chmod 755 /x; mkdir -m 1777 /tmp/x",
        "chmod a+rx /usr/share",
        "# e.g. dpkg-statoverride --add root staff 2775 /usr/local",
        "chmod 640 /var/log/x # 4755",
        "install -m755 --mode='0644' x /usr/bin/x-2755x",
        "chmod 755 /x; YEAR=2755 /x",
        "echo 4755",
    ],
)
def test_other_modes_are_let_pass(line: str) -> None:
    assert not setid.sets_such_a_mode(f"#!/bin/sh\nset -e\n{line}\n")
