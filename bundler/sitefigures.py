"""A site's figures, believed only when the key of its ledger vouches for them (EXP-12)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bundler import ledgerkeys
from bundler.register import Entry
from bundler.siteword import Said
from media import limits, sitefigures
from media.sitefigures import SiteFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class BelievedFigures:
    """What a site counted, and who vouches for that: signature, ledger, or both."""

    fields: Mapping[str, Any]
    vouched_by: tuple[str, ...]


def read_figures(entries: Sequence[Entry], untrusted: bytes) -> BelievedFigures:
    """Return a site's figures, once the site's registered ledger key vouches for them.

    Args:
        entries: Of the register.
        untrusted: The file that came.

    Raises:
        UsageError: The key of the site's ledger is not known.
        LimitExceededError, MalformedError: They are no figures.
        UnsupportedFormatError: A later version of the format.
        BadSignatureError: Nothing vouches for them, or what does is wrong.
    """
    said = Said.opened(
        untrusted, payload_type=sitefigures.PAYLOAD_TYPE, what="The figures", max_bytes=limits.FIGURES_BYTES + 2**20
    )
    found, value = SiteFigures.from_payload(said.payload)
    site = str(found.fields["site"])
    keys = ledgerkeys.required(entries, site, why="figures prove nothing without it")
    return BelievedFigures(fields=found.fields, vouched_by=said.require_vouched(value, keys, kind="figures").by)
