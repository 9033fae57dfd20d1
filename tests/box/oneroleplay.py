"""A play of one role of ours, by the Ansible that the host's environment has, run by the box's own interpreter."""

from pathlib import Path

from tests.support.peers import peer_python

SITE_PACKAGES = "/srv/site-packages"
MAIN = f"import sys; sys.path.insert(0, {SITE_PACKAGES!r}); from ansible.cli.playbook import main; main()"


def play_of(role: str) -> str:
    """Return a playbook of one role, run as the install runs its own."""
    return f"""
- hosts: appliance
  connection: local
  gather_facts: false
  any_errors_fatal: true
  roles: [{{ role: {role} }}]
"""


def site_packages() -> Path:
    """Return this machine's folder of what the host's environment has; a box has it at `SITE_PACKAGES`."""
    (found,) = peer_python("host").parents[1].glob("lib/python3*/site-packages")
    return found
