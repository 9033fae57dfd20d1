"""A form as the file that people print: what draws is loaded only then, for it takes a while and most commands do not.

Modules of commands are all imported at each start of `sealift`, so nobody imports `page` or `sheet` besides this.
"""

from pathlib import Path
from typing import Final

from appliance.paper.form import Form

_PDF: Final = ".pdf"
_SUFFIXES: Final = frozenset({_PDF, ".html"})


def is_drawable(file: Path) -> bool:
    """Tell whether a file's name says how a form is drawn into it: .pdf or .html."""
    return file.suffix.lower() in _SUFFIXES


def drawn(form: Form, file: Path) -> bytes:
    """Return what belongs into the file: a PDF where its name says so, else HTML."""
    from appliance.paper.page import html
    from appliance.paper.sheet import pdf

    return pdf(form) if file.suffix.lower() == _PDF else html(form)
