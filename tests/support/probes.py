"""Probe files, and a small machine for the probe's program to look at."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bundler.probe.facts import Gpu, Probe

PROGRAM = Path(__file__).resolve().parents[2] / "bundler/probe/sealift-probe.sh"
_SMI = """#!/bin/sh
case "$*" in
  *query*) printf 'NVIDIA L40S, 46068, 0x26B910DE\\nNVIDIA L40S, 46068, 0x26B910DE\\nNVIDIA A2, 15356, 0x25B610DE\\n' ;;
  *) printf '| NVIDIA-SMI 570.86.15   Driver Version: 570.86.15   CUDA Version: 12.8     |\\n' ;;
esac
"""


def probe(**changes: Any) -> Probe:
    """Return what a bare Debian 12 with an AVX2 processor says, changed as asked."""
    return replace(
        Probe(
            architecture="x86_64",
            cores=8,
            memory_mib=32000,
            cpu_flags=("avx", "avx2", "bmi2", "f16c", "fma", "sse4_2"),
            glibc="2.36",
            musl="",
            distribution="debian",
            release="12",
            codename="bookworm",
            kernel="6.1",
            python="3.11",
            gpus=(),
            driver="",
            cuda="",
            packages=None,
        ),
        **changes,
    )


def gpu_probe(**changes: Any) -> Probe:
    """Return a machine with two GPUs of one kind and a driver."""
    kind = Gpu(name="NVIDIA L40S", pci="10de:26b9", count=2, memory_mib=46068)
    return probe(**{"gpus": (kind,), "driver": "570.86.15", "cuda": "12.8", **changes})


def program(folder: Path, name: str, text: str) -> None:
    """Leave an executable."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def machine(folder: Path, *, with_driver: bool = True) -> Path:
    """Write what the program reads of a machine: /proc, /sys and /etc below `folder`, its own programs in bin."""
    for place in ("proc/driver/nvidia", "etc", "sys/bus/pci/devices/0000:01:00.0", "sys/bus/pci/devices/0000:02:00.0"):
        (folder / place).mkdir(parents=True)
    (folder / "proc/cpuinfo").write_text("processor\t: 0\nflags\t\t: sse4_2 avx2 avx2 BAD avx\nprocessor\t: 1\n")
    (folder / "proc/meminfo").write_text("MemTotal:       32768000 kB\nMemFree: 1 kB\n")
    (folder / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nNAME="$(id)"\n')
    for number, (kind, vendor) in enumerate((("0x030200", "0x10de"), ("0x020000", "0x8086")), start=1):
        device = folder / f"sys/bus/pci/devices/0000:0{number}:00.0"
        (device / "class").write_text(f"{kind}\n")
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "device").write_text("0x26b9\n")
    if with_driver:
        (folder / "proc/driver/nvidia/version").write_text(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (x@y)  Thu Jan 1\n"
        )
        program(folder / "bin", "nvidia-smi", _SMI)
    program(folder / "bin", "getconf", '#!/bin/sh\ncase $1 in GNU*) echo "glibc 2.36";; *) echo 4;; esac\n')
    program(folder / "bin", "uname", "#!/bin/sh\ncase $1 in -m) echo x86_64;; -r) echo 6.1.0-26-amd64;; esac\n")
    program(folder / "bin", "python3", "#!/bin/sh\necho Python 3.11.2\n")
    listed = "ii |zlib1g 1:1.2.13.dfsg-1 amd64\\nrc |gone 1.0 all\\nhi |adduser 3.134 all\\n"
    program(folder / "bin", "dpkg-query", f"#!/bin/sh\nprintf '{listed}'\n")
    return folder


def ask(
    root: Path, *options: str, shell: Sequence[str] = ("sh",), answer: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the program against such a machine."""
    environment = {**os.environ, "PATH": f"{root / 'bin'}:/usr/bin:/bin"}
    command = [shutil.which(shell[0]) or shell[0], *shell[1:], str(PROGRAM), "-r", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, input=answer, check=False)
