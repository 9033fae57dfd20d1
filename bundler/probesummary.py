"""A probe in words: each fact, and what follows from it for the release."""

from bundler.probe.facts import Probe
from bundler.probe.questions import FLAGS
from bundler.processor import best_variant
from media.cudadrivers import newest_of_driver, spelled


def summary(probe: Probe) -> str:
    """Return a few lines for a person; nothing that the file does not hold."""
    relevant = [flag for flag in FLAGS if flag in probe.cpu_flags]
    system = " ".join(filter(None, (probe.distribution, probe.release, probe.codename))) or "not told"
    library = f"glibc {probe.glibc}" if probe.glibc else f"musl {probe.musl}: no release can be made for it"
    packages = "not told: the whole closure travels" if probe.packages is None else f"{len(probe.packages)} installed"
    rows = [
        ("machine", f"{probe.architecture}, {probe.cores} processors, {probe.memory_mib} MiB"),
        ("processor has", " ".join(relevant) or "none of the flags that matter"),
        ("llama.cpp uses", best_variant(probe.cpu_flags) if probe.architecture == "x86_64" else "its build for it"),
        ("system", system),
        ("kernel", probe.kernel or "not told"),
        ("C library", library),
        ("Python", probe.python or "none: python3 has to travel as Debian packages"),
        ("packages", packages),
    ]
    for gpu in probe.gpus:
        memory = f", {gpu.memory_mib} MiB each" if gpu.memory_mib else ""
        rows.append(("GPU", f"{gpu.count} x {gpu.name or f'device {gpu.pci}'}{memory}"))
    if probe.gpus:
        rows.append(("GPU driver", probe.driver or "none installed: CUDA wheels will be refused"))
        newest = newest_of_driver(probe.driver) if probe.driver else None
        rows.append(("newest CUDA", probe.cuda or (spelled(newest) if newest else "not told")))
    return "\n".join(f"{name:<15}{text}" for name, text in rows)
