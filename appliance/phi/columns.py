"""Identifiers in a table: what a column's heading says counts for every row below it.

Tables as Markdown has them, and lines parted by commas, semicolons, tabs, bars or at least two spaces. A heading that
may be of anything (a drug has a name, too) counts beside one that is of people alone. Below one another may stand.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from appliance.phi.fieldvalues import NOBODY, is_a_name, is_a_place, is_somebody, may_be_a_name, title_of, trimmed
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import PhiClass, digits_of

OF_PEOPLE: Final[Mapping[PhiClass, tuple[str, ...]]] = {
    PhiClass.MRN: (
        *("mrn", "medical record number", "medical record no", "record number", "patient id", "patient number", "csn"),
        *("patient no", "chart number", "hospital number", "patientid", "encounter id", "visit number", "visit id"),
        *("mrn id", "patient nr", "patientnr", "patientennummer", "patientnummer", "fallnr", "fallnummer"),
    ),
    PhiClass.SSN: ("ssn", "social security number", "social security no", "national id", "national insurance number"),
    PhiClass.NAME: (
        *("patient name", "first name", "last name", "full name", "surname", "family name", "given name", "firstname"),
        *("lastname", "middle name", "maiden name", "nachname", "vorname", "next of kin", "emergency contact"),
        *("lname", "achternaam", "voornaam", "cognome", "apellido", "apellidos", "prenom", "pr\u00e9nom"),
    ),
    PhiClass.DATE: ("dob", "date of birth", "birth date", "birthdate", "geburtsdatum"),
    PhiClass.PHONE: ("phone", "phone number", "telephone", "mobile", "cell phone", "home phone", "telefon"),
    PhiClass.ADDRESS: ("address", "street address", "home address", "street", "adresse"),
    PhiClass.PLAN: (
        "member id",
        "insurance id",
        "subscriber id",
        "policy number",
        "policy no",
        "nhs number",
        "medicare",
    ),
}
_BESIDE: Final[Mapping[PhiClass, tuple[str, ...]]] = {
    PhiClass.NAME: (
        *("name", "patient", "contact", "provider", "physician", "doctor", "attending", "fname", "nom", "nombre"),
        *("nome", "naam"),
    ),
    PhiClass.MRN: ("ipp", "nhc", "id", "encounter", "visit", "case", "accession", "accession number", "record"),
    PhiClass.ACCOUNT: ("account", "account number", "account no", "acct"),
    PhiClass.PLAN: ("policy", "member", "insurance", "plan id"),
    PhiClass.ADDRESS: ("city", "town", "zip", "zip code", "postcode", "postal code", "plz"),
    PhiClass.DEVICE: ("serial number", "serial no", "serial", "device id"),
    PhiClass.LICENCE: ("license", "licence", "license number", "licence number", "npi"),
}
_KNOWN: Final = {word: one for of in (_BESIDE, OF_PEOPLE) for one, words in of.items() for word in words}
_ALONE: Final = frozenset(word for words in OF_PEOPLE.values() for word in words)
_AROUND: Final = " \t\r\"'*_`"
_PATIENT: Final = "(?:patient|pat|pt)"
_OF_PATIENTS: Final = re.compile(f"{_PATIENT} ")


def _as_written(words: str) -> str:
    return words.replace(" ", "[ _]?").replace("patient[", f"{_PATIENT}[")


# Begins with a set of characters, which is what is looked for fastest. Of tabs the last one begins, the first one ends.
_HEADING: Final = re.compile(
    r"[\n,;\t|][ \"'*_`]{0,20}(?i:"
    f"(?:{_PATIENT}[ _])?(?:"
    + "|".join(_as_written(word) for word in sorted(_ALONE, key=len, reverse=True))
    + r"))[ \r\"'*_`]{0,40}(?=[,;\t|\n])"
)
# Of spaces a look for one gap spares most texts the rest; behind a line of a program stands a remark.
_GAP: Final = re.compile(r"[^\s]  +[^\s#/]")
_SPACED: Final = _ALONE - {"mobile", "medicare", "address", "street", "adresse"}  # of computers
_JOINED: Final = frozenset(word.replace(" ", "") for word in _SPACED)


def _words_of(letter: str) -> str:
    rest = [one.replace(" ", "[ _]?") for one in sorted(_SPACED, key=len, reverse=True) if one[0] == letter]
    if letter == "p":
        rest.append(f"p(?:atient|at|t)_(?:id|no|number|{'|'.join(one.replace(' ', '_') for one in sorted(_SPACED))})")
    return f"[{letter}{letter.upper()}](?i:{'|'.join(one[1:] for one in rest)})"


# Begins likewise; each of its parts with a set, too, which costs less to pass over than a word whose case is ignored.
_SPACED_HEADING: Final = re.compile(
    r"[ \n](?=[A-Za-z])(?:" + "|".join(map(_words_of, sorted({word[0] for word in _SPACED}))) + r")(?=[ \r\n\\]|\Z)"
)
_SPACED_CELL: Final = re.compile(r"\S+(?: \S+)*+")
_DIGIT: Final = re.compile("[0-9]")
_OF_SOMEBODY: Final = re.compile(r"[0-9,]|\b[A-Za-z]\b")
_WORD: Final = re.compile("[a-z]{2,}")
_MOST: Final = 2
_TYPE: Final = re.compile("[A-Za-z][(][0-9]")
_OF_CODE: Final = re.compile("[={}]")
# Of each sign one part alone may take it, so that a long row that is none takes no longer.
_RULED: Final = re.compile(r"[ \t\r:|+]*[-=][ \t\r:|+=-]*")
_OF_RULES: Final = frozenset(" \t:|+-=")
_LONGEST_HEADING, _LONGEST_CELL, _LONGEST_LINE = 32, 80, 600
_SENTENCE: Final = frozenset({"", ".", "?", "!", ":"})
_MARKS: Final = "|\t;,"
# What stands in place of a value, and heads no column.
_LEFT_OUT: Final = frozenset(("unknown", "none", "null", "nil", "na", "n/a"))
_LEADING: Final = "| "  # what a row of a table begins with


def columns_in(text: str) -> Iterator[Labelled]:
    """Yield the cells of a text's tables that identify somebody, in order; what labels each is its column's heading."""
    lines = text.split("\n")
    if len(lines) < 2:
        return
    at, below = 0, 0
    for number, line in enumerate(lines):
        at += len(line) + 1
        if number < below or len(line) > _LONGEST_LINE or line[-1:] in _SENTENCE:
            continue
        if "," not in line and "|" not in line and "\t" not in line and ";" not in line:
            continue
        mark = next(one for one in _MARKS if one in line)
        # Looked for first, since it costs next to nothing: only a row right below makes a heading of a line.
        if number + 1 == len(lines) or (mark not in lines[number + 1] and not _is_rule(lines[number + 1], mark)):
            continue
        if _HEADING.search(f"\n{line}\n") is None or not (columns := _columns(line, mark)):
            continue
        if form := _form(lines, number, mark):
            below = number + len(form)
            yield from _filled_in(form, at - len(line) - 1)
            continue
        begin = at
        for below in range(number + 1, len(lines)):
            row = lines[below]
            is_rule = _is_rule(row, mark)
            if mark not in row and not is_rule:
                break
            if not is_rule:
                below_it = _second(row, mark, columns)
                yield from _cells(row, begin, mark, columns, is_heading=below_it is not columns)
                columns = below_it
            begin += len(row) + 1


Cell = tuple[int, str]
"""Where a cell of a table begins, and its text."""


def cells_of(rows: Sequence[Sequence[Cell]]) -> Iterator[Labelled]:
    """Yield the cells that identify somebody of a table, of which the first row is the heading."""
    titles = [text for _, text in rows[0]]
    if len(rows[0]) == 2 and _is_form([one.strip(_AROUND) for one in titles], [row[0][1] for row in rows[1:] if row]):
        yield from _by_names(rows)
    elif any(_title(one) in _ALONE for one in titles):
        yield from _by_titles(titles, rows[1:])


class _Field(NamedTuple):
    """A line of a form: what a field is called, and where in the line what was filled in stands."""

    line: str
    name: str
    value: int


def _form(lines: list[str], number: int, mark: str) -> list[_Field]:
    """Return the lines of a form from one on; none of a table."""
    form = []
    for at in range(number, len(lines)):
        line = lines[at]
        if _is_rule(line, mark):
            end = len(line)
        elif (end := line.find(mark, len(line) - len(line.lstrip(_LEADING)))) < 0:
            break
        form.append(_Field(line, line[:end].strip(f"|{_AROUND}"), end + 1))
    if not form:  # a line with a bar before its first word alone
        return []
    titles = [form[0].name, form[0].line[form[0].value :].rstrip("| \r").strip(_AROUND)]
    firsts = [one.name for one in form[1:] if not _is_rule(one.line, mark)]
    return form if mark not in titles[1] and _is_form(titles, firsts) else []


def _filled_in(form: list[_Field], begin: int) -> Iterator[Labelled]:
    """Yield what stands behind the names of a form's fields, whose first line begins at a place."""
    for line, name, value in form:
        phi_class = _KNOWN.get(_title(name))
        end = len(line.rstrip("| \r"))
        if phi_class is not None and (cell := _cell(line, value, end, phi_class)) is not None:
            yield Labelled(begin + cell[0], begin + cell[1], phi_class)
        begin += len(line) + 1


def spaced_in(text: str) -> Iterator[Labelled]:
    """Yield the cells that identify somebody of tables whose columns spaces part, as pandas and reports print them."""
    if _GAP.search(text) is None:
        return
    below = 0
    for found in _SPACED_HEADING.finditer(f"\n{text}"):
        at = found.start()  # of the word: before it stands what the text has not
        if at < below:
            continue
        begin = max(below, text.rfind("\n", below, at) + 1)
        # Whatever else stands in it, a line is read once.
        end = below = text.find("\n", at)
        if end < 0:
            return
        below += 1
        if end - begin > _LONGEST_LINE or "|" in text[begin:end]:  # what bars part was read above
            continue
        titles = _titles(text, begin, end)
        if len(titles) < 2 or not any(_title(one).replace(" ", "") in _JOINED for one in titles):
            continue
        if any(len(one) > _LONGEST_HEADING for one in titles):
            continue
        rows = []
        while below < len(text) and (row := _spaced_row(text, below, len(titles))) is not None:
            rows.append(row.cells)
            below = row.end + 1
        if len(titles) == 2 and _is_form(titles, [cells[0][1] for cells in rows]):
            yield from _by_names([_spaced_cells(text, begin).cells, *rows])
        else:
            yield from _by_titles(titles, rows)


class _Row(NamedTuple):
    """A line's cells, and where the line ends."""

    end: int
    cells: list[Cell]


def _titles(text: str, begin: int, end: int) -> list[str]:
    """Return the headings of a line. pandas has one space between those of texts, and its rows begin with a number."""
    line = text[begin:end]
    titles = [title for title in _SPACED_CELL.findall(line) if title != "\\"]
    if line.startswith("  ") and text[end + 1 : end + 2].strip():
        words = [word for word in line.split() if word != "\\"]
        if len(words) > len(titles) and len(_spaced_cells(text, end + 1).cells) == len(words) + 1:
            return words
    return titles


def _spaced_row(text: str, begin: int, titles: int) -> _Row | None:
    """Return a row; None where it has not one cell for each title, and may be a number before."""
    row = _spaced_cells(text, begin)
    return _Row(row.end, row.cells[-titles:]) if titles <= len(row.cells) <= titles + 1 else None


def _spaced_cells(text: str, begin: int) -> _Row:
    """Return the cells of a line, none of one that is too long."""
    end = text.find("\n", begin)
    end = len(text) if end < 0 else end
    if end - begin > _LONGEST_LINE:
        return _Row(end, [])
    return _Row(end, [(one.start(), one[0]) for one in _SPACED_CELL.finditer(text, begin, end)])


def _is_form(titles: list[str], firsts: list[str]) -> bool:
    """Tell whether two columns are a form's names of fields and what was filled in, and no table with a heading."""
    title, value = map(_title, titles)
    if title not in _ALONE or value in _KNOWN or not firsts:
        return False
    known = sum(_title(one) != title and _title(one) in _KNOWN for one in firsts)
    if not known and value not in NOBODY and not _is_filled_in(titles[1], _KNOWN[title]):
        return False  # `MRN,Glucose` are two headings
    of_forms = known + sum(_title(one) != title and _title(one) not in _KNOWN and _is_of_forms(one) for one in firsts)
    if value in _LEFT_OUT:
        return True
    # People are called Ward, Park and Best, too, so such words tell nothing alone or among others.
    return len(firsts) <= 2 * of_forms if known else 1 < len(firsts) == of_forms


def _is_filled_in(cell: str, phi_class: PhiClass) -> bool:
    return is_a_name(cell) and _cell(cell, 0, len(cell), phi_class) is not None


def _is_of_forms(cell: str) -> bool:
    """Tell whether a cell is what forms call a field: a word of theirs, and neither `pt-001` nor `Quist, A`."""
    if _RULED.fullmatch(cell) is not None or _OF_SOMEBODY.search(cell) is not None:
        return False
    return cell.isascii() and cell[:1].isalpha() and not may_be_a_name(cell)


def _by_names(rows: Iterable[Sequence[Cell]]) -> Iterator[Labelled]:
    """Yield what stands behind the names of a form's fields."""
    for row in rows:
        if len(row) == 2 and (phi_class := _KNOWN.get(_title(row[0][1]))) is not None:
            yield from _one(row[1], phi_class)


def _by_titles(titles: Iterable[str], rows: Iterable[Sequence[Cell]]) -> Iterator[Labelled]:
    """Yield what stands below the headings of a table."""
    columns = _known(map(_title, titles))
    for row in rows:
        for place, phi_class in columns.items():
            if place < len(row):
                yield from _one(row[place], phi_class)


def _known(titles: Iterable[str]) -> dict[int, PhiClass]:
    """Return the places of those headings, as `_title` returns them, that say of what their columns are."""
    return {place: _KNOWN[one] for place, one in enumerate(titles) if one in _KNOWN}


def _one(placed: Cell, phi_class: PhiClass) -> Iterator[Labelled]:
    """Yield a cell where it identifies somebody."""
    start, text = placed
    if _RULED.fullmatch(text) is None and (cell := _cell(text, 0, len(text), phi_class)) is not None:
        yield Labelled(start + cell[0], start + cell[1], phi_class)


def _is_rule(line: str, mark: str) -> bool:
    """Tell whether a line is drawn below a heading or a row, as Markdown, MySQL and PostgreSQL do."""
    return mark in "|\t" and line[:1] in _OF_RULES and _RULED.fullmatch(line) is not None


def _columns(line: str, mark: str) -> dict[int, PhiClass]:
    """Return what the columns of a heading's line are; none where it is a sentence, or a line of a program."""
    titles = [_title(title) for title in line.split(mark)]
    if (
        len(titles) < 2
        or _OF_CODE.search(line)
        or any(len(one) > _LONGEST_HEADING or one.endswith((".", "?", "!")) for one in titles)
    ):
        return {}
    return _known(titles)


def _title(cell: str) -> str:
    title = cell.strip(_AROUND).lower().replace("_", " ")
    return next((one for one in (title, *of_patients(title)) if one in _KNOWN), title)


def of_patients(words: str) -> tuple[str, ...]:
    """Return what the words for something of a patient's mean, the fullest first: `pt id`, `patient id` and `id`."""
    before = _OF_PATIENTS.match(words)
    return () if before is None else (f"patient {words[before.end() :]}", words[before.end() :])


def _second(row: str, mark: str, columns: dict[int, PhiClass]) -> dict[int, PhiClass]:
    """Return what columns are below a row that may be a heading below another; the same where it is none.

    A cell may be a heading's word, too (`phone`, as how to reach somebody), so one alone takes nothing back.
    """
    if _DIGIT.search(row) is not None or _HEADING.search(f"\n{row}\n") is None or not (own := _columns(row, mark)):
        return columns
    of_people = sum(_title(title) in _ALONE for title in row.split(mark))
    return {**columns, **own} if of_people > 1 else {**own, **columns}


def _cells(row: str, begin: int, mark: str, columns: Mapping[int, PhiClass], *, is_heading: bool) -> Iterator[Labelled]:
    place, in_quotes, start = 0, False, 0
    for at, letter in enumerate(f"{row}{mark}"):
        if letter == '"' and mark != "|":
            in_quotes = not in_quotes
        elif letter == mark and (not in_quotes or at == len(row)):
            is_word = is_heading and _title(row[start:at]) in _KNOWN
            if place in columns and not is_word and (cell := _cell(row, start, at, columns[place])) is not None:
                yield Labelled(begin + cell[0], begin + cell[1], columns[place])
            place, start = place + 1, at + 1


def _cell(row: str, start: int, end: int, phi_class: PhiClass) -> tuple[int, int] | None:
    begin, value = trimmed(row[start:end], start, _AROUND)
    if not 2 <= len(value) <= _LONGEST_CELL:
        return None
    if phi_class is PhiClass.NAME:
        counts = is_somebody(value)
    elif phi_class is PhiClass.ADDRESS:
        counts = is_a_place(value)
    else:
        # A telephone has more digits than what a form says of one; a type of a database and a sentence are no numbers.
        least = 3 if phi_class is PhiClass.PHONE else 1
        counts = len(digits_of(value)) >= least and _TYPE.search(value) is None and len(_WORD.findall(value)) <= _MOST
    title = title_of(value) if phi_class is PhiClass.NAME else 0
    return (begin + title, begin + len(value)) if counts else None
