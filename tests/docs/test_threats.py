"""Each threat of the way in (R1 to R12) is met by tests that exist under these names."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
THREATS: dict[str, dict[str, list[str]]] = {
    "R1 names": {
        "fault/test_hostile_contents.py": [
            "test_a_hundred_names_are_refused_where_they_lie_on_a_medium",
            "test_a_hundred_names_are_refused_in_a_list_that_two_people_sealed",
        ],
        "unit/media/test_layout.py": ["test_names_that_could_lead_elsewhere_or_mean_two_things_are_refused"],
    },
    "R2 links, devices, pipes, files without end": {
        "fault/test_hostile_medium.py": [
            "test_what_is_no_plain_file_neither_hangs_the_copier_nor_is_read",
            "test_folders_that_contain_themselves_end",
        ],
        "unit/appliance/verify/test_medium.py": [
            "test_what_became_no_plain_file_after_listing_is_refused_without_hanging"
        ],
    },
    "R3 a medium that changes between two reads": {
        "fault/test_lying_medium.py": [
            "test_what_is_evil_the_second_time_is_never_asked_a_second_time",
            "test_what_is_evil_the_first_time_is_refused_though_it_would_be_good_later",
            "test_a_whole_receive_of_a_lying_medium_keeps_what_was_hashed",
        ],
        "fault/test_receive_faults.py": ["test_a_medium_that_grows_or_shrinks_while_it_is_read_is_refused"],
        "functional/test_copier_syscalls.py": ["test_a_medium_is_read_once_and_never_written"],
    },
    # The kind of file system and the mount's flags are the mount's: what the copier itself promises is that none hurts.
    "R4 file systems made by hand": {
        "fault/test_hostile_medium.py": [
            "test_a_medium_that_fails_halfway_is_unreadable_and_a_better_copy_completes_it"
        ],
    },
    # Which USB device may be what is the host's; nothing of a medium is started, whatever it is called.
    "R5 what starts by itself": {
        "functional/test_copier_syscalls.py": ["test_a_medium_is_read_once_and_never_written"],
        "unit/appliance/verify/test_medium.py": ["test_anything_else_at_the_root_does_not_belong_there"],
    },
    "R6 names and keys that are one somewhere": {
        "unit/media/test_layout.py": ["test_names_that_would_be_one_file_somewhere_are_refused"],
        "unit/appliance/verify/test_medium.py": ["test_names_that_differ_only_in_case_are_refused"],
        "unit/media/test_canonical.py": ["test_bytes_that_two_readers_could_understand_differently_are_refused"],
    },
    "R7 lists and JSON too large or too deep": {
        "fault/test_hostile_contents.py": [
            "test_json_made_to_be_slow_or_large_is_refused_in_seconds_and_little_memory",
        ],
        "unit/media/test_canonical.py": ["test_a_document_at_the_limit_is_read_and_one_above_is_not"],
    },
    "R8 archives": {"property/bundler/test_wheel_files.py": [], "interop/test_upstream_archive.py": []},
    "R9 signatures of every other kind": {
        "unit/media/test_openpgp.py": [
            "test_whatever_is_not_exactly_one_binary_signature_packet_is_malformed",
            "test_any_other_status_is_refused",
            "test_a_revoked_key_is_refused_although_gpgv_ends_with_zero",
            "test_an_expired_key_is_refused_although_gpgv_ends_with_zero",
            "test_weaker_hashes_are_refused_although_gpgv_may_take_them",
            "test_a_user_id_that_imitates_a_status_line_gains_nothing",
        ],
        "functional/test_tuf_forgeries.py": ["test_signatures_under_other_key_ids_do_not_count"],
        "fault/test_mutated_media.py": ["test_no_change_of_any_file_is_ever_believed"],
    },
    "R10 a receive that somebody denies": {
        "functional/test_receive.py": ["test_a_refusal_changes_nothing_and_is_recorded_once"]
    },
    "R11 errors that show content": {
        "unit/appliance/verify/test_medium.py": [
            "test_errors_carry_no_host_path",
            "test_names_outside_the_allow_list_are_refused_and_shown_escaped",
        ],
    },
    "R12 parsing before signatures": {
        "fault/test_hostile_contents.py": [
            "test_nothing_but_a_root_is_parsed_before_the_signatures_over_the_list_of_files_hold",
        ],
    },
}


@pytest.mark.parametrize("threat", THREATS)
def test_a_threat_of_the_way_in_has_its_tests(threat: str) -> None:
    for file, names in THREATS[threat].items():
        tree = ast.parse((TESTS / file).read_text("utf-8"))
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert set(names) <= there, file
        assert any(name.startswith("test_") for name in there)


def test_each_threat_of_the_model_has_a_number_of_its_own_and_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (TM-\d+) \|(.*)$", (TESTS.parent / "docs/threat-model.md").read_text("utf-8"), re.MULTILINE)

    assert len(rows) > 100
    assert not [number for number, times in Counter(number for number, _ in rows).items() if times > 1]
    for number, row in rows:
        for path in re.findall(r"tests/[\w./*-]+", row):
            assert list(TESTS.parent.glob(path)), (number, path)
