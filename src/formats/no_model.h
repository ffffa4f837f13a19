// What lies beside models and leads to one, but is none itself: manifests of Ollama's store, parts that a file was cut into by its bytes.
#pragma once

#include "formats/formats.h"

namespace ingot {

// An error that says what it is and what to give instead; nothing else.
Status check_no_model(Store& store, const Probe& probe);

}  // namespace ingot
