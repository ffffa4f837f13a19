// Fuzzes the GGUF reader, and the vocabulary that is read from its metadata.
#include <cstdlib>

#include "exec/evaluate.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "transform/gguf_check.h"
#include "transform/gguf_vocab.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto store = ingot::make_memory_store();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto f = store->create("m-00001-of-00002.gguf", size, false);
  if (!f.ok() || !(*f)->write(0, ingot::as_bytes(bytes)).ok() || !(*f)->complete().ok()) std::abort();
  const auto there = ingot::look_at(*store, "m-00001-of-00002.gguf");
  if (!there.ok()) return 0;
  // For whoever only looks: what is broken may fail to be read, and nothing worse.
  ingot::Faults faults;
  if (auto broken = ingot::open_gguf(*store, *there, &faults); broken.ok()) {
    for (const auto& t : broken->tensors)
      if (ingot::bytes_of(t.spec()) <= size) (void)ingot::evaluate(t.node);
    (void)ingot::transform::examine_gguf(*broken);
  }
  auto a = ingot::open_gguf(*store, *there);
  if (!a.ok()) return 0;
  std::vector<ingot::NamedSpec> specs;
  for (const auto& t : a->tensors) {
    const auto spec = t.spec();
    specs.emplace_back(t.name, spec);
    std::vector<std::byte> out(ingot::bytes_of(spec));
    const auto* source = dynamic_cast<const ingot::Source*>(t.node.get());
    if (!source || !source->read(ingot::Region::all(spec.shape), out).ok()) std::abort();
  }
  (void)ingot::layout_gguf(*a, specs);
  (void)ingot::transform::gguf_vocab(*a);
  return 0;
}
