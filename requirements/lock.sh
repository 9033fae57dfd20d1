#!/bin/sh
# Writes every lock file anew: pinned, with hashes, naming no index. Needs `uv` in the environment.
set -eu
cd "$(dirname "$0")/.."
compile() {
  uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal "$@"
}
compile pyproject.toml --extra bundler --extra bundler-hub --extra bundler-hsm --extra postgresql --group test -o requirements/dev.txt
compile pyproject.toml -c requirements/dev.txt -o requirements/server.txt
compile pyproject.toml --extra postgresql -c requirements/dev.txt -o requirements/server-postgresql.txt
compile pyproject.toml --extra hsm -c requirements/dev.txt -o requirements/server-hsm.txt
compile pyproject.toml --extra bundler -c requirements/dev.txt -o requirements/bundler.txt
compile pyproject.toml --extra host -c requirements/dev.txt -o requirements/host.txt
compile bench/engine.in -c requirements/dev.txt -o bench/engine.txt
compile pyproject.toml --extra engine-llama-cpp -c requirements/dev.txt -o requirements/engine-llama-cpp.txt
for name in api-clients build kubernetes lm-eval model-signing sbom-schema; do
  [ ! -f "requirements/$name.in" ] || compile "requirements/$name.in" -o "requirements/$name.txt"
done
