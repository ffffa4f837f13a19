// One file of the local file system, opened for reading or for writing.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>

#include "storage/store.h"

namespace ingot {

std::string local_identity(const struct stat& st);  // see ReadFile::identity()
Result<std::unique_ptr<ReadFile>> open_local(const std::string& path);
enum class Creation { kReplace, kResume, kNew };  // of what has the name: cut to nothing, gone on with, refused
Result<std::unique_ptr<WriteFile>> create_local(const std::string& path, uint64_t size, Creation how);
Result<std::unique_ptr<WriteFile>> change_local(const std::string& path);

}  // namespace ingot
