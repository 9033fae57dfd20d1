"""Which wheel tags the target accepts, and what markers are judged by: its Python, platform and glibc alone."""

from typing import Final

from packaging.tags import Tag, compatible_tags, cpython_tags

from bundler.target import WheelTarget

# Names from before PEP 600 for the glibc that a manylinux wheel needs.
_OLD_NAMES: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def target_tags(target: WheelTarget) -> tuple[Tag, ...]:
    """Return the wheel tags that the target accepts, best first."""
    version = _python(target)
    platforms = target_platforms(target)
    interpreter = f"cp{version[0]}{version[1]}"
    return (
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter=interpreter, platforms=platforms),
    )


def target_platforms(target: WheelTarget) -> tuple[str, ...]:
    """Return the platform names that the target's glibc allows, newest first."""
    machine = target.platform.removeprefix("linux_")
    names: list[str] = []
    for minor in range(int(target.glibc.partition(".")[2]), 4, -1):
        names.append(f"manylinux_2_{minor}_{machine}")
        if minor in _OLD_NAMES:
            names.append(f"{_OLD_NAMES[minor]}_{machine}")
    return (*names, target.platform)


def environments(target: WheelTarget) -> tuple[dict[str, str], dict[str, str]]:
    """Return what markers are judged by: the target with the oldest and the newest patch release of its Python."""
    return _environment(target, 0), _environment(target, 99)


def _environment(target: WheelTarget, patch: int) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{target.python}.{patch}",
        "os_name": "posix",
        "platform_machine": target.platform.removeprefix("linux_"),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{target.python}.{patch}",
        "python_version": target.python,
        "sys_platform": "linux",
        "extra": "",
    }


def _python(target: WheelTarget) -> tuple[int, int]:
    major, _, minor = target.python.partition(".")
    return int(major), int(minor)
