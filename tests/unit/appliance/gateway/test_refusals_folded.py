"""A box that stands by records who asks it, and lets nobody without a key fill the disk of the records."""

from typing import Any

from appliance.gateway.record import Refusal, Refusals
from media.clock import FixedClock
from tests.support.gateway import NOW


class _Recorder:
    def __init__(self) -> None:
        self.counted: list[int] = []

    def refused(self, _refusal: Refusal, *, repeated: int = 1) -> None:
        self.counted.append(repeated)


def test_a_flood_at_a_box_that_stands_by_is_one_record_a_second() -> None:
    recorder: Any = _Recorder()
    refusals = Refusals(recorder, FixedClock(NOW))
    refusal = Refusal(request_id="req_a", endpoint="chat", key_id=None, status=503, code="not_active")

    for _ in range(100):
        refusals.add(refusal, caller="address 192.0.2.1")
    refusals.close()

    assert recorder.counted == [1, 99]
