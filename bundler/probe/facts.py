"""The probe file: what a machine says of itself, so that a release fits it (PROBE-1 to PROBE-9).

It leaves a facility, so the schema is closed and holds no free text: no host name, no address, no serial number, no
account. Every field has one form; what a machine could not tell is an empty text, zero or an empty list, never a guess.
`from_bytes(probe.to_bytes()) == probe` for every probe, and one probe has one file (canonical JSON).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bundler.errors import ProbeError
from media.canonical import array, dumps, exact_keys, integer, loads_canonical, text
from media.errors import LimitExceededError, MalformedError

FORMAT: Final = 1
PRODUCT: Final = "sealift-probe"
MOST_BYTES: Final = 512 * 1024
MOST_FLAGS: Final = 512
MOST_GPUS: Final = 16
MOST_PACKAGES: Final = 6000
_FIX: Final = "run the probe again on the machine, or fill in the form: sealift-bundler probe form"

_FLAG: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){0,3}", re.ASCII)
_SHORT: Final = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_GPU_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ()/+._-]{0,63}", re.ASCII)
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}", re.ASCII)
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,99} [0-9][A-Za-z0-9.+:~-]{0,99} [a-z0-9][a-z0-9-]{0,19}", re.ASCII)
_FIELDS: Final = (
    "architecture", "codename", "cores", "cpu_flags", "cuda", "distribution", "driver", "format", "glibc", "gpus",
    "kernel", "memory_mib", "musl", "packages", "product", "python", "release",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The graphics processors of one kind in a machine.

    Args:
        name: As its driver calls it, such as "NVIDIA H200"; empty where no driver is installed.
        pci: Vendor and device, such as "10de:2335"; the kind, not the piece.
        count: How many there are.
        memory_mib: Of each, in MiB; 0 where no driver told.
    """

    name: str
    pci: str
    count: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One machine.

    Args:
        architecture: As `uname -m` says, such as "x86_64".
        cores: Processors that programs may use.
        memory_mib: Of the machine, in MiB.
        cpu_flags: Sorted.
        glibc: Its version such as "2.36"; empty on a machine with another C library.
        musl: Likewise.
        distribution: Such as "debian".
        release: Of the distribution, such as "12".
        codename: Of the release, such as "bookworm".
        kernel: Major and minor version.
        python: Of python3, such as "3.11"; empty where there is none.
        gpus: By name, then by device.
        driver: Version of the GPU driver; empty where there is none.
        cuda: The newest CUDA that the driver says it runs; empty likewise.
        packages: Installed Debian packages as "name version architecture", sorted; None where nobody asked.
    """

    architecture: str
    cores: int
    memory_mib: int
    cpu_flags: tuple[str, ...]
    glibc: str
    musl: str
    distribution: str
    release: str
    codename: str
    kernel: str
    python: str
    gpus: tuple[Gpu, ...]
    driver: str
    cuda: str
    packages: tuple[str, ...] | None

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a probe file.

        Raises:
            ProbeError: The bytes are not one of format 1.
        """
        try:
            return cls._read(loads_canonical(untrusted.removesuffix(b"\n"), max_bytes=MOST_BYTES))
        except (LimitExceededError, MalformedError) as error:
            raise ProbeError(what=error.what, why=error.why, fix=_FIX) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a probe file from disk.

        Raises:
            ProbeError: It cannot be read, or is not one of format 1.
        """
        try:
            with path.open("rb") as file:
                untrusted = file.read(MOST_BYTES + 2)
        except OSError as error:
            raise ProbeError(
                what=f"the probe {path.name} cannot be read",
                why=error.strerror or "",
                fix="name the file that the probe wrote on the machine",
            ) from error
        return cls.from_bytes(untrusted)

    @classmethod
    def _read(cls, untrusted: Any) -> Self:
        value = exact_keys(untrusted, _FIELDS, (), "The probe")
        if integer(value["format"], "The probe's format") != FORMAT:
            raise _wrong("format", f"this program reads version {FORMAT}")
        if value["product"] != PRODUCT:
            raise _wrong("product", f"expected {PRODUCT}")
        packages = (
            None if value["packages"] is None else _sorted(value["packages"], _PACKAGE, "packages", MOST_PACKAGES)
        )
        gpus = tuple(_gpu(each) for each in array(value["gpus"], "The probe's gpus", most=MOST_GPUS))
        if list(gpus) != sorted(set(gpus), key=_by_name):
            raise _wrong("gpus", "they are not sorted, or one is there twice")
        if bool(value["glibc"]) == bool(value["musl"]):
            raise _wrong("glibc", "a machine has exactly one C library, glibc or musl")
        return cls(
            architecture=_matching(value["architecture"], _WORD, "architecture"),
            cores=integer(value["cores"], "The probe's cores", minimum=1, maximum=4096),
            memory_mib=integer(value["memory_mib"], "The probe's memory_mib", minimum=1, maximum=2**28),
            cpu_flags=_sorted(value["cpu_flags"], _FLAG, "cpu_flags", MOST_FLAGS),
            glibc=_matching(value["glibc"], _SHORT, "glibc", may_be_empty=True),
            musl=_matching(value["musl"], _SHORT, "musl", may_be_empty=True),
            distribution=_matching(value["distribution"], _WORD, "distribution", may_be_empty=True),
            release=_matching(value["release"], _WORD, "release", may_be_empty=True),
            codename=_matching(value["codename"], _WORD, "codename", may_be_empty=True),
            kernel=_matching(value["kernel"], _SHORT, "kernel", may_be_empty=True),
            python=_matching(value["python"], _SHORT, "python", may_be_empty=True),
            gpus=gpus,
            driver=_matching(value["driver"], _VERSION, "driver", may_be_empty=True),
            cuda=_matching(value["cuda"], _SHORT, "cuda", may_be_empty=True),
            packages=packages,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the value that the file holds."""
        return {
            "format": FORMAT,
            "product": PRODUCT,
            "architecture": self.architecture,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "cpu_flags": list(self.cpu_flags),
            "glibc": self.glibc,
            "musl": self.musl,
            "distribution": self.distribution,
            "release": self.release,
            "codename": self.codename,
            "kernel": self.kernel,
            "python": self.python,
            "gpus": [
                {"name": gpu.name, "pci": gpu.pci, "count": gpu.count, "memory_mib": gpu.memory_mib}
                for gpu in self.gpus
            ],
            "driver": self.driver,
            "cuda": self.cuda,
            "packages": None if self.packages is None else list(self.packages),
        }

    def to_bytes(self) -> bytes:
        """Return the file: canonical JSON and a line feed."""
        return dumps(self.to_json()) + b"\n"


def _gpu(untrusted: Any) -> Gpu:
    value = exact_keys(untrusted, ("count", "memory_mib", "name", "pci"), (), "A GPU of the probe")
    gpu = Gpu(
        name=_matching(value["name"], _GPU_NAME, "gpus.name", may_be_empty=True),
        pci=_matching(value["pci"], _PCI, "gpus.pci", may_be_empty=True),
        count=integer(value["count"], "The probe's gpus.count", minimum=1, maximum=256),
        memory_mib=integer(value["memory_mib"], "The probe's gpus.memory_mib", maximum=2**24),
    )
    if not gpu.name and not gpu.pci:
        raise _wrong("gpus", "a GPU has neither name nor device")
    return gpu


def _by_name(gpu: Gpu) -> tuple[str, str, int, int]:
    return gpu.name, gpu.pci, gpu.memory_mib, gpu.count


def _sorted(untrusted: Any, pattern: re.Pattern[str], field: str, most: int) -> tuple[str, ...]:
    values = [_matching(each, pattern, field) for each in array(untrusted, f"The probe's {field}", most=most)]
    if values != sorted(set(values)):
        raise _wrong(field, "they are not sorted, or one is there twice")
    return tuple(values)


def _matching(untrusted: Any, pattern: re.Pattern[str], field: str, *, may_be_empty: bool = False) -> str:
    value = text(untrusted, f"The probe's {field}", most=256, may_be_empty=may_be_empty)
    if value and not pattern.fullmatch(value):
        raise _wrong(field, f"{ascii(value)[:80]} is not of the form that a probe writes")
    return value


def _wrong(field: str, why: str) -> MalformedError:
    return MalformedError(what=f"The probe's {field} is malformed", why=why, fix=_FIX)
