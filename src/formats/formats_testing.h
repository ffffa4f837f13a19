// For tests: files in a memory store, and an artifact written to one without the executor.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "exec/evaluate.h"
#include "exec/executor.h"
#include "formats/formats.h"
#include "storage/store.h"

namespace ingot::testing {

inline void put_file(Store& store, const std::string& path, std::string_view bytes) {
  ASSERT_TRUE(store.make_directory(parent_path(path)).ok());
  auto f = store.create(path, bytes.size(), false);
  ASSERT_TRUE(f.ok()) << f.error().message;
  ASSERT_TRUE((*f)->write(0, as_bytes(bytes)).ok());
  ASSERT_TRUE((*f)->complete().ok());
}

inline std::string get_file(Store& store, const std::string& path) {
  auto t = read_text(store, path, UINT64_MAX);
  EXPECT_TRUE(t.ok()) << t.error().message;
  return t.ok() ? *t : std::string();
}

// Every file of the output, by name.
inline std::map<std::string, std::string> render(const Output& o) {
  std::vector<NamedSpec> specs;
  for (const auto& t : o.artifact.tensors) specs.emplace_back(t.name, t.spec());
  auto layout = o.layout(specs);
  EXPECT_TRUE(layout.ok()) << layout.error().message;
  std::map<std::string, std::string> out;
  if (!layout.ok()) return out;
  std::vector<std::string> files;
  for (const auto& f : layout->files) {
    files.emplace_back(f.size, '\0');
    for (const auto& x : f.extents) files.back().replace(x.offset, x.bytes.size(), x.bytes);
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    auto bytes = evaluate(o.artifact.tensors[i].node);
    EXPECT_TRUE(bytes.ok()) << bytes.error().message;
    if (!bytes.ok()) return out;
    const Placement p = layout->tensors[i];
    EXPECT_LE(p.offset + bytes->size(), files[static_cast<size_t>(p.file)].size());
    if (!bytes->empty()) std::memcpy(files[static_cast<size_t>(p.file)].data() + p.offset, bytes->data(), bytes->size());
  }
  for (size_t i = 0; i < files.size(); ++i) out[layout->files[i].name] = std::move(files[i]);
  return out;
}

inline void write_output(const Output& o) {
  for (const auto& [name, bytes] : render(o)) put_file(*o.store, o.directory ? join_path(o.path, name) : o.path, bytes);
}

inline void set_node(Artifact* a, std::string_view name, const NodePtr& node) {
  for (size_t i = 0; i < a->tensors.size(); ++i)
    if (a->tensors[i].name == name) a->tensors.node(i) = node;
}
template <class F>
void drop_if(Artifact* a, F tensor) {
  a->tensors.edit([&](auto& all) { std::erase_if(all, tensor); });
}

inline NodePtr f32_tensor(Shape shape, const std::vector<float>& v) {
  std::vector<std::byte> bytes(v.size() * sizeof(float));
  if (!v.empty()) std::memcpy(bytes.data(), v.data(), bytes.size());
  return make_memory_tensor({DType::kF32, shape}, std::move(bytes));
}

inline std::vector<float> random_floats(int64_t n, uint64_t seed, float scale = 1) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> d(0, scale);
  std::vector<float> v(static_cast<size_t>(n));
  for (auto& x : v) x = d(rng);
  return v;
}

inline std::vector<float> to_floats(const std::vector<std::byte>& bytes) {
  std::vector<float> v(bytes.size() / sizeof(float));
  if (!v.empty()) std::memcpy(v.data(), bytes.data(), v.size() * sizeof(float));
  return v;
}

// Computing random regions (in multiples of the granularity) gives the bytes of the whole.
inline void expect_regions_match(const NodePtr& node, int count, uint64_t seed) {
  auto whole = evaluate(node);
  ASSERT_TRUE(whole.ok()) << whole.error().message;
  const TensorSpec spec = node->spec();
  const Shape g = node->granularity();
  std::mt19937_64 rng(seed);
  for (int i = 0; i < count; ++i) {
    Region r = Region::all(spec.shape);
    for (int d = 0; d < spec.shape.rank; ++d) {
      const int64_t steps = (spec.shape[d] + g[d] - 1) / g[d];
      const int64_t a = static_cast<int64_t>(rng() % static_cast<uint64_t>(steps));
      const int64_t n = 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(steps - a));
      r.begin[d] = a * g[d];
      r.extent[d] = std::min(n * g[d], spec.shape[d] - r.begin[d]);
    }
    auto part = evaluate(node, r);
    ASSERT_TRUE(part.ok()) << part.error().message;
    std::vector<std::byte> want(bytes_of(spec.type, r.elements()));
    for_each_run(Region::all(spec.shape), r, [&](int64_t at, int64_t to, int64_t n) {
      std::memcpy(want.data() + bytes_of(spec.type, to), whole->data() + bytes_of(spec.type, at), bytes_of(spec.type, n));
    });
    ASSERT_TRUE(*part == want) << to_string(r);
  }
}

}  // namespace ingot::testing
