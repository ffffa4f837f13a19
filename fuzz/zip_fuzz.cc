// Fuzzes the ZIP reader: what opens has all its records where it says, and each is read whole or refused.
#include "formats/zip_read.h"
#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, "m", ingot::fuzzing::text(data, size));
  const auto file = ingot::open_head(*store, "m");
  if (!file.ok()) return 0;
  const auto zip = ingot::ZipFile::open(*file);
  if (!zip.ok()) return 0;
  for (const auto& e : zip->entries()) {
    if (zip->find(e.name) != &e || e.header + e.packed > size) std::abort();
    const auto at = zip->data_offsets({&e});
    if (at.ok() && ((*at)[0] < e.header || (*at)[0] + e.packed > e.limit)) std::abort();
    const auto bytes = zip->read(e, 1 << 20);
    if (bytes.ok() && (bytes->size() != e.size || !at.ok())) std::abort();
  }
  return 0;
}
