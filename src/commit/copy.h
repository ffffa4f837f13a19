// A file copied as it is, without looking at what it holds.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/status.h"
#include "storage/store.h"

namespace ingot {

// Its size. Whole and durable under its name on return, or not there; blocks are shared where the store can. Nothing is hashed or read back. With `replace` a file of that
// name gives way.
Result<uint64_t> copy_file(Store& store, const std::string& from, const std::string& to, bool replace, const CancelToken& cancel);

}  // namespace ingot
