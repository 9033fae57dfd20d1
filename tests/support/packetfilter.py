"""The packet filter as the install writes it: the role's own template, filled from a site file as Ansible does."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from appliance.config import Config
from appliance.install.playbook import Play

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "ansible/roles/firewall/templates/nftables.conf.j2"


def rules(config: Config) -> str:
    """Return the rules of a site."""
    play = Play(
        config=config,
        config_file=Path("/etc/sealift/sealift.toml"),
        source=ROOT,
        folder=ROOT,
        serial=1,
        environments=(),
    )
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False)  # noqa: S701 - rules, not HTML
    return environment.from_string(TEMPLATE.read_text()).render(play.variables())
