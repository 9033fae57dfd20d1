"""The promoter's counter for judgements of sampled answers that people hand in on the page; passwords are the desk's.

answers-judged{model_digest,sheet,form_sha256,counts,person,password?} -> {sequence}

The page may record nothing but its own doings, so that a judgement which opens a gate rests on the person's password,
checked here, and not on the page's word alone. The counts are the page's, as it sees sheet and form anyway.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from appliance.audit.facts import EVERY
from appliance.errors import ConflictError
from appliance.promote.books import Books
from appliance.promote.sheet import JUDGED, Judgement
from appliance.wire import Peer
from media import canonical

Fields = Mapping[str, Any]
Answer = Callable[[Peer, Fields], dict[str, Any]]
ClassOf = Callable[[Peer, Fields], str]
_MOST_POINTS: Final = 26 * 200


def answers(books: Books, class_of: ClassOf) -> dict[str, Answer]:
    """Return what answers each message.

    Args:
        books: People and ledger.
        class_of: Proves who judges, by the door or by a password; raises where it cannot.
    """

    def judged(peer: Peer, untrusted: Fields) -> dict[str, Any]:
        person = canonical.text(untrusted.get("person"), "person")
        known = class_of(peer, untrusted)
        people, _ = books.catch_up()
        people.require_active(person)
        version = canonical.sha256_hex(untrusted.get("model_digest"), "model_digest")
        sheet = canonical.sha256_hex(untrusted.get("sheet"), "sheet")
        _require_current(books, version, sheet)
        names = tuple(Judgement.__dataclass_fields__)
        counts = canonical.exact_keys(untrusted.get("counts"), names, what="counts")
        body = {
            "model_digest": version,
            "sheet": sheet,
            "person": person,
            "person_class": known,
            "form_sha256": canonical.sha256_hex(untrusted.get("form_sha256"), "form_sha256"),
            **{name: canonical.integer(counts[name], f"counts.{name}", maximum=_MOST_POINTS) for name in names},
        }
        return {"sequence": books.ledger.append(JUDGED, body).sequence}

    return {"answers-judged": judged}


def _require_current(books: Books, version: str, sheet: str) -> None:
    for leaf in books.ledger.find(kind="gate.result", field="model_digest", value=version, limit=EVERY):
        if leaf.body.get("gate") != "human-review":
            continue
        figures = leaf.body.get("figures")
        if isinstance(figures, Mapping) and figures.get("sheet") == sheet:
            return
        break
    raise ConflictError(
        what="these answers are not the ones of the newest validation",
        why=f"sheet {sheet[:12]}",
        fix="open the page of the answers again",
    )
