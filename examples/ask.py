"""Ask a Sealift gateway with OpenAI's own client; only `base_url` differs from asking OpenAI.

    pip install openai
    SEALIFT_URL=http://127.0.0.1:8000/v1 SEALIFT_KEY=sl-… python examples/ask.py "What is sepsis?"

Every answer carries the id its audit record is found by: `sealift prove REQUEST_ID` follows it back to its origin.
"""

import argparse
import os
import sys

import openai


def main() -> int:
    """Stream one answer to stdout, and what is known about it to stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question")
    parser.add_argument("--url", default=os.environ.get("SEALIFT_URL", "http://127.0.0.1:8000/v1"))
    parser.add_argument("--model", default="production")
    parser.add_argument("--max-tokens", type=int, default=256)
    options = parser.parse_args()
    try:
        key = os.environ["SEALIFT_KEY"]
    except KeyError:
        parser.error("set SEALIFT_KEY to an API key; `sealift keys create` makes one")
    with openai.OpenAI(base_url=options.url, api_key=key, timeout=300) as client:
        try:
            answer = client.chat.completions.with_raw_response.create(
                model=options.model,
                messages=[{"role": "user", "content": options.question}],
                max_tokens=options.max_tokens,
                stream=True,
            )
            for chunk in answer.parse():
                if chunk.choices:
                    sys.stdout.write(chunk.choices[0].delta.content or "")
                    sys.stdout.flush()
        except openai.APIError as error:
            sys.stderr.write(f"{error.message}\n")
            return 1
    sys.stdout.write("\n")
    for name in ("x-request-id", "x-model-version", "x-sealift-phi"):
        sys.stderr.write(f"{name}: {answer.headers.get(name, '')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
