// Fuzzes the safetensors reader: the bytes as a file, and as the index of a directory with one shard.
#include "formats/formats.h"
#include "formats/outputs.h"
#include "fuzzing.h"

namespace {

using ingot::fuzzing::put;

// Whatever opens must be readable to the last byte, and be laid out again.
void use(ingot::Store& store, const std::string& path) {
  const auto there = ingot::look_at(store, path);
  if (!there.ok()) return;
  const auto a = ingot::open_safetensors(store, *there);
  if (!a.ok()) return;
  std::vector<ingot::NamedSpec> specs;
  for (const auto& t : a->tensors) {
    const auto spec = t.spec();
    specs.emplace_back(t.name, spec);
    std::vector<std::byte> bytes(ingot::bytes_of(spec));
    const auto* source = dynamic_cast<const ingot::Source*>(t.node.get());
    if (!source || !source->read(ingot::Region::all(spec.shape), bytes).ok()) std::abort();
  }
  if (!ingot::layout_safetensors(specs).ok()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = ingot::fuzzing::text(data, size);
  auto store = ingot::make_memory_store();
  put(*store, "m.safetensors", bytes);
  use(*store, "m.safetensors");
  static const std::string kShard = [] {
    const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  )";
    ingot::ByteWriter w;
    w.write<uint64_t>(header.size());
    w.append(header);
    w.append("abcd");
    return w.str();
  }();
  put(*store, "d/s.safetensors", kShard);
  put(*store, "d/t.safetensors", kShard);
  put(*store, "d/model.safetensors.index.json", bytes);
  use(*store, "d");
  return 0;
}
