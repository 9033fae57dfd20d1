import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import BuildError, SourceError
from bundler.sources import llama_wheel
from bundler.sources.llama_source import LLAMA_CPP
from bundler.sources.wheels import Locked
from bundler.target import Target, WheelTarget
from bundler.toolchain import Toolchain
from media.clock import FixedClock
from tests.support.llama_source import PATCHED, archive
from tests.support.payload import wheel

LOCKED = Locked(name=llama_wheel.PACKAGE, version="0.3.36", marker=None, hashes=frozenset({"a" * 64}))
VERSIONS = {"cmake": "4", "ninja": "1", "scikit-build-core": "1"}
HERE = Target(profile="here", glibc=platform.libc_ver()[1] or "2.36")


def no_tools() -> Toolchain:
    raise AssertionError


BUILDER = llama_wheel.Builder(
    target=HERE,
    cache=Cache(root=Path("none")),
    toolchain=no_tools,
    tool_versions=VERSIONS,
    clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)),
)


def obtained(cache: Cache, *, target: WheelTarget = HERE) -> llama_wheel.LlamaWheel:
    return llama_wheel.obtain(LOCKED, replace(BUILDER, cache=cache, target=target))


def kept(folder: Path, cache: Cache) -> llama_wheel.LlamaWheel:
    facts = llama_wheel.facts_of_build(LOCKED, tool_versions=VERSIONS)
    built = wheel(folder, llama_wheel.PACKAGE, "0.3.36", tag="py3-none-linux_x86_64")
    return llama_wheel.keep(built, llama_wheel.place(cache, facts), facts)


def test_a_wheel_that_was_built_once_is_not_built_again(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path / "cache")

    first = kept(tmp_path, cache)

    assert obtained(cache) == first
    assert "GGML_NATIVE=OFF" in first.material.note
    assert first.material.sha256 == "a" * 64


def test_a_wheel_that_another_build_makes_is_waited_for_and_taken(tmp_path: Path) -> None:
    """A second one of other bytes would lie in its place, and the first build's candidate be of neither."""
    cache, told = Cache(root=tmp_path / "cache"), Event()
    folder = llama_wheel.place(cache, llama_wheel.facts_of_build(LOCKED, tool_versions=VERSIONS))
    builder = replace(BUILDER, cache=cache, progress=lambda line: told.set() if "waiting" in line else None)
    with ThreadPoolExecutor(max_workers=1) as beside:
        with cache.alone(f"{llama_wheel.PACKAGE}-{folder.name}", progress=print):
            waits = beside.submit(llama_wheel.obtain, LOCKED, builder)
            assert told.wait(20)
            first = kept(tmp_path, cache)

        assert waits.result(20) == first


def test_a_cached_wheel_that_was_changed_is_built_again(tmp_path: Path) -> None:
    cache = Cache(root=tmp_path / "cache")
    file = kept(tmp_path, cache).file
    file.chmod(0o644)
    file.write_bytes(b"changed")

    with pytest.raises(AssertionError):  # it asks for the tools
        obtained(cache)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.3.37"},
        {"source_sha256": "b" * 64},
        {"cmake_args": ""},
        {"cmake": "5"},
        {"header": "0" * 16},
        {"patch": "0" * 16},
    ],
)
def test_everything_that_decides_its_bytes_is_in_the_key(change: dict[str, str]) -> None:
    cache = Cache(root=Path("cache"))
    facts = llama_wheel.facts_of_build(LOCKED, tool_versions=VERSIONS)

    assert llama_wheel.place(cache, facts) != llama_wheel.place(cache, {**facts, **change})


def test_a_target_with_an_older_c_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"glibc 2\.1"):
        obtained(Cache(root=tmp_path), target=Target(profile="old", glibc="2.1"))


def test_a_target_of_another_machine_type_is_refused(tmp_path: Path) -> None:
    other = "linux_aarch64" if platform.machine() == "x86_64" else "linux_x86_64"

    with pytest.raises(BuildError, match=f"cannot be built here for {other}"):
        obtained(Cache(root=tmp_path), target=Target(profile="far", platform=other, glibc=HERE.glibc))


def test_a_lock_with_several_files_is_refused() -> None:
    locked = Locked(name=LOCKED.name, version="0.3.36", marker=None, hashes=frozenset({"a" * 64, "b" * 64}))

    with pytest.raises(SourceError, match="pins 2 files"):
        llama_wheel.facts_of_build(locked, tool_versions=VERSIONS)


def test_another_wheel_is_not_kept(tmp_path: Path) -> None:
    facts = llama_wheel.facts_of_build(LOCKED, tool_versions=VERSIONS)

    with pytest.raises(BuildError, match="another wheel"):
        llama_wheel.keep(wheel(tmp_path, "other"), tmp_path / "place", facts)


def test_building_shows_how_far_it_is_and_keeps_the_wheel(tmp_path: Path) -> None:
    """A pip of the test's own stands for the real one: it prints ninja's lines and leaves a wheel."""
    cache = Cache(root=tmp_path / "cache")
    source = archive(tmp_path)
    built = wheel(tmp_path, llama_wheel.PACKAGE, "0.3.36", tag="py3-none-linux_x86_64")
    python = tmp_path / "tools" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!{sys.executable}\nimport shutil, sys, pathlib\n"
        "arguments = sys.argv[1:]\n"
        "out = pathlib.Path(arguments[arguments.index('-d' if 'download' in arguments else '-w') + 1])\n"
        "out.mkdir()\n"
        "flags = __import__('os').environ.get('CXXFLAGS', '')\n"
        "header = flags.rpartition('-include ')[2]\n"
        "assert 'download' in arguments or f'-ffile-prefix-map={arguments[-1]}=.' in flags\n"
        "assert 'download' in arguments or 'ldtilecfg' in pathlib.Path(header).read_text()\n"
        f"built = pathlib.Path(arguments[-1], {LLAMA_CPP!r}, {PATCHED!r})\n"
        "assert 'download' in arguments or 'repack_x16.h' in built.read_text()\n"
        "print('  [1/9] Building CXX object')\nprint('  [9/9] Linking')\n"
        f"shutil.copy({str(source)!r} if 'download' in arguments else {str(built)!r}, out)\n"
    )
    python.chmod(0o755)
    said: list[str] = []

    class Ticking(FixedClock):
        def monotonic(self) -> float:
            self.ticks += 3
            return self.ticks

    made = llama_wheel.obtain(
        Locked(
            name=LOCKED.name,
            version="0.3.36",
            marker=None,
            hashes=frozenset({file_sha256(source)}),
        ),
        llama_wheel.Builder(
            target=HERE,
            cache=cache,
            toolchain=lambda: Toolchain(folder=tmp_path / "tools", lock_sha256=""),
            tool_versions=VERSIONS,
            clock=Ticking(datetime(2026, 11, 20, tzinfo=UTC)),
            progress=said.append,
        ),
    )

    assert made.file.is_file()
    assert any("[9/9]" in line for line in said)
    assert "built in" in said[-1]
