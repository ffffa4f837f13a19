// Fuzzes compressed files: the bytes as what lies in the store; and as what was written, which must come back.
#include "fuzzing.h"
#include "storage/framed.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = ingot::fuzzing::text(data, size);
  const auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, "hostile.frames", bytes);
  const auto reading = ingot::make_framed_store(*store);
  if (const auto file = reading->open("hostile"); file.ok() && (*file)->size() <= 8 * ingot::kFrameBytes) {
    std::vector<std::byte> all((*file)->size());
    (void)(*file)->read(0, all);
  }
  const auto framed = ingot::make_framed_store(*store, {"honest"});
  ingot::fuzzing::put(*framed, "honest", bytes);
  const auto back = ingot::read_text(*reading, "honest");
  if (!back.ok() || *back != bytes) std::abort();
  return 0;
}
