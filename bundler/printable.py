"""Pages that are printed: one self-contained HTML file, no script, nothing loaded from elsewhere, QR codes as SVG.

Every text is escaped here, so a page cannot hold markup that somebody typed into a name.
"""

import io
from collections.abc import Iterable
from html import escape
from pathlib import Path

import segno

from bundler.errors import NotEmptyError
from media.errors import UnreadableError

_STYLE = """
@page { size: A4; margin: 12mm }
* { box-sizing: border-box }
body { font: 10.5pt/1.35 sans-serif; color: #000; background: #fff; margin: 0 auto; max-width: 186mm }
h1 { font-size: 15pt; margin: 0 0 2mm } h2 { font-size: 12pt; margin: 0 0 1mm }
section { border: 1px solid #000; padding: 4mm; margin: 0 0 5mm; break-inside: avoid; display: flow-root }
svg { float: right; width: 32mm; height: 32mm; margin: 0 0 2mm 4mm }
table { border-collapse: collapse } th { text-align: left; font-weight: normal; padding: .4mm 4mm .4mm 0 }
td { padding: .4mm 0; font-weight: bold; overflow-wrap: anywhere } td.id { font-family: monospace }
.big { font-size: 17pt; font-weight: bold }
.warning { display: flow-root; border: 2px solid #000; padding: 2mm; font-weight: bold }
.blank { display: inline-block; border-bottom: 1px solid #000; min-width: 62mm; height: 6mm }
.row { break-inside: avoid; margin: 0 0 5mm } .row p { margin: 0 0 2mm } .small { font-size: 8.5pt }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page; the title is escaped, the body is markup that the functions below made."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def element(tag: str, text: str, *, css: str = "") -> str:
    """Return an element around text, which is escaped."""
    attribute = f' class="{css}"' if css else ""
    return f"<{tag}{attribute}>{escape(text)}</{tag}>"


def rows(facts: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and texts; an empty text becomes a line to write on."""
    lines = (f"<tr>{element('th', name)}<td>{escape(text) if text else blank()}</td></tr>" for name, text in facts)
    return f"<table>{''.join(lines)}</table>"


def blank() -> str:
    """Return a line to write on."""
    return '<span class="blank"></span>'


def code(text: str) -> str:
    """Return a QR code of ASCII text as inline SVG, so dense that a smear over a seventh of it does not matter."""
    target = io.BytesIO()
    segno.make(text, error="m", micro=False, boost_error=False).save(
        target, kind="svg", xmldecl=False, svgns=True, nl=False, border=4, title=text, omitsize=True
    )
    return target.getvalue().decode()


def label_code(release: str, serial: int, *, number: int, count: int, volume_id: str) -> str:
    """Return what the QR code of a volume holds: what is printed beside it, and nothing of the trust sheet."""
    return f"SEALIFT:1:{release}:{serial}:{number}/{count}:{volume_id}"


def save(file: Path, made: str | bytes) -> None:
    """Write a page or a PDF sheet to a file that does not exist yet.

    Raises:
        NotEmptyError: The file exists.
        UnreadableError: It cannot be written.
    """
    try:
        with file.open("xb") as target:
            target.write(made.encode() if isinstance(made, str) else made)
    except FileExistsError:
        raise NotEmptyError(
            what=f"{file.name} exists", why="a page is written once", fix="remove it or choose another"
        ) from None
    except OSError as error:
        raise UnreadableError(
            what=f"{file.name} cannot be written",
            why=error.strerror or "input/output error",
            fix="choose another folder",
        ) from error
