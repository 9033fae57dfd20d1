"""The part of the promoter's counter that is about people; messages and doors are in `appliance.promote.desk`."""

from collections.abc import Callable, Mapping
from typing import Any

from appliance.config import Config
from appliance.promote import asking, base64text
from appliance.promote.accepting import Acceptance
from appliance.promote.books import Books
from appliance.promote.classes import WEBAUTHN
from appliance.promote.credentials import Credential
from appliance.promote.enrolment import Brought, Enrolment, Secrets
from appliance.promote.firstpassword import FirstPasswords
from appliance.promote.people import ADMIN, SitePerson
from appliance.promote.presented import Presented
from appliance.promote.relyingparty import Registrations, RelyingParty
from appliance.promote.vouching import Changes, Voucher, Vouching
from appliance.wire import Peer
from media import canonical
from media.clock import Clock, to_text
from media.errors import UsageError

Fields = Mapping[str, Any]
_MOST_VOUCHERS = 8


class PeopleDesk:
    """Answers messages about people; the caller makes sure that one runs at a time."""

    def __init__(self, books: Books, secrets: Secrets, *, config: Config, clock: Clock, acceptance: Acceptance) -> None:
        self._books = books
        self._vouching = Vouching(secrets.passwords, separates=config.separates_roles, clock=clock)
        self._counting = list(config.policy.classes)
        self._names_suffice = config.release_is_request
        self._enrolment = Enrolment(
            books,
            secrets,
            vouching=self._vouching,
            registrations=Registrations(party=RelyingParty.of(config), clock=clock),
            acceptance=acceptance,
            counting=self._counting,
        )
        self._changes = Changes(
            books,
            vouching=self._vouching,
            codes=secrets.codes,
            passwords=secrets.passwords,
            factors=secrets.factors,
            clock=clock,
        )
        self._first = FirstPasswords(books, secrets.passwords, site=config.site, clock=clock)
        self.answers: dict[str, Callable[[Peer, Fields], dict[str, Any]]] = {
            "codes": self._codes,
            "invite": self._invite,
            "reset": self._reset,
            "roles": self._roles,
            "register": self._register,
            "enrol": self._enrol,
            "revoke": self._revoke,
            "login": self._login,
            "people": self._people,
            "password-statement": self._password_statement,
            "password": self._set_password,
        }

    def require_login(self, untrusted: Fields) -> SitePerson:
        """Return the person whose password a message brings.

        Raises:
            UnknownPersonError: Not enrolled, revoked, or the password is wrong.
        """
        return self._enrolment.login(_text(untrusted, "person"), _password(untrusted))

    def class_of_asker(self, untrusted: Fields) -> str:
        """Return by what it is known who asks people for their approval; empty where the name was typed.

        Raises:
            UnknownPersonError: Not enrolled, revoked, the password is wrong, or there is none and the site needs it.
        """
        person = _text(untrusted, "requested_by")
        if untrusted.get("password") is None:
            if not self._names_suffice:
                raise asking.unknown(person)
            return ""
        self._enrolment.login(person, _password(untrusted))
        return asking.BY_PASSWORD

    def _codes(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        if "vouchers" in untrusted:
            codes, replaced = self._enrolment.replace_codes(_one_voucher(untrusted))
            return {"codes": list(codes), "admins": replaced}
        count = canonical.integer(untrusted.get("count", 2), "count")
        admins = canonical.integer(untrusted.get("admins", 0), "admins")
        return {"codes": list(self._enrolment.issue_codes(count, admins=admins)), "admins": admins}

    def _invite(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        role = _text(untrusted, "role", may_be_empty=True)
        return {"code": self._enrolment.invite(_vouchers(untrusted), role=role)}

    def _reset(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        code = self._changes.reset(
            person=_text(untrusted, "person"),
            vouchers=_vouchers(untrusted),
            printed_code=_text(untrusted, "printed_code", may_be_empty=True),
        )
        return {"code": code}

    def _roles(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        roles = [canonical.text(one, "roles") for one in canonical.array(untrusted.get("roles"), "roles", most=8)]
        changed = self._changes.give_roles(
            person=_text(untrusted, "person"), roles=roles, vouchers=_vouchers(untrusted)
        )
        return {"person": _shown(changed)}

    def _register(self, _: Peer, __: Fields) -> dict[str, Any]:
        return self._enrolment.registrations.begin()

    def _enrol(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        registration = untrusted.get("registration")
        done = self._enrolment.enrol(
            code=_text(untrusted, "code"),
            name=_text(untrusted, "name", may_be_empty=True),
            password=_password(untrusted),
            brought=Brought(
                certificate=_bytes(untrusted, "certificate"),
                token_key=_bytes(untrusted, "token_key"),
                registration=None if not registration else canonical.mapping(registration, "registration"),
                with_totp=untrusted.get("totp") is True,
            ),
            person=_text(untrusted, "person", may_be_empty=True),
        )
        return {"person": _shown(done.person), "totp_address": done.totp_address, "printed_code": done.printed_code}

    def _revoke(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        self._enrolment.revoke(
            person=_text(untrusted, "person"),
            by=_text(untrusted, "by"),
            password=_password(untrusted),
            reason=_text(untrusted, "reason"),
        )
        return {}

    def _login(self, peer: Peer, untrusted: Fields) -> dict[str, Any]:
        # Whoever reaches the page may guess here: that must keep nobody who is in from stopping production.
        at = f"login {peer.door}"
        person = self._enrolment.login(_text(untrusted, "person"), _password(untrusted), at=at)
        return {"person": person.id, "name": person.name, "roles": list(person.roles)}

    def _password_statement(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        return {"statement": self._first.statement(_text(untrusted, "person")).decode()}

    def _set_password(self, _: Peer, untrusted: Fields) -> dict[str, Any]:
        presented = Presented.from_message(canonical.mapping(untrusted.get("presented"), "presented"))
        self._first.set(_text(untrusted, "person"), presented, _password(untrusted))
        return {}

    def _people(self, _: Peer, __: Fields) -> dict[str, Any]:
        people = self._books.folder.people()
        admins = [person.id for person in people.active if ADMIN in person.roles]
        return {
            "people": [_shown(person) for person in people.people],
            "vouch": [person.id for person in self._vouching.admins(people)],
            "admins": admins,
            "separates_roles": self._vouching.separates,
            "classes": self._counting,
        }


def _shown(person: SitePerson) -> dict[str, Any]:
    return {
        "person": person.id,
        "name": person.name,
        "fingerprint": person.fingerprint,
        "roles": list(person.roles),
        "credentials": [_credential(one) for one in person.present],
        "revoked": person.revoked is not None,
        "counts_from": None if person.counts_from is None else to_text(person.counts_from),
    }


def _credential(one: Credential) -> dict[str, str]:
    shown = {"class": one.approves_by, "fingerprint": one.fingerprint}
    return {**shown, "id": one.credential_id, "rp_id": one.rp_id} if one.approves_by == WEBAUTHN else shown


def _vouchers(untrusted: Fields) -> list[Voucher]:
    return [
        Voucher(person=_text(one, "person"), password=_password(canonical.mapping(one, "voucher")))
        for one in canonical.array(untrusted.get("vouchers"), "vouchers", most=_MOST_VOUCHERS)
    ]


def _one_voucher(untrusted: Fields) -> Voucher:
    found = _vouchers(untrusted)
    if len(found) != 1:
        raise UsageError(what="one person has the codes replaced", why=f"{len(found)} were named", fix="give one --by")
    return found[0]


def _bytes(untrusted: Fields, field: str) -> bytes:
    value = untrusted.get(field)
    return b"" if value is None or not value else base64text.decode(value, field)


def _text(untrusted: Any, field: str, *, may_be_empty: bool = False) -> str:
    value = canonical.mapping(untrusted, "message").get(field, "" if may_be_empty else None)
    return canonical.text(value, field, may_be_empty=may_be_empty)


def _password(untrusted: Fields) -> str:
    value = untrusted.get("password")
    return value if isinstance(value, str) else ""
