#!/usr/bin/env bash
# The examples of docs/howto are true: check_howto.sh PAGES COMPILER [FLAG...]. All code of the pages in that folder goes into one copy
# of the tree, and every source that it adds or changes must compile there. Blocks of a page:
#   ```cpp file=PATH    a new file (json too, which is only put there)
#   ```diff file=PATH   changes of a file that is there: lines with ' ' or '-' stand in it one after another, in one place only; '-' go,
#                       '+' come; "@@" begins another place
# To build what a page adds: check_howto.sh --apply TREE PAGE... changes TREE, which is a copy of this one, and prints what it changed.
set -euo pipefail

apply() {  # TREE PAGE...
  awk -v tree="$1" '
  function fail(what) { printf "%s:%d: %s\n", FILENAME, begin, what > "/dev/stderr"; bad = 1; exit 1 }
  function change(first, last,   i, k, n, m, at, line, file, text, old, found) {
    file = tree "/" path
    while ((getline line < file) > 0) text[++n] = line
    close(file)
    for (i = first; i <= last; ++i) if (block[i] !~ /^\+/) old[++m] = substr(block[i], 2)
    for (i = 1; i + m <= n + 1; ++i) {
      for (k = 1; k <= m && text[i + k - 1] == old[k]; ++k) {}
      if (k > m) { at = i; ++found }
    }
    if (!m || found != 1) fail(path " has the lines around a change " found + 0 " times, expected once: " old[1])
    for (i = 1; i < at; ++i) print text[i] > file
    for (i = first; i <= last; ++i) if (block[i] !~ /^-/) print substr(block[i], 2) > file
    for (i = at + m; i <= n; ++i) print text[i] > file
    close(file)
  }
  function finish(   i, first) {
    if (kind == "diff") {
      for (i = first = 1; i <= count + 1; ++i)
        if (i > count || block[i] ~ /^@@/) { change(first, i - 1); first = i + 1 }
    } else {
      if ((getline < (tree "/" path)) >= 0) fail(path " is there already")
      system("mkdir -p \"$(dirname \"" tree "/" path "\")\"")
      for (i = 1; i <= count; ++i) print block[i] > (tree "/" path)
      close(tree "/" path)
    }
    print path
    ++blocks
  }
  FNR == 1 && path != "" { fail("a block does not end") }
  path != "" && /^```$/ { finish(); path = ""; next }
  path != "" { block[++count] = $0; next }
  /^```(cpp|json|diff) file=/ {
    kind = substr($1, 4); path = substr($2, 6); begin = FNR; count = 0
    if (path !~ /^[a-z][a-z0-9_\/.]*$/) fail("the path " path)
  }
  END { if (!bad && (path != "" || !blocks)) fail(path == "" ? "no block with file=" : "a block does not end") }
  ' "${@:2}"
}

if [[ $1 == --apply ]]; then shift; apply "$@" | sort -u; exit; fi

pages=$(cd "$1" && pwd) cxx=$2
flags=(-std=c++20 -fsyntax-only -Wall -Wextra -Werror -Wno-deprecated-declarations -Isrc -Iinclude -DINGOT_SOURCE_DIR='"."' "${@:3}")
mapfile -t list < <(find "$pages" -name '*.md' ! -name README.md | sort)
for page in "${list[@]}"; do
  grep -qF "($(basename "$page"))" "$pages/README.md" || { echo "$pages/README.md has no link to $(basename "$page")"; exit 1; }
done

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir "$tree/tests"
cp -r src include fuzz data "$tree"
cp -r tests/cli "$tree/tests"
changed=$(apply "$tree" "${list[@]}" | sort -u)
cd "$tree"
# New sources of a folder in one go (but not those that are compiled for each instruction set); of a table, the source beside it that is made of it.
sources=$(for path in $changed; do
  folder=$(dirname "$path")
  case $path in
    *.cc)
      if [[ -e $OLDPWD/$path && $path != *_test.cc ]] || grep -q '^#define INGOT_TARGET_FILE' "$path"; then
        echo "$path"
      else
        echo "#include \"$(basename "$path")\"" >>"$folder/all_of_howto.cc"
        echo "$folder/all_of_howto.cc"
      fi ;;
    *.def) grep -lF "#include \"${path#src/}\"" "$folder"/*.cc | grep -v _test ;;
  esac
done | sort -u)
xargs -P "$(nproc)" -n 1 "$cxx" "${flags[@]}" <<<"$sources" || exit 1
echo "check_howto: $(wc -w <<<"$changed") files of ${#list[@]} pages, and they compile"
