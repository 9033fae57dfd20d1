"""A small evaluation by lm-eval's own program, `local-chat-completions`: which city is a country's capital?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support import api_clients

_TASK: Final = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{question}"
doc_to_target: "{{{{capital}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 24, temperature: 0}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
filter_list:
  - name: city
    filter: [{{function: regex, regex_pattern: "({cities})"}}, {{function: take_first}}]
metadata: {{version: 1.0}}
"""


def evaluated(
    folder: Path, rows: Sequence[Mapping[str, str]], question: str, *, url: str, model: str, key: str
) -> float:
    """Ask each row's question with the harness; return the share of answers that name the row's capital.

    Args:
        folder: Where its task, its data and its results lie.
        rows: Each with a `capital` and whatever the question names.
        question: In Jinja, as lm-eval's tasks have it.
        url: The gateway's or test stage's address.
        model: The model's name there.
        key: An API key.
    """
    data, out = folder / "capitals.jsonl", folder / "out"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cities = "|".join(row["capital"] for row in rows)
    (folder / "capitals.yaml").write_text(_TASK.format(data=data, cities=cities, question=question))
    asked = f"base_url={url}/v1/chat/completions,model={model},num_concurrent=2,tokenized_requests=False"
    offline = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

    ended = api_clients.run(
        ["lm_eval", "--model", "local-chat-completions", "--model_args", asked, "--include_path", str(folder),
         "--tasks", "capitals", "--apply_chat_template", "--output_path", str(out)],
        folder=folder,
        more={**offline, "OPENAI_API_KEY": key},
        name=api_clients.LM_EVAL,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr[-3000:]
    (found,) = out.rglob("results_*.json")
    return float(json.loads(found.read_text())["results"]["capitals"]["exact_match,city"])
