"""Stop texts over a stream, and characters whose bytes come in several tokens."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serve.speech import Speech
from appliance.serve.stopping import StopBuffer

BROKEN = "\ufffd"
SHIP, SIGN = "\N{SHIP}", "\N{OCTAGONAL SIGN}"  # four bytes each, of which the first two are the same
TEXTS = st.text(f"abEND {SHIP}{SIGN}\u00e9\u6f22") | st.text(st.characters(codec="utf-8", exclude_characters=BROKEN))
CUTS = st.lists(st.integers(0, 80))


def tokens_of(text: str, cuts: Iterable[int]) -> list[bytes]:
    """Cut the bytes of a text."""
    content = text.encode()
    bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    return [content[low:high] for low, high in pairwise(bounds)]


def said_of(speech: Speech, content: bytes) -> tuple[list[str], bool]:
    """Say a text with one byte a token, up to a stop text; return the pieces and whether that was met."""
    pieces = []
    for byte in content:
        piece, stopped = speech.add(bytes([byte]))
        pieces.append(piece)
        if stopped:
            return pieces, True
    return pieces, False


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


def test_a_character_of_four_tokens_comes_whole_with_the_last_one() -> None:
    speech = Speech(())

    pieces, _ = said_of(speech, f"a{SHIP}b".encode())

    assert pieces == ["a", "", "", "", SHIP, "b"]
    assert speech.end() == ("", False)


def test_a_character_before_a_stop_text_comes_whole_and_without_it() -> None:
    pieces, stopped = said_of(Speech(("END",)), f"{SHIP}END{SHIP}".encode())

    assert (pieces, stopped) == (["", "", "", SHIP, "", "", ""], True)


def test_a_character_after_the_beginning_of_a_stop_text_lets_that_go() -> None:
    pieces, stopped = said_of(Speech(("END",)), f"EN{SHIP}".encode())

    assert (pieces, stopped) == (["", "", "", "", "", f"EN{SHIP}"], False)


def test_a_stop_text_of_one_character_is_met_whole_and_never_in_its_first_bytes() -> None:
    pieces, stopped = said_of(Speech((SIGN,)), f"{SHIP}{SIGN}".encode())

    assert (pieces, stopped) == (["", "", "", SHIP, "", "", "", ""], True)


@pytest.mark.parametrize("stop", [(), ("END",), (SIGN,)])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_sequence_that_is_broken_at_the_end_is_one_mark_that_comes_with_the_end(
    stop: tuple[str, ...], kept: int
) -> None:
    speech = Speech(stop)

    pieces, stopped = said_of(speech, b"a" + SHIP.encode()[:kept])

    assert (pieces, stopped) == (["a", *[""] * kept], False)
    assert speech.end() == (BROKEN, False)


def test_what_was_held_for_a_stop_text_comes_before_a_sequence_that_is_broken_at_the_end() -> None:
    speech = Speech(("END",))

    pieces, _ = said_of(speech, b"EN" + SHIP.encode()[:3])

    assert "".join(pieces) == ""
    assert speech.end() == (f"EN{BROKEN}", False)


@given(text=TEXTS, cuts=CUTS)
def test_any_cutting_of_the_bytes_gives_each_character_whole_as_soon_as_it_is_there(text: str, cuts: list[int]) -> None:
    speech = Speech(())
    seen, read = "", b""
    for token in tokens_of(text, cuts):
        piece, _ = speech.add(token)
        seen, read = seen + piece, read + token

        assert BROKEN not in piece
        assert seen == read.decode(errors="ignore")

    assert seen == text
    assert speech.end() == ("", False)


@given(text=TEXTS, cuts=CUTS, stop=st.sampled_from(["END", "ab", SIGN, f"{SHIP}a", f"a{SHIP}"]))
def test_any_cutting_of_the_bytes_gives_the_text_before_the_first_stop(text: str, cuts: list[int], stop: str) -> None:
    speech = Speech((stop,))
    pieces, is_stopped = [], False
    for token in tokens_of(text, cuts):
        piece, is_stopped = speech.add(token)
        pieces.append(piece)
        if is_stopped:
            break
    else:
        pieces.append(speech.end()[0])

    assert not any(BROKEN in piece for piece in pieces)
    assert "".join(pieces) == text.partition(stop)[0]
    assert is_stopped == (stop in text)
