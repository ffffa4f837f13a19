// A mounted bucket as a store: files appear under their own names as they are written, in order, and what is closed is done.
#pragma once

#include <memory>

#include "storage/store.h"

namespace ingot {

// Over the local store, or in tests any other. It renames, links, locks and appends to nothing, writes each file from its begin to its end, and closes it when it is synced.
std::unique_ptr<Store> make_mount_store(Store& beneath);

}  // namespace ingot
