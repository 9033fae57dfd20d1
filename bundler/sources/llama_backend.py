"""llama.cpp's library for GPUs, built here of the same source as the engine's wheel, in a wheel of its own beside it.

llama.cpp finds its libraries for processors and GPUs in one folder when it starts, and those of one source fit each
other. So the engine's wheel stays as it is, and what a machine without GPUs needs is not built anew. Vulkan is spoken
by the drivers of AMD, Intel and NVIDIA alike; the library takes `libvulkan.so.1` and a driver from the machine.
The shaders' compiler and the headers are this machine's, or those of the SDK that `VULKAN_SDK` names; what they are is
in the provenance, as the compiler is. Two to three minutes on two cores, kept in the cache.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bundler.errors import BuildError
from bundler.process import Progress, run
from bundler.sources import llama_source, llama_wheel, wheelmaking
from bundler.sources.llama_wheel import Builder, LlamaWheel
from bundler.sources.wheels import Locked
from bundler.toolchain import Toolchain
from media.clock import Clock
from media.digest import sha256_hex
from media.enginepackages import VULKAN

# Without rpath: the libraries that it needs are loaded before it, by their names, and no folder of this machine stays.
CMAKE_ARGS: Final = (
    "-DGGML_VULKAN=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF -DBUILD_SHARED_LIBS=ON -DCMAKE_SKIP_RPATH=ON "
    "-DCMAKE_BUILD_TYPE=Release -DGGML_CCACHE=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
    "-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF"
)
LIBRARY: Final = "libggml-vulkan.so"
_LEAST_HEADERS: Final = (1, 3, 272)
"""Vulkan's headers that have VK_EXT_layer_settings, which llama.cpp names."""
_HEADERS: Final = "include/vulkan/vulkan_core.h"
_SPIRV: Final = "spirv/unified1/spirv.hpp"
_COMPLETE: Final = re.compile(r"VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(\d+, (\d+), (\d+), VK_HEADER_VERSION\)")
_PATCH: Final = re.compile(r"#define VK_HEADER_VERSION (\d+)")
_FIX: Final = (
    "unpack the Vulkan SDK and name its folder in VULKAN_SDK; on Debian 13, for targets no older than it, its own "
    "glslc, libvulkan-dev and spirv-headers do"
)


def obtain(package: Locked, builder: Builder) -> LlamaWheel:
    """Return the wheel with the library for GPUs from the cache, or build it of the source of llama-cpp-python's line.

    Raises:
        SourceError: The source archive is not the locked one, or not built as this expects.
        BuildError: What the build needs is not here, or it failed, or the target's C library is older than this one's.
    """
    llama_wheel.require_older_libc(builder.target)

    def build(scratch: Path) -> Path:
        builder.progress(f"building llama.cpp's library for GPUs ({package.version}, Vulkan); about 3 minutes, once")
        tools = builder.toolchain()
        archive = llama_source.source_of(package, builder.cache, tools, scratch)
        source = llama_source.unpacked(archive, scratch / "unpacked") / llama_source.LLAMA_CPP
        library = _build(source, tools, scratch / "build", clock=builder.clock, progress=builder.progress)
        about = wheelmaking.About(
            distribution=VULKAN,
            version=package.version,
            platform=builder.target.platform,
            summary="llama.cpp's library for GPUs that speak Vulkan, of the source of llama-cpp-python",
            license="MIT",
            terms=(source / "LICENSE").read_bytes(),
            requires=(f"{llama_wheel.PACKAGE}=={package.version}",),
        )
        return wheelmaking.make(about, {f"bin/{LIBRARY}": library.read_bytes()}, scratch)

    versions = builder.tool_versions
    facts = llama_wheel.facts_of_any_build(package, cmake_args=CMAKE_ARGS, tool_versions=versions) | _vulkan()
    return builder.once(facts, VULKAN, build)


def _vulkan() -> dict[str, str]:
    """Return which headers and compiler of shaders are here.

    Raises:
        BuildError: They are not, or too old.
    """
    kit = os.environ.get("VULKAN_SDK", "")
    headers = next((found for root in (kit, "/usr") if root and (found := Path(root) / _HEADERS).is_file()), None)
    compiler = shutil.which("glslc", path=f"{kit}/bin:{os.environ.get('PATH', os.defpath)}" if kit else None)
    if headers is None or compiler is None:
        missing = "Vulkan's headers are" if headers is None else "glslc, the compiler of shaders, is"
        raise BuildError(what="llama.cpp's library for GPUs cannot be built", why=f"{missing} not here", fix=_FIX)
    text = headers.read_text(errors="replace")
    major_minor, patch = _COMPLETE.search(text), _PATCH.search(text)
    version = (*map(int, major_minor.groups()), int(patch[1])) if major_minor and patch else (0, 0, 0)
    spelled = ".".join(map(str, version))
    if version < _LEAST_HEADERS:
        least = ".".join(map(str, _LEAST_HEADERS))
        why = f"Vulkan's headers here are {spelled}, and llama.cpp names what came with {least}"
        raise BuildError(what="llama.cpp's library for GPUs cannot be built", why=why, fix=_FIX)
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    said = ", ".join(line.strip() for line in told.stdout.splitlines() if line.strip())
    spirv = headers.parents[1] / _SPIRV
    digest = sha256_hex(spirv.read_bytes())[:16] if spirv.is_file() else "none"
    return {"glslc": said[:200], "vulkan_headers": spelled, "spirv_headers": digest}


def _build(source: Path, toolchain: Toolchain, folder: Path, *, clock: Clock, progress: Progress) -> Path:
    started = clock.monotonic()
    kit = os.environ.get("VULKAN_SDK", "")
    tools = toolchain.variables()
    flags = llama_source.unnamed(source)
    environment = {
        **tools,
        "PATH": f"{kit}/bin:{tools['PATH']}" if kit else tools["PATH"],
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        **({"CMAKE_PREFIX_PATH": kit} if kit else {}),
    }
    cmake = toolchain.folder / "bin" / "cmake"
    steps: tuple[list[str | Path], ...] = (
        [cmake, "-S", source, "-B", folder, "-G", "Ninja", *CMAKE_ARGS.split()],
        [cmake, "--build", folder, "--target", "ggml-vulkan", "--parallel", str(os.cpu_count() or 1)],
    )
    for arguments in steps:
        run(
            arguments,
            what="llama.cpp's library for GPUs could not be built",
            fix=f"look at the last lines above; {_FIX}",
            environment=environment,
            on_line=llama_wheel.steps_of(VULKAN, clock=clock, progress=progress),
        )
    progress(f"  {VULKAN} built in {clock.monotonic() - started:.0f} s")
    return folder / "bin" / LIBRARY
