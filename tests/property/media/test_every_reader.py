"""Whatever bytes come from a medium or from a person of the other side, out comes a value or one of our errors.

Every public function that takes `untrusted` something in the format, the verifier, the store and the connected side is
in one of the tables below, or this test fails: read by one of the corpus's readers, or tested where it says.
"""

import ast
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError, SealiftError
from tests.support.mutation import bent_bytes, bent_json
from tests.support.readers import CORPUS, READERS

ROOT = Path(__file__).resolve().parents[3]
PLACES = ("media", "appliance/verify", "appliance/store", "bundler")
SLOW = {
    "signature",
    "custody-entry",
    "rehearsal",
    "statement",
    "emergency-note",
    "joining",
    "next-root",
    "root",
    "hand-in",
}

# Reached by a reader of the table with whole files, or one value of such a file.
READ = {
    "media/bagit.py": {"parse_manifest", "parse_bag_info", "require_bagit_txt"},
    "media/bill.py": {"files_of", "require_same_files"},
    "media/custody.py": {"HandOver.from_payload", "read_entry", "read_chain"},
    "media/deltabase.py": {"Base.from_json"},
    "media/dsse.py": {"Envelope.from_bytes", "verify", "countersign"},
    "media/emergency.py": {"EmergencyNote.from_bytes", "read"},
    "media/inventory.py": {"Inventory.from_payload"},
    "media/keys.py": {"load_key", "require_signature", "require_signatures"},
    "media/openpgp.py": {"certificate_fingerprint", "verify_detached"},
    "media/packets.py": {"require_signature_packet", "require_covered_part", "Certificate.from_bytes"},
    "media/people.py": {"People.from_root"},
    "media/release.py": {"ReleaseTerms.from_targets", "StaleAfter.from_timestamp", "targets_from", "require_site_name"},
    "media/volume.py": {"VolumeIndex.from_bytes"},
    "appliance/verify/evidence.py": {"rehearsal_level"},
    "appliance/verify/metadata.py": {
        "read_role",
        "TrustChain.__init__",
        "TrustChain.extend",
        "TrustChain.heed",
        "TrustChain.heed_again",
        "root_by_root",
    },
    "appliance/verify/trust.py": {"TrustRecord.from_json", "TrustRecord.from_bytes", "require_root"},
    "bundler/handin.py": {"HandIn.from_bytes"},
    "bundler/inventory.py": {"read_inventory", "site_of"},
    "bundler/joining.py": {"Joining.from_bytes"},
    "bundler/ledgernote.py": {"LedgerKey.from_text", "checkpoint", "from_base64", "parts"},
    "bundler/probe/facts.py": {"Probe.from_bytes"},
    "bundler/proposal.py": {"Proposal.from_bytes"},
    "bundler/receipt.py": {"read_receipt", "site_of"},
    "bundler/rootsign.py": {"RootSignature.from_bytes"},
    "bundler/scanning/record.py": {"ScanRecord.from_predicate"},
    "bundler/sign.py": {"PartialSignature.from_bytes"},
    "bundler/siteevidence.py": {"read_evidence", "known_evidence", "record_evidence"},
    "bundler/siteword.py": {"Said.opened"},
    "media/siteevidence.py": {"SiteEvidence.from_payload"},
}
# Has a test of its own with any value, or is read by nobody but the machine that wrote it.
ELSEWHERE = {
    "media/canonical.py": "test_parsers.py, and by every reader",
    "media/vllmprofile.py": "tests/unit/appliance/serve/test_vllm.py: any value",
    "media/attachedprofile.py": "test_profiles.py: any value",
    "media/embedding.py": "test_profiles.py: any value",
    "media/llamaprofile.py": "test_profiles.py: any value",
    "media/toml.py": "tests/unit/media/test_toml.py, and by the reader of each file that people write",
    "media/layout.py": "test_parsers.py: any text is a safe path or an unsafe one",
    "media/gguf_fields.py": "tests/property/bundler/test_model_headers.py",
    "bundler/rehearsing/answers.py": "what the rehearsed engine said, on the sender's own machine",
    "appliance/store/scrubbed.py": "the box's own files",
    "media/sitefigures.py": "tests/unit/media/test_sitefigures.py: any value in any field",
    "bundler/sitefigures.py": "hands what it gets to the reader of figures, in an envelope like the reader evidence's",
    "media/gguf.py": "tests/property/bundler/test_model_headers.py",
    "bundler/gguf_header.py": "tests/property/bundler/test_model_headers.py",
    "bundler/safetensors_header.py": "tests/property/bundler/test_model_headers.py",
    "bundler/assessing/deciding.py": "tests/unit/bundler/assessing/test_deciding.py",
    "bundler/recipe.py": "tests/property/bundler/test_recipe.py",
    "bundler/wheelmetadata.py": "tests/property/bundler/test_wheel_files.py",
    "bundler/modelsigning/envelope.py": "tests/unit/bundler/test_model_signing.py",
    "bundler/modelsigning/manifest.py": "tests/unit/bundler/test_model_signing.py",
    "bundler/scanning/pickles.py": "tests/unit/bundler/scanning",
    "bundler/scanning/rendering.py": "tests/unit/bundler/scanning: renders in a sandbox what it does not read itself",
    "bundler/scanning/templates.py": "tests/unit/bundler/scanning",
    "bundler/sources/evals.py": "the same lines as the reader task-set",
    "bundler/sources/modelfolder.py": "tests/unit/bundler/sources: a model's own config.json",
    "bundler/debian/clearsigned.py": "tests/interop/test_upstream_archive.py",
    "bundler/debian/installed.py": "tests/unit/bundler/debian",
    "bundler/probe/questions.py": "tests/unit/bundler/probe",
    "bundler/ledgerkeys.py": "tests/unit/bundler/test_ledgerkeys.py: every character of a note",
    "bundler/dispatch.py": "hands what it gets to the reader receipt",
    "bundler/emergency.py": "hands what it gets to the reader emergency-note",
    "bundler/rehearse.py": "a value of a statement that was verified",
    "bundler/signatory.py": "the sender's own file",
    "bundler/plan.py": "the sender's own file",
    "bundler/volumechoice.py": "the sender's own file",
    "appliance/store/copier.py": "the parent's own job",
    "appliance/verify/fit.py": "the parent's own job",
    "appliance/verify/sitecustody.py": "the parent's own job, and the ledger's records",
    "appliance/verify/kept.py": "the box's own files",
}


def functions_that_take_untrusted() -> Iterator[tuple[str, str]]:
    """Every public function with a parameter named untrusted, as file and name."""
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            owners: list[ast.Module | ast.ClassDef] = [tree]
            owners += [node for node in tree.body if isinstance(node, ast.ClassDef)]
            for owner in owners:
                prefix = f"{owner.name}." if isinstance(owner, ast.ClassDef) else ""
                for node in owner.body:
                    if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                        names = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]
                        if any(name.startswith("untrusted") for name in names):
                            yield path.relative_to(ROOT).as_posix(), f"{prefix}{node.name}"


def test_every_function_that_takes_untrusted_input_is_in_a_table() -> None:
    missing = [
        (file, name)
        for file, name in functions_that_take_untrusted()
        if name not in READ.get(file, set()) and file not in ELSEWHERE
    ]

    assert missing == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS))
@given(data=st.data())
def test_any_bytes_are_a_value_or_one_of_our_errors(name: str, data: st.DataObject) -> None:
    valid = data.draw(st.sampled_from(sorted((CORPUS / "valid").glob(f"{name}--*")))).read_bytes()
    choices = st.binary(max_size=200) | bent_bytes(valid)
    with suppress(ValueError):
        choices |= bent_json(json.loads(valid)).map(_as_json)
    untrusted = data.draw(choices)

    said = _refusal(name, untrusted)

    assert said is None or (said.what and said.exit_code)
    assert said is None or "\n" not in said.what + said.why


def _refusal(name: str, untrusted: bytes) -> SealiftError | None:
    try:
        READERS[name](untrusted)
    except SealiftError as error:
        return error
    return None


_TASKS = b'{"format":1,"name":"t","floor":"%s"}\n{"id":"a","kind":"contains","prompt":"x","answer":"y"}'
_SEALS = (
    b'{"format":1,"frozen_with":[],"person":"p","release":"r","seals":{"%s":{"signature":"AAAA","tag_manifest":"'
    + (b"ab" * 32 + b'"}},"serial":1,"signatures":null,"statements":{},"type":"sealift/hand-in"}')
)


@pytest.mark.parametrize(
    ("name", "untrusted"),
    [
        *(("task-set", _TASKS % floor) for floor in (b"NaN", b"sNaN", b"Infinity", b"-1", b"1e99", b"")),
        *(("hand-in", _SEALS % number) for number in (b"9" * 5000, b"01", b"\xd9\xa1", b"100", b"-1", b"")),
    ],
)
def test_numbers_in_texts_are_read_by_their_form_before_they_are_numbers(name: str, untrusted: bytes) -> None:
    READERS["task-set"](_TASKS % b"0.5")
    READERS["hand-in"](_SEALS % b"1")

    with pytest.raises(MalformedError):
        READERS[name](untrusted)


def _as_json(value: object) -> bytes:
    """Return it in canonical order, so that it gets past the first check as often as possible."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
