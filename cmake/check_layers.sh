#!/usr/bin/env bash
# Holds the rules between layers that a compiler does not: check_layers.sh [ROOT]. Prints FILE:LINE: what, and
# fails where one is broken. The order of the layers is read from INGOT_LAYERS in ROOT/CMakeLists.txt.
set -euo pipefail
root=${1:-$(dirname "${BASH_SOURCE[0]}")/..}
cd "$root"
layers=$(sed -n -E 's/^set\(INGOT_LAYERS ([a-z ]*)\).*/\1/p' CMakeLists.txt)
[[ -n $layers ]] || { echo "check_layers: no set(INGOT_LAYERS ...) in $root/CMakeLists.txt" >&2; exit 1; }
mapfile -t files < <(find src include -name '*.h' -o -name '*.cc' -o -name '*.def' | sort)
((${#files[@]} > 0)) || { echo "check_layers: no sources under $root/src and $root/include" >&2; exit 1; }

awk -v layers="$layers" '
function broken(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; bad = 1 }
BEGIN {
  n = split(layers, name, " ")
  for (i = 1; i <= n; i++) rank[name[i]] = i
  rank["cli"] = n + 1  # the command line stands on all
}
FNR == 1 {
  n_files++
  split(FILENAME, part, "/")
  public = part[1] == "include"
  layer = public ? "include/ingot" : part[2]
  test = FILENAME ~ /_test(ing)?\.(cc|h)$/
  if (!public && !(layer in rank)) broken("src/" layer " is not in INGOT_LAYERS")
}
{ code = $0; sub(/\/\/.*/, "", code) }  # rules are about code, not about comments

# 1. A layer includes itself and those below it. Quoted includes are ours, angle brackets are others.
code ~ /^ *# *include *"[^"]*"/ {
  target = code
  sub(/^[^"]*"/, "", target); sub(/".*/, "", target)
  to = target
  if (!sub(/\/.*/, "", to)) broken("#include \"" target "\" names no layer: write \"" layer "/" target "\"")
  else if (to == "ingot") {}  # the public headers
  else if (public) broken("the public headers may include only ingot/* and the standard library, not " target)
  else if (!(to in rank)) broken("#include \"" target "\": " to " is no layer; others\47 headers go in angle brackets")
  else if (rank[to] > rank[layer]) broken("layer " layer " may not use the layer " to ", which is above it (" target ")")
}
public && code ~ /^ *# *include *</ && code !~ /<[a-z_0-9]+>/ {
  broken("the public headers may include only ingot/* and the standard library:" code)
}

# 2. Facts about element types are rows of src/tensor/types.def and src/quant/codecs.def, not switches elsewhere
#    (a switch made from such a table, "case DType::k##x", is one).
code !~ /DType::k##/ && code ~ /(^|[^_a-zA-Z0-9])case +(ingot::)?DType::|using +enum +(class +)?(ingot::)?DType/ && layer != "tensor" {
  broken("a switch over DType outside src/tensor: make it a column of types.def or a field of the codec")
}

# 3. Only src/exec and src/commit open sinks: no other layer creates, writes, renames or removes files. Tests set scenes.
code ~ STORE_CALL && layer != "exec" && layer != "commit" && layer != "storage" && !test {
  broken("only src/storage, src/commit and src/exec may write through a Store: describe an output and give it to the executor")
}
code ~ /(^|[^_a-zA-Z0-9])(ofstream|fopen|O_CREAT|mkstemp|unlink|create_director(y|ies)|filesystem::(rename|remove))([^_a-zA-Z0-9]|$)/ && layer != "storage" && layer != "commit" && layer != "exec" && !test {
  broken("a file is written past the Store: only src/storage opens files for writing")
}
# 4. Which store a path leads to is for locate() to say.
code ~ /(^|[^_a-zA-Z0-9])local_store\(/ && layer != "storage" && !test {
  broken("local_store() outside src/storage: take the store from locate(), or from the caller")
}
END {
  if (!bad) printf "check_layers: %d files keep the rules\n", n_files
  exit bad
}' STORE_CALL='(->|\\.)(create|make_directory|sync_directory)\\(|[sS]tore(_|\\(\\))?(->|\\.)(rename|remove|lock)\\(' "${files[@]}"
