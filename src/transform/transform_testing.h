// For tests of transforms: the example model, and jobs run by the executor in a memory store.
#pragma once

#include "exec/executor.h"
#include "formats/formats_testing.h"
#include "formats/outputs.h"
#include "quant/codec.h"

namespace ingot::testing {

inline Artifact open_or_die(Store& store, const std::string& path) {
  auto a = open_model(store, path);
  EXPECT_TRUE(a.ok()) << a.error().message;
  return a.ok() ? *a : Artifact();
}
inline Artifact example_base() { return open_or_die(local_store(), INGOT_SOURCE_DIR "/examples/tiny-llama-base"); }
inline Artifact example_adapter(const std::string& name) {
  return open_or_die(local_store(), name == "lora-code" ? INGOT_SOURCE_DIR "/examples/lora-code"
                                                        : INGOT_SOURCE_DIR "/tests/data/adapters/" + name);
}

inline void run_output(const Output& o) {
  ExecOptions e;
  e.threads = 2;
  e.memory = 64 << 20;
  auto r = run_job({o}, e);
  ASSERT_TRUE(r.ok()) << r.error().message;
}

// The node's values as f32.
inline std::vector<float> values(const NodePtr& node) {
  auto bytes = evaluate(node);
  EXPECT_TRUE(bytes.ok()) << bytes.error().message;
  if (!bytes.ok()) return {};
  const int64_t n = node->spec().shape.elements();
  std::vector<float> out(static_cast<size_t>(n));
  find_codec(node->spec().type)->decode(bytes->data(), n, out.data());
  return out;
}

inline NodePtr typed_tensor(DType type, Shape shape, const std::vector<float>& v) {
  std::vector<std::byte> bytes(bytes_of(type, shape.elements()));
  const int64_t cols = shape.back();
  find_codec(type)->encode(v.data(), shape.elements() / cols, cols, {}, bytes.data());
  return make_memory_tensor({type, shape}, std::move(bytes));
}

template <class T>
void expect_error(const Result<T>& r, const std::vector<std::string>& parts, const std::string& what = "") {
  ASSERT_FALSE(r.ok()) << what;
  for (const auto& p : parts) EXPECT_NE(r.error().message.find(p), std::string::npos) << what << ": " << r.error().message;
}

}  // namespace ingot::testing
