"""What a site file says reaches the roles as it stands there: by the Ansible that a release carries."""

import json
import subprocess
from pathlib import Path

import pytest

from appliance.install.playbook import as_data
from tests.support.peers import peer_python

pytestmark = pytest.mark.interop
TEXTS = [
    "off",
    "no",
    "123",
    "0x10",
    "1e3",
    "null",
    "~",
    "2026-11-20",
    "{{ 1 + 1 }}",
    "{{ lookup('pipe', 'id') }}",
    "a: b",
]
PLAY = """
- hosts: localhost
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.copy:
        content: "{{ [one, many, within] | to_json }}"
        dest: "{{ playbook_dir }}/seen.json"
"""


def test_texts_stay_texts_whatever_they_look_like(tmp_path: Path) -> None:
    python = peer_python("host")
    ansible = python.with_name("ansible-playbook")
    variables = {"one": TEXTS[-2], "many": TEXTS, "within": {text: text for text in TEXTS}}
    (tmp_path / "values.yml").write_text(as_data(variables))
    (tmp_path / "play.yml").write_text(PLAY)

    done = subprocess.run(
        [
            str(ansible),
            "-i",
            "localhost,",
            "-e",
            "@values.yml",
            "-e",
            f"ansible_python_interpreter={python}",
            "play.yml",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "seen.json").read_text()) == list(variables.values())
