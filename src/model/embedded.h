// The files of data/architectures/ and data/names/, compiled in by cmake/embed.cmake so that the program needs no file beside it.
#pragma once

namespace ingot {

struct EmbeddedFile {
  const char* name;  // without .json
  const char* text;
};
extern const EmbeddedFile kArchitectureFiles[];
extern const int kArchitectureFileCount;
extern const EmbeddedFile kNameMapFiles[];
extern const int kNameMapFileCount;

}  // namespace ingot
