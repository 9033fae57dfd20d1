import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.cache import Cache
from bundler.errors import ScanError, SourceError
from bundler.sources import wheeloffers, wheels
from bundler.sources.wheels import Locked, parse_lock
from bundler.target import Target, WheelTarget
from bundler.targettags import target_platforms
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
    names = target_platforms(Target(profile="old", glibc="2.17"))

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
    ("tag", "said"),
    [
        ("cp312-cp312-manylinux_2_17_x86_64", "is for cp312"),
        ("cp311-cp311-manylinux_2_39_x86_64", "needs glibc 2.39"),
        ("cp311-cp311-musllinux_1_2_x86_64", "is for musl"),
        ("cp311-cp311-win_amd64", "is for win_amd64"),
        ("cp311-cp311t-manylinux_2_17_x86_64", "is for the ABI cp311t"),
    ],
)
def test_a_wheel_for_another_machine_is_refused_by_the_part_that_differs(tmp_path: Path, tag: str, said: str) -> None:
    file = wheel(tmp_path, "alpha", tag=tag)

    with pytest.raises(SourceError) as caught:
        obtained(parse_lock(locked(file), label="x"), Cache(root=tmp_path / "cache"), fetch_from(file))

    assert said in caught.value.why


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


def index(folder: Path, *files: Path, yanked: str | None = None) -> str:
    """Lay out a package index of these files and return its address."""
    for file in files:
        name = file.name.split("-")[0]
        place = folder / "simple" / name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
        mark = "" if yanked is None else f' data-yanked="{yanked}"'
        with (place / "index.html").open("a") as page:
            page.write(f'<a href="{file.name}#sha256={sha256(file)}"{mark}>{file.name}</a><br>\n')
    return (folder / "simple").as_uri()


def pip_from(address: str, monkeypatch: pytest.MonkeyPatch) -> wheels.Fetch:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", address)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return wheels.pip_fetch(Toolchain(folder=Path(sys.prefix), lock_sha256=""))


def test_what_was_offered_in_the_place_of_a_missing_wheel_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = wheel(tmp_path, "alpha", tag="cp311-cp311-manylinux_2_39_x86_64")
    other = wheel(tmp_path, "alpha", tag="cp312-cp312-manylinux_2_17_x86_64")
    source = tmp_path / "alpha-1.0.tar.gz"
    source.write_bytes(b"x")
    fetch = pip_from(index(tmp_path / "index", newer, other, source), monkeypatch)

    with pytest.raises(SourceError) as caught:
        obtained(parse_lock(locked(newer), label="x"), Cache(root=tmp_path / "cache"), fetch)

    assert caught.value.what == "alpha 1.0 has no wheel for Python 3.11 on linux_x86_64 with glibc 2.36"
    assert f"{newer.name} needs glibc 2.39" in caught.value.why
    assert f"{other.name} is for cp312" in caught.value.why
    assert "alpha-1.0.tar.gz is a source archive" in caught.value.why
    assert str(tmp_path) not in caught.value.why


def test_a_yanked_wheel_is_refused_with_its_publishers_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = wheel(tmp_path, "alpha")
    packages = parse_lock(locked(file), label="x")
    good = pip_from(index(tmp_path / "good", file), monkeypatch)
    assert obtained(packages, Cache(root=tmp_path / "one"), good)[0].sha256 == sha256(file)

    bad = pip_from(index(tmp_path / "bad", file, yanked="loses data"), monkeypatch)
    with pytest.raises(SourceError) as caught:
        obtained(packages, Cache(root=tmp_path / "two"), bad)

    assert "alpha 1.0 was withdrawn" in caught.value.what
    assert "loses data" in caught.value.why


def test_two_files_of_one_package_are_refused(tmp_path: Path) -> None:
    file = wheel(tmp_path, "alpha")
    other = wheel(tmp_path, "alpha", tag="cp311-none-any")

    with pytest.raises(SourceError, match="two files of alpha"):
        obtained(parse_lock(locked(file), label="x"), Cache(root=tmp_path / "cache"), fetch_from(file, other))


@given(st.lists(st.text(max_size=80), max_size=4))
def test_any_lines_of_pip_are_explained_or_passed_over(lines: list[str]) -> None:
    wanted = "ERROR: No matching distribution found for alpha==1.0"
    links = [f"Skipping link: x: https://host.invalid/{line}/alpha-1.0-{line}-none-any.whl#sha256=0" for line in lines]

    error = wheeloffers.explained([*lines, *links, wanted], TARGET)

    assert error is not None
    assert "host.invalid" not in error.why


def test_many_wheels_come_in_parts_and_what_came_stays_when_another_fails(tmp_path: Path) -> None:
    files = {f"p{number:02}": wheel(tmp_path / "index", f"p{number:02}") for number in range(20)}
    packages = wheels.parse_lock(locked(*files.values()), label="x")
    asked: list[int] = []

    def fetch(requirements: str, _: WheelTarget, folder: Path) -> None:
        names = [line.partition("==")[0] for line in requirements.splitlines()]
        asked.append(len(names))
        if "p19" in names and len(asked) < 4:
            raise SourceError(what="cut off", why="", fix="")
        for name in names:
            shutil.copy(files[name], folder)

    cache = Cache(root=tmp_path / "cache")
    with pytest.raises(SourceError, match="cut off"):
        wheels.obtain(packages, TARGET, cache=cache, fetch=fetch, built={})
    chosen = wheels.obtain(packages, TARGET, cache=cache, fetch=fetch, built={})

    assert [one.name for one in chosen] == sorted(files)
    assert sorted(asked) == [4, 4, 8, 8]


def test_a_lock_with_one_file_for_a_package_takes_it_from_the_cache_whoever_put_it_there(tmp_path: Path) -> None:
    file = wheel(tmp_path / "index", "alpha")
    (package,) = wheels.parse_lock(locked(file), label="x")
    cache = Cache(root=tmp_path / "cache")
    digest = next(iter(package.hashes))
    kept = cache.add(Path(shutil.copy(file, tmp_path / file.name)), sha256=digest, name=file.name)

    def never(*_: object) -> None:
        raise AssertionError

    (chosen,) = wheels.obtain([package], TARGET, cache=cache, fetch=never, built={})

    assert chosen.file == kept
