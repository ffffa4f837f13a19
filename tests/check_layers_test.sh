#!/usr/bin/env bash
# The layer check must be able to fail: a small tree that keeps the rules passes, and each broken rule is named.
set -euo pipefail
check=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/cmake/check_layers.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/src/{base,tensor,exec,quant,cli} "$tree"/include/ingot
echo 'set(INGOT_LAYERS base tensor exec quant)' >"$tree/CMakeLists.txt"
printf '#include <string>\n#include "ingot/status.h"\n' >"$tree/include/ingot/ingot.h"
printf '#include "base/bytes.h"\n#include "ingot/status.h"\n// #include "quant/no.h" is a comment\n' >"$tree/src/tensor/types.h"
printf '#include "quant/codec.h"\n#include <fmt/format.h>\n' >"$tree/src/cli/main.cc"
printf 'auto w = store->create(path, 0, false);\n' >"$tree/src/exec/sink.cc"
printf '  case DType::k##x: return &kCodec##x;\n' >"$tree/src/quant/codec.cc"
printf 'auto w = store->create(path, 0, false);\n#include "exec/plan.h"\nlocal_store().list("d");\n' >"$tree/src/quant/codec_test.cc"

"$check" "$tree" >/dev/null || { echo "a tree that keeps the rules was refused:"; "$check" "$tree"; exit 1; }

# broken FILE LINE MESSAGE: with LINE in FILE the check fails and says MESSAGE at that place.
broken() {
  local file=$tree/$1 out
  printf '%s\n' "$2" >"$file"
  if out=$("$check" "$tree"); then echo "not caught in $1: $2"; exit 1; fi
  [[ $out == "$1:1: "*"$3"* ]] || { echo "wrong message for '$2' in $1: $out"; exit 1; }
  rm "$file"
}
broken src/base/x.h '#include "tensor/types.h"' 'may not use the layer tensor'
broken src/exec/x.cc '  #  include "quant/codec.h"' 'may not use the layer quant'
broken src/exec/x_test.cc '#include "quant/codec.h"' 'may not use the layer quant'
broken src/base/x.h '#include "cli/main.h"' 'may not use the layer cli'
broken src/quant/x.cc '#include "codec.h"' 'names no layer'
broken src/quant/x.cc '#include "fmt/format.h"' 'is no layer'
broken include/ingot/x.h '#include "tensor/types.h"' 'only ingot/* and the standard library'
broken include/ingot/x.h '#include <nlohmann/json.hpp>' 'only ingot/* and the standard library'
broken src/quant/x.cc '    case DType::kQ4_0: return 4;' 'switch over DType'
broken src/quant/x.cc 'using enum DType;' 'switch over DType'
broken src/quant/x.cc 'auto f = store.create(path, 0, false);' 'only src/storage, src/commit and src/exec'
broken src/cli/x.cc 'INGOT_TRY(local_store().remove(path));' 'only src/storage, src/commit and src/exec'
broken src/cli/x.cc 'std::ofstream f(path);' 'past the Store'
broken src/cli/x.cc 'auto a = open_model(local_store(), path);' 'take the store from locate()'
mkdir "$tree/src/extra"
broken src/extra/x.h '' 'not in INGOT_LAYERS'
rmdir "$tree/src/extra"
echo 'set(OTHER 1)' >"$tree/CMakeLists.txt"
if "$check" "$tree" >/dev/null 2>&1; then echo "a missing list of layers was not noticed"; exit 1; fi
echo "ok"
