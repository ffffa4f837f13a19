// Fuzzes the GGUF reader, the vocabulary that is read from its metadata, and the model as a Hugging Face directory.
#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/gguf_blocks.h"
#include "fuzzing.h"
#include "tokenizer/json_write.h"
#include "transform/gguf_check.h"
#include "transform/gguf_to_hf.h"
#include "transform/gguf_vocab.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto store = ingot::make_memory_store();
  ingot::fuzzing::put(*store, "m-00001-of-00002.gguf", ingot::fuzzing::text(data, size));
  const auto there = ingot::look_at(*store, "m-00001-of-00002.gguf");
  if (!there.ok()) return 0;
  // For whoever only looks: what is broken may fail to be read, and nothing worse.
  ingot::Faults faults;
  if (auto broken = ingot::open_gguf(*store, *there, &faults); broken.ok()) {
    ingot::fuzzing::read_all(*broken, size);
    (void)ingot::transform::examine_gguf(*broken);
  }
  auto a = ingot::open_gguf(*store, *there);
  if (!a.ok()) return 0;
  std::vector<ingot::NamedSpec> specs;
  for (const auto& t : a->tensors) {
    const auto spec = t.spec();
    specs.emplace_back(t.name, spec);
    if (!ingot::evaluate(t.node).ok()) std::abort();
  }
  (void)ingot::layout_gguf(*a, specs);
  // Its blocks as bytes are the same file again.
  if (const auto bytes = ingot::gguf_as_bytes(*a); bytes.ok() && !ingot::gguf_from_bytes(*bytes).ok()) std::abort();
  if (const auto vocab = ingot::transform::gguf_vocab(*a); vocab.ok()) (void)ingot::hf_tokenizer_of(*vocab, 16);
  (void)ingot::transform::to_hf(*a);
  return 0;
}
