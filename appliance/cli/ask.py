"""`sealift run`: ask a box from a terminal, as any program would, with a key (D28); `sealift chat` asks so, too."""

import logging
import os
import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.cli import context as shared
from appliance.cli.gathering import gathered
from appliance.client import Answer, InferenceClient
from appliance.client.stream import Stream
from appliance.errors import ConfigError, ServiceError
from media.errors import UsageError

_URL: Final = "http://127.0.0.1:8000/v1"
_KEY: Final = "SEALIFT_KEY"
# What may stand in a header: a key of another kind never reaches the service, which could not tell what is wrong.
_HEADER: Final = re.compile("[!-~]+")
# Not printable by Python's word, and nothing that a terminal obeys: they hold letters together.
_JOINERS: Final = "\u200c\u200d"

Url = Annotated[
    str, typer.Option("--url", envvar="SEALIFT_URL", help="The service's address; ends in /v1. On a box, its own.")
]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help=f"A file with the API key; else {_KEY} of the environment.")
]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="The box's own authority, for https.")]
Model = Annotated[str, typer.Option("--model", help="A name of /v1/models.")]
System = Annotated[str, typer.Option("--system", help="An instruction before the question.")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", min=0.0, max=2.0, help="The version's own if absent.")
]
TopP = Annotated[float | None, typer.Option("--top-p", min=0.0, max=1.0, help="The version's own if absent.")]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", min=0, max=1000, help="The likeliest to draw from; 0 for all. The version's own if absent."
    ),
]
MinP = Annotated[
    float | None,
    typer.Option("--min-p", min=0.0, max=1.0, help="How likely, against the likeliest, a token must be to be drawn."),
]
RepeatPenalty = Annotated[
    float | None,
    typer.Option(
        "--repeat-penalty", min=0.01, max=2.0, help="Above 1, less is said again. The version's own if absent."
    ),
]
Think = Annotated[
    bool | None,
    typer.Option("--think/--no-think", help="Whether a model that can think aloud does it before it answers."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Where the answer is cut. The version's own if absent.")
]
Timeout = Annotated[
    int,
    typer.Option("--timeout", min=1, help="The longest silence of the service, in seconds; a long text is read in it."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Whom to ask, and what goes with every question."""

    url: str
    key: str
    ca_file: Path | None
    model: str
    system: str
    parameters: dict[str, Any]
    timeout_seconds: int

    def client(self, ours: shared.Context) -> InferenceClient:
        """Return a client of the service that was named, else of the box that this is.

        Raises:
            UsageError: The address has no scheme, or the authority file cannot be used.
        """
        url, ca_file = (self.url, None) if self.url else own_service(ours)
        ca_file = self.ca_file or ca_file
        if not url.lower().startswith(("https://", "http://")):
            raise UsageError(
                what="the address is not whole",
                why="it begins with neither https:// nor http://",
                fix="give it as in https://HOST/v1",
            )
        try:
            return InferenceClient(
                url, self.key, model=self.model, ca_file=ca_file, timeout_seconds=self.timeout_seconds
            )
        except OSError as error:  # what is no certificate, too
            raise UsageError(
                what="the authority file cannot be used",
                why=f"{ca_file}: {error.strerror or type(error).__name__}",
                fix="give the box's authority in PEM: /etc/sealift/tls/trust.crt of the box",
            ) from error

    def begin(self, client: InferenceClient, said: list[tuple[str, str]]) -> Stream:
        """Ask with what was said so far.

        Raises:
            ServiceError: It was refused before an answer began.
        """
        instruction = [("system", self.system)] if self.system else []
        messages = [{"role": role, "content": content} for role, content in [*instruction, *said]]
        return client.stream_chat(messages, **self.parameters)

    def show(self, ours: shared.Context, stream: Stream) -> Answer:
        """Print an answer as it is written, unless results are JSON; whoever leaves it cancels the rest.

        What the model thinks aloud is talk, not the answer.

        Raises:
            ServiceError: It broke off.
        """
        is_thinking = False

        def think(thought: str) -> None:
            nonlocal is_thinking
            is_thinking = not ours.as_json
            if is_thinking:
                ours.talk.print(_visible(thought), end="", markup=False, emoji=False, style="dim", soft_wrap=True)

        stream.on_thought = think
        try:
            for piece in stream:
                if is_thinking:
                    is_thinking = False
                    ours.talk.print("\n")
                if not ours.as_json:
                    sys.stdout.write(_visible(piece) if sys.stdout.isatty() else piece)
                    sys.stdout.flush()
        except ServiceError:
            _end_line(ours, stream)
            raise
        finally:
            stream.close()
        if is_thinking:
            ours.talk.print()
        if not ours.as_json:
            sys.stdout.write("\n")
            sys.stdout.flush()
        return stream.answer


def asker(
    *,
    url: Url = "",
    key_file: KeyFile = None,
    ca_file: CaFile = None,
    model: Model = "production",
    system: System = "",
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    repeat_penalty: RepeatPenalty = None,
    max_tokens: MaxTokens = None,
    think: Think = None,
    timeout: Timeout = 600,
) -> Asker:
    """Return what asks, as the options have it.

    Raises:
        UsageError: There is no key, or it cannot be read.
    """
    # `origin_of` says that an answer was cut; without anyone who listens, Python would print the client's warning, too.
    logging.getLogger("sealift.client").addHandler(logging.NullHandler())
    given = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
    given |= {"top_k": top_k, "min_p": min_p, "repetition_penalty": repeat_penalty}
    parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if think is not None:
        parameters["chat_template_kwargs"] = {"enable_thinking": think}
    return Asker(
        url=url,
        key=_key(key_file),
        ca_file=ca_file,
        model=model,
        system=system,
        parameters=parameters,
        timeout_seconds=timeout,
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(_run)


@gathered("ready", asker)
def _run(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    ready: Asker,
) -> None:
    """Ask one question and print the answer as it is written."""
    ours = shared.of(context)
    try:
        question = sys.stdin.read() if prompt == "-" else prompt
    except UnicodeDecodeError as error:
        raise not_readable() from error
    if not question.strip():
        raise UsageError(what="there is no question", why="it is empty", fix='sealift run "QUESTION"')
    with ready.client(ours) as client:
        answer = ready.show(ours, ready.begin(client, [("user", question)]))
    ours.result(facts_of(answer), "")
    ours.say(origin_of(answer))


def not_readable() -> UsageError:
    """Return the error for a question in another encoding than this terminal's: guessed, it would be another one."""
    return UsageError(
        what="the question cannot be read",
        why=f"standard input is not {sys.stdin.encoding}",
        fix="give it so: iconv -f latin1 -t utf-8 FILE | sealift run -",
    )


def own_service(ours: shared.Context) -> tuple[str, Path | None]:
    """Return the address of the box that this is with the file of who vouches for it; loopback where this is none."""
    try:
        config = ours.config
    except ConfigError:  # most who ask sit elsewhere, without a site file
        return _URL, None
    trusted = config.at.etc / "tls/trust.crt"
    if not (config.service.tls and config.network.addresses and trusted.is_file()):
        return _URL, None
    # By its address: a box behind a gap asks no name server, and the box's own certificate bears both.
    address = config.network.addresses[0]
    return f"https://{f'[{address}]' if ':' in address else address}/v1", trusted


def _end_line(ours: shared.Context, stream: Stream) -> None:
    """Let what is said of a broken answer begin a line of its own."""
    if stream.text and not ours.as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()


def _visible(text: str) -> str:
    """Return what a terminal shows of a model's text: letters, spaces and breaks, and nothing that it would obey."""
    return "".join(letter for letter in text if _is_shown(letter))


def _is_shown(letter: str) -> bool:
    # Of spaces Python calls but one printable; without the others "10 mg" with a narrow one would be "10mg".
    return letter.isprintable() or letter in "\n\t" or letter in _JOINERS or unicodedata.category(letter) == "Zs"


def _key(file: Path | None) -> str:
    if file is not None:
        try:
            key = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                what="the key file cannot be read",
                why=f"{file}: {getattr(error, 'strerror', None) or type(error).__name__}",
                fix="give a file with one API key; `sealift keys create` makes one",
            ) from error
    else:
        key = os.environ.get(_KEY, "").strip()
    if not key and file is None:
        raise UsageError(
            what="no API key was given",
            why=f"neither --key-file nor {_KEY}",
            fix="`sealift keys create` makes one; keep it in a file that only you can read",
        )
    if not _HEADER.fullmatch(key):
        raise UsageError(
            what="what was given is no API key",
            why="it is empty, or has spaces, line breaks or letters that no key has",
            fix="give one key and nothing else; `sealift keys create` makes one",
        )
    return key


def facts_of(answer: Answer) -> dict[str, Any]:
    """Return what `--json` tells of an answer."""
    usage = answer.usage
    return {
        "content": answer.content,
        **({"thoughts": answer.thoughts} if answer.thoughts else {}),
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "latency_ms": answer.latency_ms,
        "request_id": answer.request_id,
        "model_version": answer.model_version,
    }


def origin_of(answer: Answer) -> str:
    """Return where an answer is recorded, in a line."""
    cut = "; cut at its most tokens (--max-tokens)" if answer.is_cut else ""
    return f"{answer.request_id}: version {answer.model_version[:12]}, {answer.latency_ms} ms{cut}"
