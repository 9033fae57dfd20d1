"""The pin of the rendered template: by the code that travels, in a sandbox, the same as a site computes."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.serve.chat_template import ChatTemplate
from appliance.serve.rendering import rendered_sha256
from bundler.scanning import rendering, sandbox

ROOT = Path(__file__).resolve().parents[4]
SHORT = replace(rendering.LIMITS, cpu_seconds=2)
BUSY = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As our wheel is: an archive that Python imports from."""
    path = tmp_path_factory.mktemp("wheel") / "sealift-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for package in ("appliance", "media"):
            for file in sorted((ROOT / package).rglob("*.py")):
                archive.write(file, file.relative_to(ROOT))
    path.chmod(0o644)
    return path


def pinned(template: str, code: Path) -> tuple[dict[str, str], list[str]]:
    said: list[str] = []
    return rendering.pin(template.encode(), code, label="models.tiny", progress=said.append, limits=SHORT), said


def test_a_build_pins_what_a_site_computes(wheel: Path) -> None:
    found, said = pinned(CHATML, wheel)

    assert found == {"rendered_sha256": rendered_sha256(ChatTemplate(CHATML))}
    assert said == []
    assert pinned(CHATML + " ", wheel)[0] != found


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('no system role') }}", "refused the messages"),
        pytest.param("{% for", "does not compile", marks=pytest.mark.slow),
        pytest.param("{{ messages[0].content }}", "dropped a message", marks=pytest.mark.slow),
        pytest.param(BUSY, "not done in time", marks=pytest.mark.slow),
        pytest.param("{{ ''.__class__() }}", "failed", marks=pytest.mark.slow),
    ],
)
def test_what_does_not_render_is_not_pinned_and_the_build_says_why(wheel: Path, template: str, why: str) -> None:
    found, [said] = pinned(template, wheel)

    assert found == {}
    assert said.startswith("models.tiny: the rendered chat template is not pinned: ")
    assert why in said


@pytest.mark.skipif(
    sandbox.level() != sandbox.ISOLATED, reason="the sandbox hides this checkout only where it is whole"
)
def test_the_child_reads_the_code_that_it_is_given_and_no_other(tmp_path: Path) -> None:
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w"):
        pass
    empty.chmod(0o644)

    found, [said] = pinned(CHATML, empty)

    assert found == {}
    assert "ended with code 1" in said
