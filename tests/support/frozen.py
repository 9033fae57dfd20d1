"""What a released version left in the corpus, laid down for today's commands."""

import shutil
from pathlib import Path

from appliance import config as configuration
from appliance.config import Config
from tests.corpus.make_box import LISTED, listing


def laid_down(left: Path, folder: Path) -> Config:
    """Copy it into a folder, of which it then is a site; return the site file's configuration."""
    shutil.copytree(left, folder, dirs_exist_ok=True)
    site = folder / "etc/sealift/sealift.toml"
    site.write_text(f'{site.read_text()}\n[places]\nroot = "{folder}"\n')
    return configuration.load(site)


def require_unchanged(left: Path) -> None:
    """Fail where a file was added, changed or taken away since it was frozen."""
    lines = [line.split("  ") for line in (left / LISTED).read_text().splitlines()]
    assert listing(left) == {name: digest for digest, name in lines}
