// Fuzzes the reader of torch's files: the bytes as a file, and as the pickle of one whose storages are there. Whatever opens must be readable to the last byte, or be refused as bad input.
#include "formats/formats.h"
#include "formats/torch_file.h"
#include "fuzz_zip.h"

namespace {

void use(const std::string& bytes) {
  auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, "m.pt", bytes);
  const auto there = ingot::look_at(*store, "m.pt");
  if (!there.ok()) return;
  (void)ingot::read_torch_weights(there->file);
  const auto a = ingot::open_torch(*store, *there);
  if (!a.ok()) return;
  uint64_t most = ingot::fuzzing::kMostOfAll;
  for (const auto& t : a->tensors) {
    const uint64_t bytes_of_it = ingot::bytes_of(t.spec());
    if (bytes_of_it > std::min(ingot::fuzzing::kMostOfOne, most)) continue;
    most -= bytes_of_it;
    // What can be wrong beyond the headers, a sparse tensor's indices or a packed record, is bad input.
    if (const auto read = ingot::evaluate(t.node); !read.ok() && read.error().kind != ingot::ErrorKind::kBadInput) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size), zeros(64, '\0');
  use(bytes);
  if (bytes.starts_with('\x80')) use(ingot::fuzzing::archive({{"a/data.pkl", bytes}, {"a/data/0", std::string_view(zeros).substr(0, 16)}, {"a/data/1", zeros}, {"a/byteorder", size % 2 ? "big" : "little"}}));
  return 0;
}
