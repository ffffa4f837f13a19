// The local file system, written past its page cache (O_DIRECT): for files that nobody reads soon and whose writer leaves the processor to others. A copy into the cache costs the kernel
// about one second of a core per GB (3.3 s for 3.2 GB, measured; 0.3 s past it); the medium gets the bytes at the same rate.
#pragma once

#include "storage/store.h"

namespace ingot {

// Calls wait for the medium: who writes through it keeps several under way. Whole pages of large writes go past the cache, from memory that begins on a page without a copy; ends of
// writes, small files, and file systems that refuse go through it. What is written is read as ever.
Store& direct_store();

}  // namespace ingot
