"""lm-eval's own program against the test stage of the demo, with a real model: on demand, since it brings PyTorch.

``SEALIFT_LM_EVAL=…/bin/lm_eval pytest -m engines tests/engines/test_lm_eval.py`` after `make demo`; made with
``pip install "lm_eval[api]"`` in an environment of its own.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.functional.test_demo import shell

PROGRAM: Final = os.environ.get("SEALIFT_LM_EVAL", "")
VERSION: Final = "smollm2-135m-instruct-q8_0"
CITIES: Final = {"France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "Austria": "Vienna"}
TASK: Final = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "What is the capital of {{{{country}}}}? Answer with the name of the city."
doc_to_target: "{{{{capital}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 24, temperature: 0}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
filter_list:
  - name: city
    filter: [{{function: regex, regex_pattern: "({cities})"}}, {{function: take_first}}]
metadata: {{version: 1.0}}
"""

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAM, reason="name SEALIFT_LM_EVAL"),
]


@pytest.fixture
def address() -> Iterator[str]:
    """The test stage's address, with the demo's version of eight bits lent in it."""
    told = shell("sealift run-units --background").stdout
    try:
        shell(f"sealift stage load {VERSION} --as iris")
        yield re.findall(r"^test: (http://\S+)$", told, flags=re.MULTILINE)[0]
        shell(f"sealift stage unload {VERSION} --as iris")
    finally:
        shell("sealift run-units --stop")


def test_the_harness_evaluates_a_version_that_nobody_promoted(address: str, tmp_path: Path) -> None:
    data = tmp_path / "capitals.jsonl"
    data.write_text("".join(json.dumps({"country": one, "capital": city}) + "\n" for one, city in CITIES.items()))
    (tmp_path / "capitals.yaml").write_text(TASK.format(data=data, cities="|".join(CITIES.values())))
    created = shell("sealift keys create --stage test --department 'app team' --owner lm-eval --json")
    model = f"base_url={address}/v1/chat/completions,model=test,num_concurrent=2,tokenized_requests=False"

    subprocess.run(
        [PROGRAM, "--model", "local-chat-completions", "--model_args", model, "--include_path", str(tmp_path),
         "--tasks", "capitals", "--apply_chat_template", "--output_path", str(tmp_path / "out")],
        env={**os.environ, "OPENAI_API_KEY": json.loads(created.stdout)["key"], "HF_HOME": str(tmp_path / "hf"),
             "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        check=True,
        cwd=tmp_path,
    )  # fmt: skip

    (found,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(found.read_text())["results"]["capitals"]["exact_match,city"] >= 0.5
