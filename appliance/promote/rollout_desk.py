"""The promoter's counter for rollouts and for the bad night; doors and passwords are the desk's.

canary-start{statement_sha256,percent,hours,watch_hours} -> {promotion}
canary-hold | canary-resume | canary-abort{person,reason,password?} -> {promotion}
canary-cutover{person,reason,keeps_before,password?} -> {promotion}
canary-judge -> {canary,beside,watch,model_digest,lines?,changed}  reads on and decides; whoever asks decides nothing
canary-standing -> {canary,beside,watch,model_digest,lines?}
watch-keep{person,reason,line?,password?} -> {sequence}   keeps what the watch found worse
caller-stop | caller-free{what,name,person,reason,password?} -> {sequence}
review{sequence,person,note,password?} -> {sequence}
reviews -> {open:[...]}
"""

from collections.abc import Callable, Mapping
from typing import Any

from appliance.promote.record import Promotion
from appliance.promote.reviews import Reviews
from appliance.promote.rollout import Rollout
from appliance.wire import Peer
from media import canonical

Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]
ClassOf = Callable[[Peer, Fields], str]


def answers(rollout: Rollout, reviews: Reviews, class_of: ClassOf) -> dict[str, Answer]:
    """Return what answers each message.

    Args:
        rollout: Canaries.
        reviews: Deeds of one person.
        class_of: Proves who decides, by the door or by a password; raises where it cannot.
    """

    def decided(peer: Peer, untrusted: Fields) -> dict[str, str]:
        person, known = _text(untrusted, "person"), class_of(peer, untrusted)
        return {"person": person, "person_class": known, "reason": _text(untrusted, "reason")}

    def start(_: Peer, untrusted: Fields) -> dict[str, Any]:
        numbers = {name: canonical.integer(untrusted.get(name), name) for name in ("percent", "hours", "watch_hours")}
        statement = canonical.sha256_hex(untrusted.get("statement_sha256"), "statement_sha256")
        return {"promotion": rollout.start(statement, **numbers).to_json()}

    def step(change: Callable[..., Promotion]) -> Answer:
        return lambda peer, untrusted: {"promotion": change(**decided(peer, untrusted)).to_json()}

    def cut_over(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        keeps = untrusted.get("keeps_before") is True
        return {"promotion": rollout.cut_over(**decided(peer, untrusted), keeps_before=keeps).to_json()}

    def keep(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        name = _text(untrusted, "line") if untrusted.get("line") else ""
        return {"sequence": rollout.afterwards.keep(**decided(peer, untrusted), name=name)}

    def caller(change: Callable[..., int]) -> Answer:
        def answer(peer: Peer, untrusted: Fields) -> dict[str, Any]:
            named = {"what": _text(untrusted, "what"), "name": _text(untrusted, "name")}
            return {"sequence": change(**named, **decided(peer, untrusted))}

        return answer

    def review(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        sequence = canonical.integer(untrusted.get("sequence"), "sequence")
        person, note = _text(untrusted, "person"), _text(untrusted, "note")
        known = class_of(peer, untrusted)
        return {"sequence": reviews.review(sequence=sequence, person=person, person_class=known, note=note)}

    return {
        "canary-start": start,
        "canary-hold": step(rollout.hold),
        "canary-resume": step(rollout.resume),
        "canary-abort": step(rollout.abort),
        "canary-cutover": cut_over,
        "watch-keep": keep,
        "canary-judge": lambda *_: rollout.judge(),
        "canary-standing": lambda *_: rollout.standing(),
        "caller-stop": caller(reviews.stop),
        "caller-free": caller(reviews.free),
        "review": review,
        "reviews": lambda *_: {"open": [one.to_json() for one in reviews.open()]},
    }


def _text(untrusted: Fields, name: str) -> str:
    return canonical.text(untrusted.get(name), name)
