"""A sheet as one HTML file: nothing in it runs, nothing is loaded, every text is escaped."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from appliance.paper.bars import svg
from appliance.paper.form import Form, shown

_TEMPLATES: Final = Path(__file__).parent / "templates"


def html(form: Form) -> bytes:
    """Return the page in UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.filters["svg"] = svg
    return environment.get_template("form.html").render(form=form).encode()
