"""The promoter's counter for automation keys: who asks is said by the key in a message, and by nothing else.

automation-make{name,person,password,scopes,days,purpose?,dry_run?} -> {key,text}     at the machine only
automation-revoke{name,person,password,reason,dry_run?} -> {key}                      at the machine only
automation-keys -> {keys:[...]}
automation-use{key,deed,about?} -> {key}                                             the page's door only, as the rest
automation-may{key,deed,says_line?} -> {key}           whether it may, before what it asks for is read; records no use
automation-request{key,model_digest,meaning,beside?,replaces?} -> {request,key}    with its newest evidence
automation-hold{key,reason} -> {promotion,key}

Promises: no other message takes an automation key's name where a person's belongs, from whatever door; that one tried
is recorded.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from appliance.errors import AutomationRefusedError
from appliance.promote import actors
from appliance.promote.automation import USUAL_DAYS, AutomationKeys
from appliance.promote.destination import Said
from appliance.promote.people import SitePerson, id_from
from appliance.promote.promoter import Promoter
from appliance.promote.rollout import Rollout
from appliance.wire import Peer
from media import canonical

AT_THE_MACHINE: Final = frozenset({"automation-make", "automation-revoke"})
"""What neither the page nor a key reaches."""
ON_THE_PAGE: Final = frozenset({"automation-use", "automation-may", "automation-request", "automation-hold"})
"""What a key comes with: it reaches the promoter through the page's door."""
_PEOPLES: Final = ("person", "by", "requested_by")
_MOST_SCOPES: Final = 8
_MOST_VOUCHERS: Final = 8

Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]


def answers(
    keys: AutomationKeys, promoter: Promoter, rollout: Rollout, require_login: Callable[[Fields], SitePerson]
) -> dict[str, Answer]:
    """Return what answers each message.

    Args:
        keys: The site's automation keys.
        promoter: Takes requests.
        rollout: Holds a canary.
        require_login: Returns the person whose password a message brings, or raises.
    """

    def make(_: Peer, untrusted: Fields) -> dict[str, Any]:
        person = require_login(untrusted)
        scopes = canonical.array(untrusted.get("scopes", []), "scopes", most=_MOST_SCOPES)
        key, text = keys.make(
            name=_text(untrusted, "name"),
            person=person.id,
            scopes=[canonical.text(one, "scopes") for one in scopes],
            days=canonical.integer(untrusted.get("days", USUAL_DAYS), "days"),
            purpose=canonical.text(untrusted.get("purpose", ""), "purpose", may_be_empty=True),
            dry_run=untrusted.get("dry_run") is True,
        )
        return {"key": key.to_json(), "text": text}

    def revoke(_: Peer, untrusted: Fields) -> dict[str, Any]:
        person = require_login(untrusted)
        ended = keys.revoke(
            name=_text(untrusted, "name"),
            person=person.id,
            reason=_text(untrusted, "reason"),
            dry_run=untrusted.get("dry_run") is True,
        )
        return {"key": ended.to_json()}

    def use(_: Peer, untrusted: Fields) -> dict[str, Any]:
        about = canonical.text(untrusted.get("about", ""), "about", may_be_empty=True)
        return {"key": keys.use(_text(untrusted, "key"), _text(untrusted, "deed"), about=about).to_json()}

    def may(_: Peer, untrusted: Fields) -> dict[str, Any]:
        key, deed = _text(untrusted, "key"), _text(untrusted, "deed")
        return {"key": keys.require_may(key, deed, says_line=untrusted.get("says_line") is True).to_json()}

    def request(_: Peer, untrusted: Fields) -> dict[str, Any]:
        digest = canonical.sha256_hex(untrusted.get("model_digest"), "model_digest")
        said = Said.of_message(untrusted)
        key = keys.use(_text(untrusted, "key"), "request", about=digest, says_line=said != Said())
        found = promoter.validated(digest)
        made = promoter.request(
            model_digest=digest,
            evidence_digest=found.evidence_digest,
            policy_digest=found.policy_digest,
            meaning=_text(untrusted, "meaning"),
            requested_by=key.person,
            key=key,
            said=said,
        )
        return {"request": made.to_json(), "key": key.to_json()}

    def hold(_: Peer, untrusted: Fields) -> dict[str, Any]:
        key = keys.use(_text(untrusted, "key"), "hold")
        held = rollout.hold_for(key, reason=_text(untrusted, "reason"))
        return {"promotion": held.to_json(), "key": key.to_json()}

    return {
        "automation-make": make,
        "automation-revoke": revoke,
        "automation-keys": lambda *_: {"keys": [one.to_json() for one in keys.all_made()]},
        "automation-use": use,
        "automation-may": may,
        "automation-request": request,
        "automation-hold": hold,
    }


def require_people(keys: AutomationKeys, do: str, untrusted: Fields) -> None:
    """Return when a message names no automation key where a person belongs; messages with a key are judged by that.

    Raises:
        AutomationRefusedError: It does.
        ConflictError: Somebody would be enrolled under the name of a key.
    """
    if do in ON_THE_PAGE:
        return
    named = [*_named(untrusted), *([str(untrusted.get("name"))] if do == "enrol" else [])]
    if any(actors.is_automation(one) for one in named):
        keys.refuse("AUTO-4", do)
        raise AutomationRefusedError(
            what="an automation key is no person",
            why=f"AUTO-4: {do[:40]} names one where a person belongs",
            fix="let an enrolled person do it",
        )
    if do == "enrol":
        person, name = untrusted.get("person"), untrusted.get("name")
        keys.require_nobodys_name(str(person or id_from(str(name or ""))))


def _named(untrusted: Fields) -> Iterator[str]:
    yield from (one for name in _PEOPLES if isinstance(one := untrusted.get(name), str))
    vouchers = untrusted.get("vouchers")
    for voucher in vouchers[:_MOST_VOUCHERS] if isinstance(vouchers, list) else ():
        if isinstance(voucher, Mapping):
            yield str(voucher.get("person"))


def _text(untrusted: Fields, name: str) -> str:
    return canonical.text(untrusted.get(name), name)
