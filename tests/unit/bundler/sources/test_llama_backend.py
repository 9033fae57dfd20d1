"""The wheel with llama.cpp's library for GPUs: what decides it, what it needs of this machine, how it is made."""

import platform
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler import wheelfile
from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import BuildError, BundlerError, SourceError
from bundler.sources import llama_backend, llama_wheel
from bundler.sources.llama_wheel import LlamaWheel
from bundler.sources.wheels import Locked
from bundler.target import Target
from bundler.toolchain import Toolchain
from media.clock import FixedClock
from media.enginepackages import VULKAN
from tests.support.llama_source import archive

HERE = Target(profile="here", glibc=platform.libc_ver()[1] or "2.36")
VERSIONS = {"cmake": "4", "ninja": "1", "scikit-build-core": "1"}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def kit(folder: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "4, 309", glslc: bool = True) -> None:
    """Lay down headers and a compiler of shaders as Vulkan's SDK has them."""
    minor, patch = version.split(", ")
    headers = folder / "include/vulkan/vulkan_core.h"
    headers.parent.mkdir(parents=True)
    headers.write_text(
        f"#define VK_HEADER_VERSION {patch}\n"
        f"#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, {minor}, VK_HEADER_VERSION)\n"
    )
    (folder / "bin").mkdir()
    if glslc:
        program(folder / "bin/glslc", "echo 'shaderc 2025.2'\necho more")
    monkeypatch.setenv("VULKAN_SDK", str(folder))
    monkeypatch.setenv("PATH", str(folder / "empty"))


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def tools(folder: Path) -> Toolchain:
    """Return build tools whose cmake says its lines and leaves what it was told as the library."""
    program(
        folder / "bin/cmake",
        'if [ "$1" = --build ]; then echo "[1/9] shaders"; /bin/mkdir -p "$2/bin"; '
        'echo "$4 $CXXFLAGS" > "$2/bin/libggml-vulkan.so"; fi; echo "$@"',
    )
    return Toolchain(folder=folder, lock_sha256="")


def obtained(folder: Path, source: Path, *, target: Target = HERE, said: list[str] | None = None) -> LlamaWheel:
    cache = Cache(root=folder / "cache")
    sha256 = file_sha256(source)
    if cache.find(sha256) is None:
        cache.add(source, sha256=sha256, name=source.name)
    return llama_backend.obtain(
        Locked(name=llama_wheel.PACKAGE, version="0.3.36", marker=None, hashes=frozenset({sha256})),
        llama_wheel.Builder(
            target=target,
            cache=cache,
            toolchain=lambda: tools(folder / "tools"),
            tool_versions=VERSIONS,
            clock=FixedClock(NOON),
            progress=(said if said is not None else []).append,
        ),
    )


def test_the_library_travels_in_a_wheel_beside_the_engines_and_says_which_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit(tmp_path / "kit", monkeypatch)
    said: list[str] = []

    made = obtained(tmp_path, archive(tmp_path), said=said)

    facts = wheelfile.read(made.file)
    assert (facts.name, facts.version, facts.license) == (VULKAN, "0.3.36", "MIT")
    assert "bin/libggml-vulkan.so" in facts.members
    with zipfile.ZipFile(made.file) as opened:
        metadata = opened.read("sealift_llama_cpp_vulkan-0.3.36.dist-info/METADATA").decode()
        built = opened.read("bin/libggml-vulkan.so").decode()
    assert "Requires-Dist: llama-cpp-python==0.3.36\n" in metadata
    assert built.startswith("ggml-vulkan -ffile-prefix-map=")
    assert "vulkan_headers: 1.4.309" in made.material.note
    assert "glslc: shaderc 2025.2, more" in made.material.note
    assert "spirv_headers: none" in made.material.note
    assert "built in" in said[-1]
    said.clear()
    assert obtained(tmp_path, archive(tmp_path), said=said) == made
    assert said == []


@pytest.mark.parametrize(
    ("version", "glslc", "why"),
    [
        ("3, 239", True, "Vulkan's headers here are 1.3.239"),
        ("4, 309", False, "glslc, the compiler of shaders, is not"),
    ],
)
def test_what_the_build_needs_is_named_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: str, glslc: bool, why: str
) -> None:
    kit(tmp_path / "kit", monkeypatch, version=version, glslc=glslc)

    with pytest.raises(BuildError) as caught:
        obtained(tmp_path, archive(tmp_path))

    assert why in caught.value.why
    assert "VULKAN_SDK" in caught.value.fix
    assert not (tmp_path / "tools").exists()


@pytest.mark.parametrize(
    ("target", "names", "error"),
    [
        (Target(profile="old", glibc="2.1"), ("CMakeLists.txt", "LICENSE"), BuildError),
        (HERE, ("CMakeLists.txt",), SourceError),
    ],
    ids=["an older C library", "another layout"],
)
def test_what_would_not_run_or_is_no_such_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target, names: tuple[str, ...], error: type[BundlerError]
) -> None:
    kit(tmp_path / "kit", monkeypatch)

    with pytest.raises(error):
        obtained(tmp_path, archive(tmp_path, names=names), target=target)


def test_this_machines_headers_and_compiler_are_among_what_decides_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit(tmp_path / "kit", monkeypatch)
    first = obtained(tmp_path, archive(tmp_path))
    kit(tmp_path / "other", monkeypatch, version="4, 310")

    assert obtained(tmp_path, archive(tmp_path)).file != first.file
