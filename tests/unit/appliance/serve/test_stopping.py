"""Stop texts over a stream."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.serve.stopping import StopBuffer


def test_a_stop_text_cut_over_two_pieces_ends_the_answer_before_it() -> None:
    buffer = StopBuffer(("END",))

    first, stopped_first = buffer.add("one EN")
    second, stopped_second = buffer.add("D two")

    assert (first, stopped_first) == ("one ", False)
    assert (second, stopped_second) == ("", True)


def test_what_looked_like_a_stop_text_comes_out_at_the_end() -> None:
    buffer = StopBuffer(("END",))

    text, _ = buffer.add("the EN")

    assert text + buffer.flush() == "the EN"


@given(
    text=st.text(alphabet="abEND "), cuts=st.lists(st.integers(0, 40)), stop=st.sampled_from(["END", "EN", "aba", "ab"])
)
def test_any_cutting_gives_the_text_before_the_first_stop(text: str, cuts: list[int], stop: str) -> None:
    buffer = StopBuffer((stop,))
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    seen = ""
    for low, high in pairwise(bounds):
        piece, stopped = buffer.add(text[low:high])
        seen += piece
        if stopped:
            break
    else:
        seen += buffer.flush()

    assert seen == text.partition(stop)[0]
