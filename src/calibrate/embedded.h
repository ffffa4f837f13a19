// The files of data/texts/, compiled in by cmake/embed.cmake.
#pragma once

#include "model/embedded.h"

namespace ingot {

extern const EmbeddedFile kTextFiles[];
extern const int kTextFileCount;

}  // namespace ingot
