#!/usr/bin/env bash
# The check of places must be able to fail, and must leave ordinary text alone.
set -euo pipefail
check=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/check_places.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{docs/logs,src,tests,bench}
cat >"$tree/docs/good.md" <<'END'
See https://huggingface.co/docs/transformers and https://www.debian.org/doc, https://example.org/work/x or https://github.com/home/x.
The root of the tree is $root/home/ingot or {dir}/tmp/x or ../work/x; a template is written to /dev/shm/bench. /tmp is a folder.
char pattern[] = "/tmp/ingot-storage-XXXXXX"; // apt install debian-keyring, a mirror of it; pip install --index-url
END
printf '\0/work/shared' >"$tree/docs/binary.bin"
"$check" "$tree" >/dev/null || { echo "a tree without places was refused:"; "$check" "$tree"; exit 1; }

bad() {  # FILE LINE MESSAGE: the line is found, at its place
  local out
  printf 'first line\n%s\n' "$2" >"$tree/$1"
  if out=$("$check" "$tree"); then echo "not caught in $1: $2"; exit 1; fi
  [[ $out == *"$1:2: "*"$3"* ]] || { echo "wrong message for '$2' in $1: $out"; exit 1; }
  rm "$tree/$1"
}
bad docs/logs/x.txt "check.py --text /work/shared/text.txt: passed" "/work/shared"
bad docs/x.json "  \"cp /work/main/a.gguf\"" 'path of one machine'
bad tests/x.sh "cd /home/me/ingot" 'path of one machine'
bad bench/x.py "PEERS = '/root/peers'" 'path of one machine'
bad src/x.cc "// -o /tmp/reference && /tmp/reference" 'temporary folder'
bad docs/x.md "--ingot=/tmp/ingot-bench" 'temporary folder'
bad tests/x.sh "mirrors=(\"deb http://deb.debian.org/debian bookworm main\")" 'host of packages'
bad tests/x.sh "deb [signed-by=/k] http://archive.ubuntu.com/ubuntu noble main" 'host of packages'
bad docs/x.md "pip install --index-url https://pypi.example.org/simple" 'host of packages'
bad docs/x.md "https://mirror.example.org/debian" 'host of packages'
bad docs/x.md "http://10.1.2.3:8080/debian" 'one network'
bad README.md "clone it to /home/me/ingot" 'path of one machine'
rm -r "$tree"/{docs,src,tests,bench}
if "$check" "$tree" >/dev/null 2>&1; then echo "a tree without anything to look at was not noticed"; exit 1; fi
echo "ok"
