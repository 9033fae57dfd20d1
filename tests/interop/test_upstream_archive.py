"""The real apt fetches from a small archive signed by a throwaway key; what it brings is judged by us."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bundler.artifact import Gathered
from bundler.cache import Cache
from bundler.errors import SourceError
from bundler.recipe import Recipe
from bundler.sources import ospackages
from media.clock import FixedClock
from tests.support import archive
from tests.support.debs import deb
from tests.support.gpg import GnuPG
from tests.support.payload import recipe_text
from tests.support.probes import probe

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("apt-ftparchive") is None, reason="needs Debian's apt-utils"),
]

# apt judges dates by the machine's clock, so these tests do too.
NOW = datetime.now(UTC)


def gathered(folder: Path, *, options: str = "", packages: str = '"beta"', installed: tuple[str, ...] = ()) -> Gathered:
    """Build from the mirror in `folder`, for a target with these packages."""
    (folder / "probe.json").write_bytes(probe(packages=installed).to_bytes())
    (folder / "mirror.list").write_text(f"deb {options} file:{folder / 'mirror'} bookworm main\n")
    more = f'[debs]\npackages = [{packages}]\nkeyring = "keyring.gpg"\nsources = "mirror.list"\n'
    text = recipe_text(more=more).replace("[[models]]", 'probe = "probe.json"\n\n[[models]]', 1)
    text = text.replace('cpu_flags = ["ssse3", "popcnt"]', "")
    recipe = Recipe.parse(text.encode(), folder=folder)
    assert recipe.debs is not None
    return ospackages.gather(recipe, recipe.debs, cache=Cache(root=folder / "cache"), clock=FixedClock(NOW))


def mirror(folder: Path, gnupg: GnuPG, key: str, *, until: datetime | None = None) -> list[Path]:
    """Lay out an archive of alpha, and of beta which depends on it."""
    files = [deb(folder, "alpha"), deb(folder, "beta", depends="alpha")]
    index = archive.packages(files)
    text = archive.release(index, date=NOW - timedelta(days=1), until=until)
    archive.suite(folder / "mirror", files, archive.signed(text, gnupg, key), index)
    return files


def names(found: Gathered) -> list[str]:
    return sorted(each.component.name for each in found.artifacts if each.target.endswith(".deb"))


def test_the_closure_that_the_target_lacks_is_fetched_and_vouched_for(gnupg: GnuPG, tmp_path: Path) -> None:
    key = gnupg.key("archive")
    archive.keyring(tmp_path, gnupg, key)
    mirror(tmp_path, gnupg, key, until=NOW + timedelta(days=7))

    whole = gathered(tmp_path)
    assert names(whole) == ["alpha", "beta"]
    assert key in whole.materials[-1].note

    assert names(gathered(tmp_path, installed=("alpha 1.0-1 amd64",))) == ["beta"]


def test_a_mirror_that_this_machines_apt_was_told_to_trust_is_not_believed(gnupg: GnuPG, tmp_path: Path) -> None:
    archive.keyring(tmp_path, gnupg, gnupg.key("archive"))
    mirror(tmp_path, gnupg, gnupg.key("stranger"))

    with pytest.raises(SourceError, match="no archive that the keyring vouches for"):
        gathered(tmp_path, options="[trusted=yes]")


def test_an_expired_list_is_refused_though_apt_was_told_not_to_look(gnupg: GnuPG, tmp_path: Path) -> None:
    key = gnupg.key("archive")
    archive.keyring(tmp_path, gnupg, key)
    mirror(tmp_path, gnupg, key, until=NOW - timedelta(hours=1))

    with pytest.raises(SourceError, match="cannot be used"):
        gathered(tmp_path, options="[check-valid-until=no]")


def test_an_altered_package_is_refused(gnupg: GnuPG, tmp_path: Path) -> None:
    key = gnupg.key("archive")
    archive.keyring(tmp_path, gnupg, key)
    files = mirror(tmp_path, gnupg, key)
    other = deb(tmp_path / "forged", "alpha", script="#!/bin/sh\nexit 0\n")
    shutil.copy(other, tmp_path / "mirror" / "pool" / files[0].name)

    with pytest.raises(SourceError):
        gathered(tmp_path)
