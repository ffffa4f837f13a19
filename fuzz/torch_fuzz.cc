// Fuzzes the reader of torch's files: the bytes as a file, and as the pickle of one whose storages are there. Whatever opens must be readable to the last byte.
#include <zlib.h>

#include <cstdlib>

#include "exec/evaluate.h"
#include "formats/formats.h"
#include "formats/torch_file.h"

namespace {

std::string archive(std::initializer_list<std::pair<std::string, std::string_view>> records) {
  ingot::ByteWriter out, directory;
  for (const auto& [name, bytes] : records) {
    const auto crc = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
    const auto at = static_cast<uint32_t>(out.size()), n = static_cast<uint32_t>(bytes.size());
    for (auto* w : {&out, &directory}) {
      w->write<uint32_t>(w == &out ? 0x04034b50 : 0x02014b50);
      if (w == &directory) w->write<uint16_t>(20);
      w->write<uint16_t>(20), w->write<uint32_t>(0), w->write<uint32_t>(0), w->write<uint32_t>(crc), w->write<uint32_t>(n), w->write<uint32_t>(n);
      w->write<uint16_t>(static_cast<uint16_t>(name.size())), w->write<uint16_t>(0);
      if (w == &directory) w->write<uint32_t>(0), w->write<uint16_t>(0), w->write<uint32_t>(0), w->write<uint32_t>(at);
      w->append(name);
    }
    out.append(bytes);
  }
  const auto at = static_cast<uint32_t>(out.size());
  out.append(directory.str());
  out.write<uint32_t>(0x06054b50), out.write<uint32_t>(0);
  for (int i = 0; i < 2; ++i) out.write<uint16_t>(static_cast<uint16_t>(records.size()));
  out.write<uint32_t>(static_cast<uint32_t>(directory.size())), out.write<uint32_t>(at), out.write<uint16_t>(0);
  return out.str();
}

void use(const std::string& bytes) {
  auto store = ingot::make_memory_store();
  auto f = store->create("m.pt", bytes.size(), false);
  if (!f.ok() || !(*f)->write(0, ingot::as_bytes(bytes)).ok() || !(*f)->complete().ok()) std::abort();
  const auto there = ingot::look_at(*store, "m.pt");
  if (!there.ok()) return;
  (void)ingot::read_torch_weights(there->file);
  const auto a = ingot::open_torch(*store, *there);
  if (!a.ok()) return;
  for (const auto& t : a->tensors) {
    if (ingot::bytes_of(t.spec()) > 1 << 20) continue;
    // Only a sparse tensor's indices are data that can be wrong.
    if (const auto read = ingot::evaluate(t.node); !read.ok() && dynamic_cast<const ingot::Source*>(t.node.get())) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size), zeros(64, '\0');
  use(bytes);
  if (bytes.starts_with('\x80')) use(archive({{"a/data.pkl", bytes}, {"a/data/0", std::string_view(zeros).substr(0, 16)}, {"a/data/1", zeros}, {"a/byteorder", size % 2 ? "big" : "little"}}));
  return 0;
}
