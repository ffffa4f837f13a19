#!/usr/bin/env bash
# No text of this repository names a folder of one machine or the host of a package mirror: check_places.sh [ROOT].
# Prints FILE:LINE: what, and fails where one does. Temporary names made by mkdtemp and mktemp (XXXXXX) are none.
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
folders=()
for folder in .github bench cmake data docs examples fuzz include python src tests; do
  if [[ -d $folder ]]; then folders+=("$folder"); fi
done
((${#folders[@]} > 0)) || { echo "check_places: no docs, tests, bench or src under $PWD" >&2; exit 1; }
files=$(find . -maxdepth 1 -type f \( -name '*.md' -o -name '*.txt' -o -name 'CMakePresets.json' -o -name run \))

bad=0
look() {  # WHAT PATTERN [EXCEPT]: perl's patterns, in text files only; the test of this check has them all
  local found
  # shellcheck disable=SC2086
  found=$(grep -rnIP --exclude-dir=__pycache__ --exclude=check_places_test.sh -- "$2" "${folders[@]}" $files | { if [[ -n ${3:-} ]]; then grep -vP -- "$3"; else cat; fi; } || true)
  if [[ -n $found ]]; then
    bad=1
    # A match may stand in the middle of a long line: the place, then what was found there.
    while IFS= read -r line; do
      printf '%s: %s: %s\n' "$(cut -d: -f1,2 <<<"$line")" "$1" "$(grep -oP -- "$2" <<<"${line#*:*:}" | head -n 1)"
    done <<<"$found"
  fi
}
# An absolute path starts a word: $root/home is not one, nor is a URL's path.
look 'a path of one machine' '(?<![\w.~$}\])*-])/(work|root|home/[\w.-]+|Users/[\w.-]+|mnt|media|workspace|scratch)/[\w.-]*'
look 'a file in the temporary folder of one machine' '(?<![\w.~$}\])*-])/(var/)?tmp/\w[\w./{}-]*' '/tmp/[\w.-]*XXXXXX'
look 'a host of packages: default mirrors serve' '(?i)\bdeb(-src)?( +\[[^]]*\])? +(https?|ftp)://\S+|\b(deb|ftp|security|snapshot)(\.[a-z]+)?\.debian\.org|\b(archive|security|ports)\.ubuntu\.com|\bpypi\.org/simple|\bfiles\.pythonhosted\.org|--(extra-)?index-url[ =]\S+|https?://[^/\s"]*(mirror|artifact|nexus|pkg\.dev)[^/\s"]*'
look 'a host of one network' 'https?://(10|192\.168|172\.(1[6-9]|2\d|3[01]))(\.\d+){2,3}\b'
if ((bad)); then exit 1; fi
echo "check_places: nothing under ${folders[*]} names a machine's folder or a mirror"
