"""What messages of HL7 version 2 say of people is found by segment and field; results, codes and forms stay."""

import time

import pytest

from appliance.phi.fieldshl7 import identifiers_in
from tests.support.masked import left_of


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n> "])
@pytest.mark.parametrize("mark", ["|", "\t", "\u21e5"])
@pytest.mark.parametrize(
    ("segment", "left"),
    [
        (
            "PID|1|918|919^^^ACME^MR~920^^^ACME^PI||zorkquist^qlpto^M^JR||19620314|F",
            "PID|1|@|@^^^ACME^MR~@^^^ACME^PI||@^@^M^JR||@|F",
        ),
        (
            'PID|1||918||van zork&van&zork^al||""|F|||5 Erewhon^Flat 2^Dun^VIC^3999^AUS||5550134^PRN|^^^^^03^5550135',
            'PID|1||@||@&@&@^@||""|F|||@^@^@^VIC^@^AUS||@^PRN|^^^^^03^@',
        ),
        ("PID|1||918|||||||||||||||A99-1|418629037|Z99182^VIC", "PID|1||@|||||||||||||||@|@|@^VIC"),
        ("NK1|1|quist^wurm|SPO|5 Erewhon^^Dun|5550134", "NK1|1|@^@|SPO|@^^@|@"),
        ("PV1|1|I|7B^12^1||V91||1234^zorkdoc^qlpto^^^DR^MD", "PV1|1|I|7B^12^1||@||@^@^@^^^DR^MD"),
        ("PV1|1|I|||||||||||||||||A918|||||||||||||||||||||||||202401031210|20240105", None),
        ("IN1|1|PPO|99|Acme||||G-12||||||||quist^al|SELF|19620314", "IN1|1|PPO|99|Acme||||@||||||||@^@|SELF|@"),
        ("GT1|1|918|quist^al||5 Erewhon^^Dun|5550134", "GT1|1|@|@^@||@^^@|@"),
        ("MRG|918^^^ACME||919||||quist^al", "MRG|@^^^ACME||@||||@^@"),
        ("ORC|RE|A12|B45|||||||||1234^zorkdoc^qlpto", "ORC|RE|@|@|||||||||@^@^@"),
        ("OBR|1|A12|B45|718-7^Hemoglobin^LN|||202401031210", "OBR|1|@|@|718-7^Hemoglobin^LN|||@"),
        ("EVN|A01|202401031210||||20240103121030.123+0100", "EVN|A01|@||||@"),
    ],
)
def test_what_a_field_of_a_segment_holds_is_found_whatever_parts_fields_and_lines(
    segment: str, left: str | None, mark: str, end: str
) -> None:
    wanted = left or segment.replace("A918", "@").replace("202401031210", "@").replace("20240105", "@")
    text = f"MSH|^~\\&|LAB{end}{segment}{end}NTE|1||stays"

    assert left_of(text.replace("|", mark), "@") == text.replace(segment, wanted).replace("|", mark)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('msg = "PID|1||918||quist^al"\nn = 918', 'msg = "PID|1||@||@^@"\nn = 918'),
        ("send('PID|1||918||quist^al', 'PV1|1|I')", "send('PID|1||@||@^@', 'PV1|1|I')"),
        ('{"m": "MSH|^~\\\\&|A\rPID|1||918||quist^al"}', '{"m": "MSH|^~\\\\&|A\rPID|1||@||@^@"}'),
        ("PID|1||918||quist^al\\nPV1|1|I\\rNTE|2", "PID|1||@||@^@\\nPV1|1|I\\rNTE|2"),
        # A quote within a name, and before what a program says behind a segment.
        ("PID|1||918||O' Zork^al||19510403", "PID|1||@||@^@||@"),
        ("'PID|1||918||quist^al' if zork else 1", "'PID|1||@||@^@' if zork else 1"),
        ("\x0bMSH|^~\\&|LAB|ACME\rPID|||918", "\x0bMSH|^~\\&|LAB|ACME\rPID|||@"),
    ],
)
def test_a_segment_in_a_program_and_behind_the_sign_of_a_message_is_read(text: str, left: str) -> None:
    assert left_of(text, "@") == left


@pytest.mark.parametrize(
    "text",
    [
        "OBX|1|NM|2345-7^Glucose^LN||142|mg/dL|70-99|H|||F",
        "DG1|1||E11.65^Type 2 diabetes mellitus^I10",
        "AL1|1|DA|1191^Aspirin^RX|SV|Hives",
        "RXE|^^^|1191^Aspirin 81^NDC|81||mg",
        'PID|1||""||^^^^||""|F|||^^^VIC^^AUS',
        "PID||||||||||",
        "CTD\tLupus\tScleroderma\nRA\tHands\tFeet",
        "Stage|Team|Product\nPRD|Billing|Kafka\nSCH|4711|4712",
        "field PID|5|XPN|names, and the PID|3 of each",
        "| PID | 918 | quist |",
        "kill $PID||exit 918",
        "MSH|^~\\&|LAB|ACME|EHR|ACME|||ORU^R01|918|P|2.5.1",
    ],
)
def test_results_codes_and_what_is_no_message_stay(text: str) -> None:
    assert list(identifiers_in(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "PID|" * 25000,
        "\nPID|" * 20000,
        "\nPID|" + "^" * 100000,
        "\nPID|||" + "~a1b^" * 20000,
        ">PID|" * 20000,
        "'PID|" * 20000,
    ],
)
def test_a_message_of_any_form_takes_time_in_proportion(text: str) -> None:
    began = time.process_time()
    list(identifiers_in(text))

    assert time.process_time() - began < 1
