"""Figures that leave a site: closed names and whole numbers; what is of another form is refused by whoever reads it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import canonical
from media.errors import MalformedError, MediaError, UnsupportedFormatError
from media.sitefigures import GROUPS, SiteFigures

FIGURES: dict[str, Any] = {
    "site": "demo-clinic",
    "at": "2026-11-20T08:00:00Z",
    "since": "2026-10-01T00:00:00Z",
    "until": "2027-01-01T00:00:00Z",
    "counts": {**{group: {} for group in GROUPS}, "days": {"2026-11-20": 4}, "refusals": {"rate-limited": 2}},
    "numbers": [{"name": "sealift_disk_size_bytes", "labels": {"place": "state"}, "thousandths": 4000}],
}


def test_what_was_written_is_read() -> None:
    made = SiteFigures.of(FIGURES)

    found, value = SiteFigures.from_payload(made.to_payload(ledger={"sequence": 1}))

    assert found == made
    assert value["ledger"] == {"sequence": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "Ward 7"},
        {"at": "yesterday"},
        {"more": 1},
        {"counts": {}},
        {"counts": {**FIGURES["counts"], "people": {}}},
        {"counts": {**FIGURES["counts"], "days": {"Dana Doe": 1}}},
        {"counts": {**FIGURES["counts"], "days": {"": 1}}},
        {"counts": {**FIGURES["counts"], "days": {"2026-11-20": -1}}},
        {"counts": {**FIGURES["counts"], "days": {"2026-11-20": "4"}}},
        {"counts": {**FIGURES["counts"], "days": {f"d{number}": 1 for number in range(513)}}},
        {"numbers": [{"name": "up", "labels": {}, "thousandths": 1}]},
        {"numbers": [{"name": "sealift_x", "labels": {"place": "Ward 7"}, "thousandths": 1}]},
        {"numbers": [{"name": "sealift_x", "labels": {"The Place": "state"}, "thousandths": 1}]},
        {"numbers": [{"name": "sealift_x", "labels": {}}]},
        {"numbers": [{"name": "sealift_x", "labels": {}, "thousandths": 2**53}]},
    ],
)
def test_what_is_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MediaError):
        SiteFigures.of({**FIGURES, **changes})


@given(st.binary(max_size=200))
def test_any_bytes_are_figures_or_our_error(untrusted: bytes) -> None:
    with pytest.raises(MediaError):
        SiteFigures.from_payload(untrusted)


@given(
    st.sampled_from([*SiteFigures.of(FIGURES).fields, "ledger"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    ),
)
def test_any_value_in_any_field_is_read_or_our_error(name: str, value: Any) -> None:
    payload = canonical.dumps({**SiteFigures.of(FIGURES).fields, "ledger": None, name: value})

    try:
        found, _ = SiteFigures.from_payload(payload)
    except MediaError:
        return
    assert SiteFigures.from_payload(found.to_payload(ledger=None))[0] == found


def test_another_type_and_a_later_format_are_refused() -> None:
    fields = canonical.loads(SiteFigures.of(FIGURES).to_payload(ledger=None))

    with pytest.raises(MalformedError, match="malformed"):
        SiteFigures.from_payload(canonical.dumps({**fields, "type": "sealift/receipt"}))
    with pytest.raises(UnsupportedFormatError):
        SiteFigures.from_payload(canonical.dumps({**fields, "format": 2}))
