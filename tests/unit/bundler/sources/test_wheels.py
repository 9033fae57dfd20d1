import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.cache import Cache
from bundler.errors import ScanError, SourceError
from bundler.sources import wheels
from bundler.sources.wheels import Locked, parse_lock
from bundler.target import Target, WheelTarget
from bundler.toolchain import Toolchain
from tests.support.payload import locked, sha256, wheel

TARGET = Target(profile="box")
HASH = "--hash=sha256:" + "a" * 64


def no_fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
    del target, folder
    raise AssertionError(requirements)


def fetch_from(*files: Path) -> wheels.Fetch:
    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        del requirements, target
        for file in files:
            shutil.copy(file, folder)

    return fetch


def obtained(
    packages: tuple[Locked, ...],
    cache: Cache,
    fetch: wheels.Fetch,
    built: dict[str, Callable[[Locked], Path]] | None = None,
) -> tuple[wheels.ChosenWheel, ...]:
    return wheels.obtain(packages, TARGET, cache=cache, fetch=fetch, built=built or {})


def test_a_lock_is_read_with_its_comments_markers_and_hashes() -> None:
    text = (
        f"# made by a tool\nAlpha_Beta==1.0 ; python_version < '4' \\\n    {HASH} \\\n    --hash=sha256:{'b' * 64}\n"
        f"    # via\n    #   other\ngamma[extra]==2.0 {HASH}\n"
    )

    found = parse_lock(text, label="x.txt")

    assert [(item.name, item.version, len(item.hashes)) for item in found] == [
        ("alpha-beta", "1.0", 2),
        ("gamma", "2.0", 1),
    ]
    assert found[0].marker is not None


@pytest.mark.parametrize(
    "line",
    [
        "alpha==1.0",
        "alpha>=1.0 " + HASH,
        f"alpha {HASH}",
        "alpha==1.0 --hash=md5:00",
        f"-e . {HASH}",
        f"a @ file:///x {HASH}",
    ],
)
def test_a_lock_without_exact_versions_and_hashes_is_refused(line: str) -> None:
    with pytest.raises(SourceError, match=r"lock x\.txt cannot be used"):
        parse_lock(line, label="x.txt")


@pytest.mark.parametrize(
    ("marker", "is_needed"),
    [
        ("sys_platform == 'win32'", False),
        ("sys_platform == 'linux'", True),
        ("python_full_version < '3.12'", True),
        ("python_full_version >= '3.12'", False),
        ("implementation_name != 'PyPy'", True),
        ("platform_machine == 'aarch64'", False),
    ],
)
def test_markers_are_judged_for_the_target(marker: str, is_needed: bool) -> None:  # noqa: FBT001
    package = parse_lock(f"alpha==1.0 ; {marker} {HASH}", label="x")

    assert bool(wheels.needed(package, TARGET, label="x")) is is_needed


def test_a_marker_that_hangs_on_the_patch_release_is_refused() -> None:
    package = parse_lock(f"alpha==1.0 ; python_full_version < '3.11.4' {HASH}", label="x")

    with pytest.raises(SourceError) as caught:
        wheels.needed(package, TARGET, label="x")

    assert "patch release" in caught.value.why


def test_two_versions_of_one_package_are_refused() -> None:
    package = parse_lock(f"alpha==1.0 {HASH}\nalpha==2.0 {HASH}", label="x")

    with pytest.raises(SourceError):
        wheels.needed(package, TARGET, label="x")


def test_the_targets_glibc_decides_which_wheels_fit() -> None:
    names = wheels.target_platforms(Target(profile="old", glibc="2.17"))

    assert names[0] == "manylinux_2_17_x86_64"
    assert "manylinux2014_x86_64" in names
    assert "manylinux_2_28_x86_64" not in names
    assert names[-1] == "linux_x86_64"


def test_a_wheel_is_fetched_once_and_then_comes_from_the_cache(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path / "cache")
    file = wheel(tmp_path / "index", "alpha")
    packages = parse_lock(locked(file), label="x")

    first = obtained(packages, cache, fetch_from(file))
    second = obtained(packages, cache, no_fetch)

    assert first == second
    assert first[0].requirement == f"alpha==1.0 --hash=sha256:{sha256(file)}"


def test_a_wheel_swapped_after_the_lock_fails_the_build(tmp_path: Path) -> None:
    """B1: an index serves another wheel of the same name and version than the one that was locked."""
    packages = parse_lock(locked(wheel(tmp_path / "true", "alpha")), label="x")
    swapped = wheel(tmp_path / "evil", "alpha", files={"alpha/__init__.py": b"import os\n"})

    with pytest.raises(SourceError) as caught:
        obtained(packages, Cache(root=tmp_path / "cache"), fetch_from(swapped))

    assert "is not in the lock" in caught.value.why


def test_a_cached_wheel_that_was_changed_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path / "cache")
    file = wheel(tmp_path / "index", "alpha")
    packages = parse_lock(locked(file), label="x")
    kept = obtained(packages, cache, fetch_from(file))[0].file
    kept.chmod(0o644)
    kept.write_bytes(b"changed")

    assert obtained(packages, cache, fetch_from(file))[0].file.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "tag", ["cp312-cp312-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_39_x86_64", "cp311-cp311-win_amd64"]
)
def test_a_wheel_for_another_machine_is_refused(tmp_path: Path, tag: str) -> None:
    file = wheel(tmp_path, "alpha", tag=tag)

    with pytest.raises(SourceError) as caught:
        obtained(parse_lock(locked(file), label="x"), Cache(root=tmp_path / "cache"), fetch_from(file))

    assert "does not run on Python 3.11" in caught.value.why


def test_a_source_distribution_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alpha-1.0.tar.gz").write_bytes(b"x")

    with pytest.raises(ScanError, match="not a wheel"):
        obtained(
            parse_lock(f"alpha==1.0 {HASH}", label="x"),
            Cache(root=tmp_path / "cache"),
            fetch_from(tmp_path / "alpha-1.0.tar.gz"),
        )


def test_a_wheel_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no wheel of alpha 1\.0"):
        obtained(parse_lock(f"alpha==1.0 {HASH}", label="x"), Cache(root=tmp_path / "cache"), fetch_from())


def test_another_version_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    file = wheel(tmp_path, "alpha", "2.0")

    with pytest.raises(SourceError) as caught:
        obtained(parse_lock(f"alpha==1.0 {HASH}", label="x"), Cache(root=tmp_path / "cache"), fetch_from(file))

    assert "the file is alpha 2.0" in caught.value.why


def test_a_package_that_is_built_here_is_not_fetched(tmp_path: Path) -> None:
    file = wheel(tmp_path, "alpha", tag="py3-none-linux_x86_64")
    packages = parse_lock(f"alpha==1.0 {HASH}", label="x")

    chosen = obtained(packages, Cache(root=tmp_path / "cache"), no_fetch, built={"alpha": lambda _: file})

    assert chosen[0].sha256 == sha256(file)


def test_pip_is_asked_for_the_targets_wheels_by_hash_and_for_nothing_else(tmp_path: Path) -> None:
    """A pip of the test's own stands for the real one: it keeps its arguments and leaves a wheel."""
    file = wheel(tmp_path / "index", "alpha")
    python = tmp_path / "tools" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!{sys.executable}\nimport pathlib, shutil, sys\n"
        f"pathlib.Path({str(tmp_path / 'asked')!r}).write_text('\\n'.join(sys.argv))\n"
        f"shutil.copy({str(file)!r}, sys.argv[sys.argv.index('-d') + 1])\n"
    )
    python.chmod(0o755)
    fetch = wheels.pip_fetch(Toolchain(folder=tmp_path / "tools", lock_sha256=""))

    chosen = obtained(parse_lock(locked(file), label="x"), Cache(root=tmp_path / "cache"), fetch)

    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(asked)
    assert asked[asked.index("--python-version") + 1] == "3.11"
    assert asked[asked.index("--platform") + 1] == "manylinux_2_36_x86_64"
    assert chosen[0].file.read_bytes() == file.read_bytes()
