"""`sealift standby lease`, `take-over`, `hand-over`: who serves, and how people change that."""

from typing import Annotated, Any

import typer

from appliance.actions.standby import drilling
from appliance.cli import context as shared
from appliance.cli.context import Context
from appliance.cli.opened import ledger_of
from appliance.errors import ApprovalRefusedError, PrivilegeError, WireError
from appliance.promote.policybook import PolicyBook
from appliance.standby import voters
from appliance.standby.service import DOOR
from appliance.verify.freshness import different
from appliance.wire import Line
from media.errors import SealiftError

_LEAST_PEOPLE = 2
_START = (
    "once this box is paired and its site file installed, as root: systemctl enable --now sealift-standby.socket"
    " sealift-standby.service; where it is enabled, `journalctl -u sealift-standby` says why"
)
_NO_LEASE = (
    "this box keeps no lease (standby.lease is false): it answers whoever asks it, and neither box takes over by itself"
)


def add(commands: typer.Typer) -> None:
    """Add the commands."""
    commands.command("lease")(_lease)
    commands.command("take-over")(_take_over)
    commands.command("hand-over")(_hand_over)


def _lease(context: typer.Context) -> None:
    """Say which box serves, and until when this one may without asking again."""
    own = shared.of(context)
    _show(own, asked(own, "lease"))


def _take_over(
    context: typer.Context,
    by: Annotated[list[str] | None, typer.Option("--by", metavar="NAME", help="Who you are; give it twice.")] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "",
    other_is_off: Annotated[
        bool,
        typer.Option("--other-is-off", help="You have seen that the other box is switched off or off the network."),
    ] = False,
) -> None:
    """Serve from now on: two people answer for it that the other box does not."""
    own = shared.of(context)
    named = by or []
    if different(named) < _LEAST_PEOPLE or not reason.strip() or not other_is_off:
        raise ApprovalRefusedError(
            what="two people take the service over, with a reason, when the other box is off",
            why=f"{len(named)} named{'' if other_is_off else ', and nobody said that the other box is off'}",
            fix="switch it off or pull its cable; then --by NAME --by NAME --reason TEXT --other-is-off",
        )
    facts = asked(own, "take-over", by=named, reason=reason)
    _show(own, {**facts, "held_back": _held_back(own)})


def _hand_over(
    context: typer.Context,
    to: Annotated[str, typer.Argument(metavar="BOX", help="Name of the other box.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who you are.")],
    drill: Annotated[bool, typer.Option("--drill", help="Record the move as a drill of the fail-over.")] = False,
) -> None:
    """Let the other box serve from now on; requests in flight here end first where they are short."""
    own = shared.of(context)
    facts = asked(own, "hand-over", to=to, by=by)
    if drill:
        with ledger_of(own) as ledger:
            drilling.moved(ledger, peer=to, by=by, term=int(facts["term"]))
    _show(own, facts)


def _held_back(own: Context) -> list[str] | None:
    """Return the thresholds of the other box that wait here; None while the ledger does not answer."""
    try:
        with ledger_of(own) as ledger:
            held = PolicyBook.of(ledger).held
    except SealiftError:
        return None  # who serves does not wait for the ledger
    return [str(held[origin].body.get("name")) for origin in sorted(held)]


def asked(own: Context, do: str, **fields: Any) -> dict[str, Any]:
    """Return what the process says that keeps the lease.

    Raises:
        PrivilegeError: This user may not ask.
        WireError: It does not run, or does not answer.
    """
    line = Line(own.config.at.socket(DOOR), timeout_seconds=30.0)
    try:
        return line.call(do, **fields)
    except WireError as error:
        if isinstance(error.__cause__, PermissionError):
            raise PrivilegeError(
                what="this user may not ask about the lease", why=error.why, fix="run it as root, with sudo"
            ) from error
        raise WireError(what="what keeps the lease does not answer", why=error.why, fix=_START) from error
    finally:
        line.close()


def _show(own: Context, facts: dict[str, Any]) -> None:
    names = ", ".join(facts.get("held_back") or ())
    waits = f"\nthresholds of the other box wait here ({names}): the stricter of both boxes' hold" if names else ""
    silent = "".join(_silent(one) for one in facts.get("voters", ()) if not one["answers"])
    section = own.config.standby
    if section.peer and not section.lease:  # it grants nobody who does not ask, and callers are answered without
        own.result(facts, _NO_LEASE)
        return
    own.result(facts, _standing(facts) + silent + waits)


def _standing(facts: dict[str, Any]) -> str:
    this, holder = f"this box, {facts['me']},", facts["holder"] or "nobody"
    if facts.get("is_witness"):
        return f"{this} is a witness: it grants and never serves; {holder} holds term {facts['term']}"
    if facts["serving"]:
        how = "alone, nobody grants" if facts["alone"] else f"for {facts['seconds_left']} s more without asking"
        return f"{this} serves ({how}); term {facts['term']}"
    follows = "it would follow by itself" if facts["would_follow"] else "it would not follow by itself"
    why = f": {facts['hindered']}" if facts.get("hindered") else ""
    return f"{this} does not serve; {holder} holds term {facts['term']}; {follows}{why}"


def _silent(voter: dict[str, Any]) -> str:
    return "\n" + voters.silence(voter["name"], voter["silent_seconds"], is_witness=voter["witness"])
