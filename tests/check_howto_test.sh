#!/usr/bin/env bash
# The check of docs/howto must be able to fail: check_howto_test.sh COMPILER [FLAG...]. A page that is true passes, and each that is not is named.
set -euo pipefail
check=$(dirname "${BASH_SOURCE[0]}")/check_howto.sh
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
echo '[a page](page.md)' >"$pages/README.md"

# page KIND PATH LINE...
page() {
  printf '%s\n' '# One more' "\`\`\`$1 file=$2" "${@:3}" '```' >"$pages/page.md"
}
page diff src/storage/stores.def ' STORE(file)' '+// another'
"$check" "$pages" "$@" >/dev/null || { echo "a page that is true was refused"; exit 1; }

broken() {  # MESSAGE COMPILER [FLAG...]: the page fails, and that is said
  local out
  if out=$("$check" "$pages" "${@:2}" 2>&1); then echo "not caught: $1"; cat "$pages/page.md"; exit 1; fi
  [[ $out == *"$1"* ]] || { echo "wrong message, expected '$1': $out"; exit 1; }
}
page cpp src/base/x.cc 'int f() { return g(); }' && broken 'src/base/x.cc:1' "$@"
page cpp src/base/x_test.cc '#include "base/none.h"' && broken 'x_test.cc:1' "$@"
page diff src/storage/stores.def ' STORE(file)' '+STORE(a, b)' && broken 'stores.def:4' "$@"
page diff src/storage/stores.def ' STORE(gone)' '+STORE(x)' && broken 'expected once: STORE(gone)' "$@"
page cpp src/base/bytes.h '' && broken 'is there already' "$@"
page text x.cc '' && broken 'no block' "$@"
echo >"$pages/README.md" && broken 'no link to page.md' "$@"
echo "check_howto_test: every mistake was named"
