"""What may not lie in a model's folder: weights of other kinds, code, pickled objects, secrets, people's data.

A model's files are also judged together: the licence's text is there, the descriptor's digests are those of the files,
and of weights in several files each tensor lies in exactly one.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from bundler import leaks, safetensors_header
from bundler.artifact import Artifact
from bundler.gguf_header import GgufHeader
from bundler.gguf_header import read as read_gguf
from bundler.quantlevels import advice
from bundler.safetensors_header import INDEX_NAME, Tensors, read_tensors, require_index
from bundler.scanning import licences, pickles, remotecode
from bundler.scanning.findings import LISTED, Finding, Tally, finding, leaked
from media import vllmprofile
from media.canonical import integer, loads, mapping
from media.embedding import ROLE
from media.errors import MediaError
from media.llamaprofile import DRAFT_ROLE

_PICKLE_NAMES: Final = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".h5"})
_MODEL_NAMES: Final = frozenset({".gguf", ".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".md"})
_TEXT_BYTES: Final = 64 * 2**20
_LOADABLE: Final = frozenset({"llama", "gpt2", "bert", "t5", "rwkv", "none", "no_vocab", ""})
_TOKENIZER: Final = "tokenizer.ggml.model"


def weights(artifact: Artifact, tally: Tally) -> Iterator[Finding]:
    """Yield what is found in one file of weights.

    Raises:
        ScanError: Its header is malformed.
    """
    suffix = PurePosixPath(artifact.target).suffix
    if artifact.file is None or suffix not in {".gguf", ".safetensors"}:
        yield finding(artifact, "unexpected-file", "weights are GGUF or safetensors")
        return
    tally.add("pickle")
    with artifact.file.open("rb") as untrusted:
        start = untrusted.read(pickles.START_BYTES)
        yield from _disguised(artifact, start)
        if what := pickles.appended(untrusted, size=artifact.length):
            yield finding(artifact, "pickle", what)
    tally.add(suffix.removeprefix("."))
    if suffix == ".gguf":
        yield from _loader(artifact, read_gguf(artifact.file))
    else:
        safetensors_header.read(artifact.file)


def beside(artifact: Artifact, tally: Tally, accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is found in one file that lies beside weights.

    Raises:
        MediaError: One of our own records among them does not read.
    """
    path = PurePosixPath(artifact.target)
    data = artifact.read()
    yield from _licence(artifact, accepted, tally)
    is_text_of_licence = licences.is_text(path.name) and path.suffix in {"", ".txt", ".md"}
    if path.suffix.lower() not in _MODEL_NAMES and not is_text_of_licence:
        yield finding(artifact, "unexpected-file", "no program of ours reads such a file")
    tally.add("pickle")
    if path.suffix.lower() in _PICKLE_NAMES:
        yield finding(artifact, "pickle", "its name is that of pickled objects")
    yield from _disguised(artifact, data[: pickles.START_BYTES])
    yield from _code(artifact, path, data, tally)
    if len(data) > _TEXT_BYTES:
        return
    if not is_text_of_licence:
        tally.add("secret")
        yield from leaked(artifact, data, (leaks.secrets, leaks.assigned_secrets))
    tally.add("clinical-data")
    is_prompt = path.name in {"descriptor.json", "chat_template.jinja"}
    yield from leaked(artifact, data, (leaks.patient_data, leaks.clinical) if is_prompt else (leaks.clinical,))
    if path.name == "provenance.json":
        yield from _quantization(artifact, data)
        yield from _terms_of_companions(artifact, data, accepted)


def folders(artifacts: Sequence[Artifact]) -> Iterator[Finding]:
    """Yield what is wrong with a model's files together.

    Raises:
        ScanError: An index is not about the files beside it.
        MediaError: A descriptor does not read.
    """
    grouped: defaultdict[str, dict[str, Artifact]] = defaultdict(dict)
    for artifact in artifacts:
        if artifact.kind in {"model", "weights"}:
            path = PurePosixPath(artifact.target)
            grouped[str(path.parent)][path.name] = artifact
    for files in grouped.values():
        yield from _shards(files)
        if "descriptor.json" in files:
            yield from _described(files, artifacts)


def _licence(artifact: Artifact, accepted: Mapping[str, str], tally: Tally) -> Iterator[Finding]:
    stated = artifact.component.license
    tally.add("license")
    if not stated:
        yield finding(artifact, "license-unknown", "the recipe states no licence")
    elif PurePosixPath(artifact.target).name != "descriptor.json" or licences.is_permissive(stated):
        return
    elif reason := licences.acceptance(stated, accepted):
        yield finding(artifact, "license-terms", f"{stated[:100]}: accepted in the recipe", reason=reason)
    else:
        yield finding(artifact, "license-terms", f"nobody has accepted {stated[:100]} in accept_licences")


def _terms_of_companions(artifact: Artifact, data: bytes, accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the licences of the weights beside a model's own, which the provenance record names."""
    record = mapping(loads(data), artifact.target)
    for role in (ROLE, DRAFT_ROLE):
        if role not in record:
            continue
        stated = str(mapping(record[role], artifact.target).get("license", ""))
        if licences.is_permissive(stated):
            continue
        if reason := licences.acceptance(stated, accepted):
            yield finding(artifact, "license-terms", f"{stated[:100]}: accepted in the recipe", reason=reason)
        else:
            yield finding(artifact, "license-terms", f"nobody has accepted {stated[:100]} in accept_licences")


def _disguised(artifact: Artifact, start: bytes) -> Iterator[Finding]:
    if what := pickles.disguise(start):
        yield finding(artifact, "pickle", f"it starts like pickled objects or an archive of them: {what}")
    elif what := pickles.program(start):
        yield finding(artifact, "unexpected-file", f"by its content, {what}")


def _code(artifact: Artifact, path: PurePosixPath, data: bytes, tally: Tally) -> Iterator[Finding]:
    tally.add("remote-code")
    if remotecode.is_code(path.name):
        yield finding(artifact, "remote-code", "its name is that of code, which libraries import from such folders")
    if path.suffix != ".json":
        return
    try:
        for key, why in remotecode.orders(data):
            yield finding(artifact, "remote-code", f"{key} {why}")
    except MediaError as error:
        yield finding(artifact, "unexpected-file", f"two readers could read it differently: {error.what}, {error.why}")


def _loader(artifact: Artifact, header: GgufHeader) -> Iterator[Finding]:
    """Find what makes a loader open other files, or take a path of its code that few models take."""
    if header.metadata.get("split.count", 0) not in {0, 1}:
        yield finding(artifact, "unexpected-file", "it is one part of several, and a loader would look for the others")
    tokenizer = str(header.metadata.get(_TOKENIZER, ""))
    if tokenizer not in _LOADABLE:
        yield finding(
            artifact, "rare-tokenizer", f"{tokenizer[:40]!a}: its code in loaders is little used and was faulty"
        )


def _quantization(artifact: Artifact, data: bytes) -> Iterator[Finding]:
    """List what two people should know of a level before they sign; whether it may serve is the site's to decide."""
    record = mapping(loads(data), artifact.target)
    derived = mapping(record.get("derived_from", {}), artifact.target)
    details = [advice(str(record.get("quantization", "")))]
    if derived.get("requantized"):
        details.append("quantized from weights that were quantized already; quality is lost twice")
    for detail in filter(None, details):
        yield finding(artifact, "quantization", detail, reason=LISTED)


def _shards(files: dict[str, Artifact]) -> Iterator[Finding]:
    shards: dict[str, Tensors] = {
        name: read_tensors(artifact.file)
        for name, artifact in files.items()
        if artifact.kind == "weights" and name.endswith(".safetensors") and artifact.file is not None
    }
    if INDEX_NAME in files:
        require_index(files[INDEX_NAME].read(), shards)
    owners: dict[str, str] = {}
    for name, tensors in sorted(shards.items()):
        for tensor in tensors:
            if owners.setdefault(tensor, name) != name:
                detail = f"the tensor {tensor[:100]!a} lies in {owners[tensor]} too"
                yield finding(files[name], "overlaps", detail)
                break


def _answers(about: Artifact, descriptor: Mapping[str, Any]) -> Iterator[Finding]:
    """List that a version for vLLM makes fewer answers at once than one for production should (C16)."""
    if descriptor.get("engine") != "vllm":
        return
    runtime = mapping(descriptor.get("runtime"), f"{about.target}: runtime")
    if detail := vllmprofile.advice(integer(runtime.get("n_seq_max"), f"{about.target}: n_seq_max")):
        yield finding(about, "few-answers", detail, reason=LISTED)


def _described(files: dict[str, Artifact], artifacts: Sequence[Artifact]) -> Iterator[Finding]:
    about = files["descriptor.json"]
    descriptor = mapping(loads(about.read()), about.target)
    if "LICENSE" not in files or not files["LICENSE"].length:
        yield finding(about, "license-text", "no text of the model's licence lies beside it")
    yield from _answers(about, descriptor)
    known = {artifact.target: artifact for artifact in artifacts}
    template = descriptor.get("chat_template", {})
    for entry in [*descriptor.get("files", ()), *([template] if template else [])]:
        pinned: dict[str, Any] = mapping(entry, f"{about.target}: files")
        place = str(pinned.get("path"))
        if place not in known or known[place].sha256 != pinned.get("sha256"):
            yield finding(about, "unpinned", f"it names {place[:200]} with a digest that no file here has")
