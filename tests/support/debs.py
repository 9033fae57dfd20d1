"""Small real Debian packages."""

import subprocess
from pathlib import Path

from bundler.cache import Cache
from bundler.debian.archives import Archives, Entry
from bundler.debian.stanzas import fields
from bundler.recipe import DebsSection, Recipe
from bundler.sources import ospackages
from tests.support.payload import recipe_text, sha256


def deb(
    folder: Path, name: str, version: str = "1.0-1", *, script: str = "", is_setuid: bool = False, depends: str = ""
) -> Path:
    """Build a package with one program."""
    tree = folder / f"{name}-tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: t <t@t.invalid>\n"
        + (f"Depends: {depends}\n" if depends else "")
        + "Description: small\n"
    )
    if script:
        (tree / "DEBIAN" / "postinst").write_text(script)
        (tree / "DEBIAN" / "postinst").chmod(0o755)
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / name).write_text("#!/bin/sh\n")
    (tree / "usr" / "bin" / name).chmod(0o4755 if is_setuid else 0o755)
    path = folder / f"{name}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def remembering(folder: Path, *files: Path) -> tuple[Recipe, DebsSection, Cache]:
    """Return a recipe whose packages the cache knows already, so that apt is not asked."""
    recipe = Recipe.parse(recipe_text(more='[debs]\npackages = ["beta", "alpha"]\n').encode(), folder=folder)
    assert recipe.debs is not None
    cache = Cache(root=folder / "cache")
    archives = archives_with(*files)  # before the cache takes the files
    taken = [ospackages.taken_in(file, cache, archives) for file in files]
    facts = [[item.name, item.version, item.architecture, item.sha256] for item in taken]
    lists = [["deb-archive:bookworm", "0" * 64, "Debian bookworm"]]
    cache.remember("debs", ospackages.memo_key(recipe, recipe.debs, b""), {"debs": facts, "lists": lists})
    return recipe, recipe.debs, cache


def archives_with(*files: Path) -> Archives:
    """Return verified archives that name these packages."""
    entries = {}
    for file in files:
        told = subprocess.run(["dpkg-deb", "--field", str(file)], check=True, capture_output=True).stdout.decode()
        values = fields(told, label=file.name)
        digest = sha256(file)
        entries[digest] = Entry(
            name=values["Package"],
            version=values["Version"],
            architecture=values["Architecture"],
            sha256=digest,
            length=file.stat().st_size,
            is_security=False,
            stanza=told,
        )
    return Archives(archives=(), entries=entries)
