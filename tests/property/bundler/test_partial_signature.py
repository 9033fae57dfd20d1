"""A person's signature file comes from somewhere else: any bytes are one, or one of our errors."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from bundler.plan import ReleasePlan
from bundler.sign import PartialSignature
from bundler.volumechoice import VolumeChoice
from media.canonical import dumps
from media.errors import SealiftError

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", max_size=4), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("format", "person", "release", "serial", "signs", "signatures", "rooms", "seals", "sites", "kinds", "targets")
FILES = st.dictionaries(st.sampled_from(FIELDS), ANY_JSON, max_size=8).map(dumps) | st.binary(max_size=200)


@given(FILES)
def test_what_reads_files_of_the_work_folder_raises_only_our_errors(untrusted: bytes) -> None:
    for read in (PartialSignature.from_bytes, ReleasePlan.from_bytes, VolumeChoice.from_bytes):
        with contextlib.suppress(SealiftError):
            read(untrusted)
