#!/usr/bin/env bash
# run.sh BUILD_DIR CXX SANITIZE BASE ADAPTER: installs the build into a temporary prefix, then builds and runs a user's
# program against it twice, by find_package and by pkg-config. The prefix is moved in between: it must not matter.
set -euo pipefail
build=$1 cxx=$2 sanitize=$3 base=$4 adapter=$5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-Wall -Wextra -Werror${sanitize:+ -fsanitize=$sanitize}"
unset CMAKE_CXX_COMPILER_LAUNCHER

cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/prefix"
if leaked=$(find "$work/prefix" \( -name '*_test*' -o -name 'gtest*' \) | grep .); then
  echo "test files were installed: $leaked"; exit 1
fi

cmake -S "$here" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_FLAGS="$flags" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --build "$work/build" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$work/build/user" "$base" "$adapter" "$work/by-cmake.gguf"

PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name ingot.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046,SC2086
"$cxx" -std=c++20 $flags "$here/main.cc" -o "$work/user" $(pkg-config --cflags --libs ingot)
"$work/user" "$base" "$adapter" "$work/by-pkg-config.gguf"
cmp "$work/by-cmake.gguf" "$work/by-pkg-config.gguf"

# The installed program, moved too, makes the same file as the library.
"$work/prefix/bin/ingot" --version
"$work/prefix/bin/ingot" ship "$base" --adapter "$adapter" --type Q4_K_M --out "$work/by-program.gguf" --quiet
cmp "$work/by-cmake.gguf" "$work/by-program.gguf"
