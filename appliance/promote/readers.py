"""Who reads what is promoted here: the boxes and nodes that follow it, by what they say of themselves.

A release that does not know a record's format loads nothing from then on. So no further line of production is opened
where one of these might not read it, and no box is paired that does not read what was promoted before. A standby says
it in the card that people compared when the boxes were paired; a node, in the record of its last start.
"""

from collections.abc import Mapping
from typing import Final

from appliance import formats
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.lives import STARTED
from appliance.config import Config
from appliance.errors import ConflictError, PairingRefusedError
from appliance.promote.record import LINE_FORMAT
from appliance.promote.statement import LINE_FORMAT as SIGNED_FORMAT
from appliance.standby.card import BoxCard
from appliance.standby.pairing import Relation, paired
from media.errors import MalformedError

OF_LINES: Final[Mapping[str, int]] = {formats.PROMOTION: LINE_FORMAT, formats.STATEMENT: SIGNED_FORMAT}
"""What opening a further line writes."""
_PROMOTIONS: Final = "promotion."


def written(ledger: Ledger) -> Mapping[str, int]:
    """Return the formats that promotions of this site have so far, beyond those that every release reads.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    return OF_LINES if any("line" in leaf.body for leaf in ledger.find(kind=_PROMOTIONS, limit=EVERY)) else {}


def require_card(ledger: Ledger, card: BoxCard) -> None:
    """Return when a box that is to follow this one, or to be followed, says that it reads what was promoted here.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
        PairingRefusedError: Its card does not say so.
    """
    missing = formats.unread(card.reads, written(ledger))
    if missing:
        raise PairingRefusedError(
            what=f"{card.name} does not say that it reads what was promoted here",
            why=f"its card names no {', no '.join(missing)}: several models are, or were, in production",
            fix="install a release there that reads it, and bring a new card of it: `sealift standby card`",
        )


def require_readable(config: Config, ledger: Ledger) -> None:
    """Return when every box and every node that takes part says that it reads what opening a further line writes.

    Raises:
        ConflictError: One of them does not, or this box may yet go back to the release before.
        LedgerUnavailableError: The ledger does not answer.
    """
    for one in paired(config.at):
        if one.relation is Relation.STANDBY and (missing := formats.unread(one.peer.reads, OF_LINES)):
            raise _unread(
                f"{one.peer.name} is paired as a standby, and its card does not say that it reads {', '.join(missing)}",
                "install this release on both, make both cards anew and pair them again: docs/operator/standby.md",
            )
    require_readable_here(config, ledger)


def require_readable_here(config: Config, ledger: Ledger) -> None:
    """Return when this box and every node of it say that they read what opening a line writes, whatever others do.

    A site with one node answers for itself. Of several, each counts that started since a node recorded alone.

    Raises:
        ConflictError: A node does not, or this box may yet go back to the release before.
        LedgerUnavailableError: The ledger does not answer.
    """
    if config.at.trial.exists():
        raise _unread(
            "this box's release is on trial, and the one before, to which it may go back by itself, may not read"
            f" promotions of format {LINE_FORMAT}",
            "wait until the install has ended: `sealift status`",
        )
    if not config.database.node:
        return
    found: dict[str, Mapping[str, int]] = {}
    for start in ledger.find(kind=STARTED, limit=EVERY):
        if not start.via.node:
            break
        found.setdefault(start.via.node, _said(start.body.get(formats.FIELD)))
    found.setdefault(config.database.node, {})
    silent = sorted(name for name, reads in found.items() if formats.unread(reads, OF_LINES))
    if silent:
        raise _unread(
            f"several nodes answer for this site, and {', '.join(silent)} did not say that it reads promotions of"
            f" format {LINE_FORMAT} when it started",
            "install this release on that node and start its ledger again: docs/operator/postgresql.md, several nodes",
        )


def _said(untrusted: object) -> Mapping[str, int]:
    try:
        return formats.parse(untrusted, formats.FIELD)
    except MalformedError:
        return {}


def _unread(why: str, fix: str) -> ConflictError:
    return ConflictError(
        what="no further line of production is opened here",
        why=f"{why}; a release that does not read them would load nothing afterwards",
        fix=fix,
    )
