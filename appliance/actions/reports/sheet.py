"""A report as a sheet: the figures in the order in which a board asks, plots beside the largest of them.

Rates are thousandths of whole numbers, written as per cent with one place, so that nobody's rounding differs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from appliance.actions.reports import access_sheet, purposes, usage_sheet
from appliance.actions.reports.access_sheet import table
from appliance.paper.form import Bars, Form, Section

_MOST_BARS: Final = 24
_MOST_DAYS: Final = 31
_WHERE_FROM: Final = (
    "Every number is a sum over the ledger's records of this time: sealift audit list --kind shows them. The record "
    "evidence.reported names the digest of this file."
)


def sheet(facts: Mapping[str, Any]) -> Form:
    """Return the sheet of `making.counted`'s figures."""
    period, ledger = facts["period"], facts["ledger"]
    over = "" if period["is_over"] else "; NOT OVER YET"
    holds = "the ledger holds" if ledger["holds"] else "THE LEDGER DOES NOT HOLD"
    sections = (
        _about(facts),
        _volumes(facts),
        *usage_sheet.sections(facts),
        purposes.section(facts),
        _phi(facts),
        _refusals(facts),
        _events("Production: promotions, rollouts, stops", facts["production"], "version"),
        _events("Media and custody", facts["custody"], "release"),
        _integrity(facts),
        *access_sheet.sections(facts),
        _events("Backups, drills, retention, returns", facts["drills"], "what"),
        *_controls(facts),
        Section(title="Read by", lines=(("name", "date", "signature"), ("name", "date", "signature"))),
    )
    return Form(
        title=f"Report of {facts['site']}: {period['name']}",
        result=f"{sum(facts['answers'].values())} answers, {sum(facts['refusals'].values())} refusals; {holds}{over}",
        at=facts["at"],
        sections=sections,
    )


def per_cent(part: int, whole: int) -> str:
    """Return a rate with one place, rounded half up; a dash where there is nothing to have a rate of."""
    if not whole:
        return "-"
    thousandths = (2000 * part + whole) // (2 * whole)
    return f"{thousandths // 10}.{thousandths % 10} %"


def _about(facts: Mapping[str, Any]) -> Section:
    period, ledger = facts["period"], facts["ledger"]
    return Section(
        title="What this is",
        facts=(
            ("From, until", f"{period['since']}, {period['until']} (its end is not in it)"),
            ("Counted from", f"{ledger['origin']}, {ledger['size']} records, root {ledger['root']}"),
            ("Records of this time", str(sum(facts["kinds"].values()))),
        ),
        notes=(_WHERE_FROM,),
    )


def _volumes(facts: Mapping[str, Any]) -> Section:
    answers, days = facts["answers"], facts["days"]
    rows = [
        (name or "none named", str(count), str(facts["tokens_in"].get(name, 0)), str(facts["tokens_out"].get(name, 0)))
        for name, count in _ordered(answers)
    ]
    outcomes = ", ".join(f"{name} {count}" for name, count in _ordered(facts["outcomes"])) or "none"
    counted = (("Answers begun", str(sum(answers.values()))), ("How answers ended", outcomes))
    by_day = _by_day(days)
    bars = [Bars(title="Answers by department", rows=_top(answers))] if answers else []
    bars += [Bars(title=by_day[0], rows=by_day[1])] if by_day[1] else []
    heads = ("department", "answers", "tokens asked", "tokens answered")
    return Section(title="Volumes", facts=counted, bars=tuple(bars), table=table(heads, rows, (40, 20, 20, 20)))


def _by_day(days: Mapping[str, int]) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return answers by day, or by month where the days would not fit."""
    if len(days) <= _MOST_DAYS:
        return "Answers by day", tuple(sorted(days.items()))
    months: dict[str, int] = {}
    for day, count in days.items():
        months[day[:7]] = months.get(day[:7], 0) + count
    return "Answers by month", tuple(sorted(months.items()))


def _phi(facts: Mapping[str, Any]) -> Section:
    answers, found = facts["answers"], facts["with_phi"]
    whole, touched = sum(answers.values()), sum(found.values())
    rows = [
        (name or "none named", str(answers[name]), str(found.get(name, 0)), per_cent(found.get(name, 0), answers[name]))
        for name, _ in _ordered(answers)
    ]
    return Section(
        title="Identifiers of patients (PHI)",
        facts=(
            ("Requests in which some were found", f"{touched} of {whole}, {per_cent(touched, whole)}"),
            ("Classes of data", ", ".join(f"{name} {count}" for name, count in _ordered(facts["classes"])) or "none"),
        ),
        bars=(Bars(title="Identifiers found, by kind", rows=_top(facts["phi"])),) if facts["phi"] else (),
        table=table(("department", "requests", "with identifiers", "rate"), rows, (40, 20, 20, 20)),
        notes=(
            "What was found was replaced, passed or blocked as the key's mode says; what nobody found is not here.",
        ),
    )


def _refusals(facts: Mapping[str, Any]) -> Section:
    refusals = facts["refusals"]
    whole = sum(refusals.values()) + sum(facts["answers"].values())
    rows = [(name, str(count), per_cent(count, whole)) for name, count in _ordered(refusals)]
    return Section(
        title="Refusals, by reason",
        bars=(Bars(title="Refusals", rows=_top(refusals)),) if refusals else (),
        table=table(("code (docs/api.md)", "refused", "of all requests"), rows, (50, 25, 25)),
        notes=() if rows else ("Nothing was refused.",),
    )


def _events(title: str, events: Sequence[Mapping[str, Any]], about: str) -> Section:
    rows = [
        (
            str(one["sequence"]),
            one["at"],
            one["kind"] + (f", line {one['line']}" if "line" in one else ""),
            one["about"][:16],
            ", ".join(filter(None, one["people"])),
            one["said"],
        )
        for one in events
    ]
    heads = ("record", "time", "what", about, "people", "said")
    return Section(
        title=title,
        table=table(heads, rows, (9, 20, 22, 16, 15, 18)),
        notes=() if rows else ("Nothing in this time.",),
    )


def _integrity(facts: Mapping[str, Any]) -> Section:
    ledger, times = facts["ledger"], facts["times"]
    boots = len({str(one["boot_id"]) for one in times["starts"]})
    begun = sum(facts["answers"].values())
    whole = "they agree" if facts["is_whole"] else "THEY DO NOT AGREE"
    counted = (
        ("The whole ledger, recomputed", "holds" if ledger["holds"] else "DOES NOT HOLD"),
        ("Checkpoints compared", str(ledger["checkpoints"])),
        (
            "Begun, ended, open",
            f"{begun} begun, {facts['ended']} of them ended, {facts['open']} open at the end; {whole}",
        ),
        (
            "Ended without being seen to",
            f"{facts['outcomes'].get('unknown', 0)} (the box lost power or a process died)",
        ),
        ("Begun before this time, ended in it", str(facts["ended_from_before"])),
        ("Starts of the ledger", f"{len(times['starts'])} in {boots} boots"),
        ("Clock went back", f"{len(times['steps_back'])} times"),
        ("Keys destroyed, people erased", str(facts["erased"])),
    )
    notes = (*(f"DOES NOT HOLD: {one}" for one in ledger["findings"]), *ledger["remarks"])
    if ledger["beyond"]:
        notes = (*notes, f"{ledger['beyond']} newer records are under no checkpoint yet and not counted here.")
    rows = [(kind, str(count)) for kind, count in sorted(facts["kinds"].items())]
    return Section(
        title="Integrity and completeness",
        facts=counted,
        table=table(("kind of record", "records"), rows, (70, 30)),
        notes=notes,
    )


def _controls(facts: Mapping[str, Any]) -> Iterable[Section]:
    found = facts.get("controls")
    if not found:
        return ()
    rows = [(one["framework"], one["id"], one["title"], one["state"]) for one in found]
    section = Section(
        title="Controls, as this box shows them when the report was made",
        table=table(("framework", "control", "what it asks", "evidence"), rows, (22, 20, 38, 20)),
        notes=("What software alone cannot claim is in docs/controls.md; those need a person's word.",),
    )
    return (section,)


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the largest first, equal ones by name."""
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def _top(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    ordered = [(name or "none named", count) for name, count in _ordered(counts)]
    if len(ordered) <= _MOST_BARS:
        return tuple(ordered)
    rest = sum(count for _, count in ordered[_MOST_BARS - 1 :])
    return (*ordered[: _MOST_BARS - 1], (f"{len(ordered) - _MOST_BARS + 1} others", rest))
