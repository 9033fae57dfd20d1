"""T1: any bit, byte or stretch that changes in transit is refused; in custody it stops for a person."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media import layout
from tests.support.medium import make_medium
from tests.support.receiving import copy_here


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_any_change_of_any_file_is_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        medium = make_medium(Path(folder) / "m")
        files = sorted(path for volume in medium.volumes for path in volume.rglob("*") if path.is_file())
        place = files[data.draw(st.integers(0, len(files) - 1), label="file")]
        content = place.read_bytes()
        at = data.draw(st.integers(0, len(content) - 1), label="at")
        change = data.draw(st.sampled_from(["flip", "insert", "delete"]), label="change")
        if change == "flip":
            bit = 1 << data.draw(st.integers(0, 7), label="bit")
            content = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
        elif change == "insert":
            content = content[:at] + data.draw(st.binary(min_size=1, max_size=40), label="more") + content[at:]
        else:
            content = content[:at] + content[at + data.draw(st.integers(1, 40), label="less") :]
        place.write_bytes(content)

        code, _ = copy_here(medium, None)

        in_custody = layout.CUSTODY in place.relative_to(medium.folder).parts
        assert code == 26 if in_custody else 10 <= code <= 22
