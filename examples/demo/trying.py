"""A developer tries the version in the test stage before anybody approved it; each stage refuses the other's key."""

import openai

from examples.demo.conversation import ask
from examples.demo.stage import Stage, StageError


def try_out(stage: Stage, *, test: str, production: str, model: str, person: str) -> None:
    """Lend a validated version to a developer, let them ask, and take it away again.

    Args:
        stage: Runs commands and prints them.
        test: The address of the test stage.
        production: The address of production, where nothing is promoted yet.
        model: The version's name.
        person: Who lends it, by id.

    Raises:
        StageError: A command failed, or something that it shows is not true.
    """
    with stage.chapter("Before anybody approves it, developers try it in the test stage"):
        stage.run("sealift", "stage", "load", model, "--as", person)
        keys = {
            name: str(
                stage.ask("sealift", "keys", "create", "--department", "app team", "--owner", "demo", "--stage", name)[
                    "key"
                ]
            )
            for name in ("test", "production")
        }
        tried = ask(f"{test}/v1", keys["test"], model="test", max_tokens=32)
        stage.note(f"{tried.request_id}: {tried.text}")
        for key, address, where in (("production", test, "the test stage"), ("test", production, "production")):
            code = refused(f"{address}/v1", keys[key])
            _require(code == "wrong_stage", f"{where} refuses a key for {key}")
            stage.note(f"{where} refuses a key for {key}: {code}")
        stage.run("sealift", "prove", tried.request_id)
        stage.run("sealift", "stage", "unload", model, "--as", person)


def refused(base_url: str, key: str) -> str:
    """Return the code with which a key is refused; nothing where it is not."""
    try:
        with openai.OpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
            client.models.list()
    except openai.PermissionDeniedError as error:
        return str(error.code)
    return ""


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        message = f"not true: {what}"
        raise StageError(message)
