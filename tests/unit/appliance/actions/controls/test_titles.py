"""Identifiers and titles in our map, held against NIST's own and the CFR's, frozen with where they were read."""

import json
from pathlib import Path

from appliance.actions.controls.mapping import Control, packaged

ROOT = Path(__file__).resolve().parents[5]
TEXTS = json.loads((ROOT / "tests/vectors/nist_titles.json").read_bytes())["texts"]
LAWS = json.loads((ROOT / "tests/vectors/cfr_paragraphs.json").read_bytes())["texts"]


def theirs(framework: str) -> dict[str, str]:
    return {name: title for one in TEXTS if one["framework"] == framework for name, title in one["titles"].items()}


def ours(framework: str) -> tuple[Control, ...]:
    return tuple(one for one in packaged().controls if one.framework == framework)


def is_theirs(title: str, published: str) -> bool:
    """Tell whether a title is theirs but for capitals and dashes; words of ours may follow in brackets."""
    plain = published.replace("\N{EN DASH}", "-").casefold()
    return title.casefold() == plain or (title.casefold().startswith(f"{plain} (") and title.endswith(")"))


def test_every_title_of_nist_is_the_one_it_published() -> None:
    for framework in ("800-53", "800-171"):
        published = theirs(framework)
        assert {one.id for one in ours(framework)} == set(published), framework
        assert [one.id for one in ours(framework) if not is_theirs(one.title, published[one.id])] == []


def test_each_text_says_its_version_and_where_it_was_read() -> None:
    assert all("usnistgov/oscal-content" in one["source"] and one["version"] for one in TEXTS)
    read = [name for one in TEXTS for name in one["titles"]]
    assert len(read) == len(set(read))


def test_another_title_is_told_apart() -> None:
    assert is_theirs("Signed components (selected in addition)", "Signed Components")
    assert not is_theirs("User Identification, Authentication, and Re-Authentication", theirs("800-171")["03.05.01"])
    assert not is_theirs("Cryptographic protection of backups", theirs("800-53")["CP-9(8)"])


def test_the_titles_are_of_the_release_that_the_map_names() -> None:
    (read,) = [one["version"] for one in TEXTS if one["framework"] == "800-53"]

    assert f"release {read} " in packaged().frameworks["800-53"].version


def test_each_paragraph_of_the_sections_that_are_mapped_has_its_place_and_no_other_is_named() -> None:
    for law in LAWS:
        assert [one.id for one in ours(law["framework"])] == list(law["paragraphs"]), law["framework"]
        assert law["source"]


def test_a_paragraph_of_the_security_rule_is_called_by_its_own_heading_or_says_more() -> None:
    (rule,) = [one["paragraphs"] for one in LAWS if one["framework"] == "hipaa"]
    called = {one.id: one.title.casefold().replace("phi", "protected health information") for one in ours("hipaa")}
    of_ours = {"164.316(b)(2)(i)": "retention", "164.316(b)(2)(iii)": "update"}

    assert [
        name
        for name, heading in rule.items()
        if not called[name].startswith(heading.casefold()) and name not in of_ours
    ] == []
    assert all(word in called[name] for name, word in of_ours.items())
