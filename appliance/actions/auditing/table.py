"""Records as lines of a spreadsheet, harmless to open: nothing in a cell is a formula, a control or a second line.

A cell that begins like a formula gets an apostrophe in front, as spreadsheets themselves mark text (OWASP, CSV
injection). The exact bytes are in leaves.jsonl; this file is for reading.
"""

import json
from typing import Final

from appliance.audit.leaf import Leaf
from media.spreadsheet import is_like_formula

COLUMNS: Final = ("sequence", "time", "kind", "door", "uid", "leaf_hash", "body")


def cell(text: str) -> str:
    """Return one cell, quoted: no formula, no line break, no control character, no mark that turns the direction."""
    shown = "".join(each if each.isprintable() else _escaped(each) for each in text)
    if is_like_formula(text):
        shown = f"'{shown}"
    return '"' + shown.replace('"', '""') + '"'


def row(leaf: Leaf) -> bytes:
    """Return the line of a record."""
    body = json.dumps(leaf.body, ensure_ascii=True, sort_keys=True)
    cells = (str(leaf.sequence), leaf.time, leaf.kind, leaf.via.door, str(leaf.via.uid), leaf.hash, body)
    return (",".join(cell(each) for each in cells) + "\r\n").encode()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", errors="backslashreplace").decode("ascii")


HEADS: Final = (",".join(cell(each) for each in COLUMNS) + "\r\n").encode()
