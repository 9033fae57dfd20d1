"""Every setting is documented, and nothing else is."""

import re
from pathlib import Path

from pydantic import BaseModel

from appliance.config import Config

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/operator/site-file.md"


def settings(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Return the dotted keys of a section."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= settings(kind, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_the_document_names_exactly_the_settings_that_exist() -> None:
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", DOCUMENT.read_text(), re.MULTILINE))

    assert documented == settings(Config)
