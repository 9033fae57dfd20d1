"""Releases that do not bring everything, from the recipe to the installed box: the server alone, a security update."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.actions.install import Installer
from appliance.actions.installfacts import InstallFacts
from appliance.config import Config, PlacesSection
from appliance.install.account import PlayResult
from appliance.install.environments import site_packages
from appliance.install.maintainer import Package
from appliance.install.plans import Plan
from appliance.install.playbook import Play
from appliance.store.content import StoredRelease
from appliance.verify.trust import PINNED_ROOT
from bundler import statement
from bundler.build import Workshop, build_in
from bundler.onego import release_in_one_go
from bundler.recipe import Recipe
from bundler.workfolder import WorkFolder
from tests.support.payload import recipe_folder
from tests.support.receiving import Site
from tests.support.recipes import security_update, server_alone
from tests.support.throwaway import throwaway_ceremony
from tests.support.workshop import workshop

pytestmark = pytest.mark.slow  # whole installs, seconds each


class Host:
    """A host that no playbook can hurt."""

    def apply(self, play: Play, ansible: Path) -> PlayResult:
        del ansible
        assert (play.source / "systemd/sealift.target").is_file()
        return PlayResult(changed=0, text="")

    def planned(self, serial: int) -> Plan | None:
        return None

    def packages(self, play: Play) -> tuple[Package, ...]:
        return ()

    def preview(self, play: Play, ansible: Path) -> PlayResult:
        return self.apply(play, ansible)

    def restart(self, which: str) -> None:
        raise AssertionError(which)

    def require_healthy(self) -> None:
        """Everything answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A sender and a site that trusts it."""

    folder: Path
    shop: Workshop
    site: Site

    def carried(self, name: str, recipe: Path, *, level: str = "installed") -> None:
        """Build, rehearse in words only, sign, write and receive a release."""
        work = WorkFolder(root=self.folder / name / "work")
        made = build_in(self.shop, Recipe.load(recipe), work)
        predicate = {"payload_digest": made.payload_digest, "level": level, "at": "2026-11-20T12:00:00Z"}
        rehearsed = statement.about_payload(made.payload_digest, statement.REHEARSAL, predicate)
        (work.attest / "rehearsal.json").write_bytes(rehearsed)
        volume = self.folder / name / "volume"
        volume.mkdir()
        release_in_one_go(work, [volume], ceremony=throwaway_ceremony(), clock=self.shop.clock)
        self.site.receive([volume])

    def installer(self) -> Installer:
        site_file = self.folder / "given.toml"
        site_file.write_text('site = "north"\n')
        return Installer(
            config=self.site.config, config_file=site_file, clock=self.site.clock, progress=lambda _: None, host=Host()
        )

    def install(self, serial: int | None = None) -> InstallFacts:
        return self.installer().install(serial)

    def installed(self, serial: int, environment: str) -> set[str]:
        """Return the distributions of an environment as NAME-VERSION."""
        packages = site_packages(self.site.config.at.releases / str(serial) / environment)
        return {path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info")}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A line over which the full release 5 went, installed once; tests work on copies of the site."""
    folder = tmp_path_factory.mktemp("full")
    made = at_site(folder, workshop(folder / "shop"))
    made.site.config.at.pinned_trust.mkdir(parents=True)
    (made.site.config.at.pinned_trust / PINNED_ROOT).write_bytes(throwaway_ceremony().chain[0])
    recipe = recipe_folder(folder / "recipe")
    text = recipe.read_text().replace("serial = 3", "serial = 5").replace('"single-cpu"', '"ward"')
    recipe.write_text(text)
    made.carried("full", recipe, level="answered-on-cpu")
    made.install()
    return made


@pytest.fixture
def line(full: Line, tmp_path: Path) -> Line:
    shutil.copytree(full.folder / "box", tmp_path / "box", symlinks=True)
    return at_site(tmp_path, full.shop)


def at_site(folder: Path, shop: Workshop) -> Line:
    places = PlacesSection(root=str(folder / "box"))
    return Line(
        folder=folder,
        shop=shop,
        site=Site(config=Config(site="north", environment="demo", profile="ward", places=places)),
    )


def index(line: Line) -> Path:
    """The folder that stands for the package index."""
    return line.shop.cache.root.parent / "index"


def test_a_release_of_the_server_alone_keeps_engines_and_models(line: Line) -> None:
    line.carried("server", server_alone(line.folder / "server"))

    facts = line.install()

    assert (facts.serial, facts.kind, facts.base) == (7, "server", 5)
    assert facts.kept == ["models", "engine-llama-cpp"]
    assert line.installed(7, "engine-llama-cpp") == line.installed(5, "engine-llama-cpp")
    assert not line.install().changed
    assert StoredRelease.load(line.site.store, 5).verify("data/models/tiny/tiny.gguf").is_file()


def test_a_security_update_changes_the_wheels_it_brings_and_nothing_else(line: Line) -> None:
    line.carried("urgent", security_update(line.folder / "urgent", index(line)))

    plan = line.installer().preview()
    facts = line.install()

    assert (plan.kind, plan.base, plan.kept) == (facts.kind, facts.base, facts.kept)
    assert (facts.serial, facts.kind, facts.base) == (7, "security-update", 5)
    assert facts.kept == ["models", "engine-llama-cpp", "playbooks", "units"]
    assert line.installed(7, "server") == {"alpha-2.0", "sealift-0.0.1"}
    assert line.installed(7, "host") == {"alpha-2.0", "sealift-0.0.1"}
    assert line.installed(7, "engine-llama-cpp") == {"alpha-1.0", "engine-1.0", "sealift-0.0.1"}
    assert (line.site.config.at.current / "systemd/sealift.target").is_file()
    assert (line.install(5).serial, line.install(7).base) == (5, 5)
