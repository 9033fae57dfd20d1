"""The part of a report that an access review reads: people, keys of applications, automation keys."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.paper.form import Section, Table

_MOST_ROWS: Final = 200


def sections(facts: Mapping[str, Any]) -> tuple[Section, ...]:
    """Return the sections of `making.counted`'s figures that say who may do what."""
    return _people(facts), _keys(facts), _automation(facts)


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> Table | None:
    """Return a table of at most 200 rows, which says how many more there are; nothing where there is no row."""
    if not rows:
        return None
    shown = tuple(rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        shown = (*shown, (f"and {len(rows) - _MOST_ROWS} more in report.json", *("" for _ in heads[1:])))
    return Table(heads=heads, rows=shown, widths=widths)


def _people(facts: Mapping[str, Any]) -> Section:
    rows = [
        (
            f"{one['name']} ({one['person']})",
            ", ".join(one["roles"]) or "none",
            ", ".join(one["classes"]),
            one["enrolled"][:10],
            (one["seen"][:10] or "never") + (" - NOT SEEN in this time" if one["not_seen"] else ""),
        )
        for one in facts["people"]
    ]
    notes = [f"Record {sequence} about a person does not read." for sequence in facts["people_unread"]]
    return Section(
        title="Access review: people",
        table=table(("person", "roles", "approves by", "enrolled", "last act recorded"), rows, (28, 20, 16, 14, 22)),
        notes=(*notes, *(() if rows else ("Nobody is enrolled.",))),
    )


def _keys(facts: Mapping[str, Any]) -> Section:
    rows = [
        (
            one["key_id"],
            one["department"],
            one["owner"],
            one["purpose"] or "NONE NAMED",
            f"{one['age_days']} days" + (" - OLD" if one["is_old"] else ""),
            one["used"][:10] or "NEVER",
            f"{one['tier']}, {one['phi_mode']}",
        )
        for one in facts["keys"]
    ]
    heads = ("key", "department", "owner", "purpose", "age", "last used", "tier, PHI")
    return Section(
        title="Access review: keys of applications",
        table=table(heads, rows, (16, 16, 14, 14, 14, 12, 14)),
        notes=() if rows else ("No key was in force at the end.",),
    )


def _automation(facts: Mapping[str, Any]) -> Section:
    rows = [
        (
            f"{one['name']} ({one['key_id']})",
            one["person"],
            ", ".join(one["scopes"]),
            (f"{one['used'][:10]}, {one['uses']} times in this time" if one["used"] else "NEVER")
            + (f"; {one['refusals']} refused" if one["refusals"] else ""),
            f"ended {one['ended'][:10]}, {one['why_ended']}" if one["ended"] else one["expires"][:10],
        )
        for one in facts["automation"]
    ]
    strangers = facts["automation_strangers"]
    said = f"{strangers} times something was refused that is no automation key of this site, or acted in one's name."
    return Section(
        title="Access review: automation keys",
        table=table(("key", "answered for by", "scopes", "last used", "ends"), rows, (24, 16, 20, 22, 18)),
        notes=(
            *(("No automation key was in force in this time.",) if not rows else ()),
            *((said,) if strangers else ()),
        ),
    )
