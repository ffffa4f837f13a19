// Ranges of files read as one: a part of a file that is a file itself (an archive within it), or what several hold of one piece each (the ranks of a run).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/store.h"
#include "tensor/node.h"

namespace ingot {

struct FilePiece {
  std::shared_ptr<const ReadFile> file;
  uint64_t offset = 0, size = 0;  // within the file, as the caller has checked
};
// The pieces one after another, under a name for messages.
std::shared_ptr<const ReadFile> make_pieces_file(std::string path, std::vector<FilePiece> pieces);

// The bytes of a 1-D source, of a type without blocks; they are asked for in whole elements.
std::shared_ptr<const ReadFile> make_flat_file(std::shared_ptr<const Source> flat);

}  // namespace ingot
