"""What is found in vCards and calendars, and what stays."""

from appliance.phi.detect import PatternDetector
from appliance.phi.fieldscards import identifiers_in


def _found(text: str) -> list[tuple[str, str]]:
    return [(one.phi_class.value, text[one.start : one.end]) for one in identifiers_in(text)]


def test_properties_of_a_card_say_what_they_hold() -> None:
    card = (
        "BEGIN:VCARD\r\nVERSION:3.0\r\nN:Quist;Ada;;;\r\nitem1.ADR;TYPE=HOME:;;12 Main Street;Spring\r\n"
        " field;IL;62704;USA\r\n"
        'TEL;TYPE="cell,voice":(212) 555-0134\r\nBDAY:19700102\r\nNOTE:likes tea\r\nEND:VCARD\r\nN:5;6\r\n'
    )

    assert _found(card) == [
        ("name", "Quist"),
        ("name", "Ada"),
        ("address", "12 Main Street"),
        ("address", "Spring"),
        ("address", "field"),
        ("address", "IL"),
        ("address", "62704"),
        ("address", "USA"),
        ("phone", "(212) 555-0134"),
        ("date", "19700102"),
    ]


def test_those_who_are_asked_to_an_appointment_are_named_by_its_parameters() -> None:
    event = (
        'BEGIN:VEVENT\nDTSTART:20260105T090000Z\nATTENDEE;ROLE=CHAIR;CN="Ada Quist":mailto:ada@example.org\nEND:VEVENT'
    )

    assert _found(event) == [("date", "20260105T090000Z"), ("name", "Ada Quist")]
    assert {event[one.start : one.end] for one in PatternDetector().find(event)} >= {"Ada Quist", "ada@example.org"}


def test_elsewhere_such_lines_say_nothing() -> None:
    assert not _found("N:Quist;Ada\nTEL:12345\nBEGIN:VCARDS no card")
    assert not _found("BEGIN:VCARD\nVERSION:4.0\nN:;;;;\nTEL:\nEND:VCARD")
