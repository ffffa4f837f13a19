// For tests: checkpoints that frameworks wrote, beside what the writing processes held, from tests/data/checkpoints or the folder that INGOT_CHECKPOINTS names.
#pragma once

#include <cstdlib>
#include <filesystem>

#include "formats/formats_testing.h"
#include "formats/json.h"

namespace ingot::testing {

class Samples : public ::testing::Test {
 protected:
  static std::string root() {
    const char* all = std::getenv("INGOT_CHECKPOINTS");
    return all ? all : std::string(INGOT_SOURCE_DIR) + "/tests/data/checkpoints";
  }
  // False where the sample is not among those that the repository keeps.
  bool begin(const std::string& name, const std::string& expected = "") {
    const std::string at = root() + "/" + name;
    if (!std::filesystem::exists(at)) return absent_ += " " + name, false;
    begun_ = true;
    folder_ = at + "/ckpt";
    expected_ = open((expected.empty() ? at : root() + "/" + expected) + "/expected.safetensors");
    json_ = *parse_json(*read_text(local_store(), at + "/expected.json"), name);
    compared_ = 0;
    return true;
  }
  // None of a test's samples is there: that shows.
  void TearDown() override {
    if (!begun_ && !absent_.empty()) GTEST_SKIP() << "no sample of" << absent_ << "; INGOT_CHECKPOINTS names where they are";
  }
  static Artifact open(const std::string& path) {
    auto a = open_model(local_store(), path);
    EXPECT_TRUE(a.ok()) << a.error().message;
    return a.ok() ? *std::move(a) : Artifact();
  }
  // `own` of `a` is `name` of what is expected, and so are regions of it.
  void same(const Artifact& a, const std::string& own, const std::string& name) {
    const LazyTensor *is = a.find(own), *want = expected_.find(name);
    ASSERT_TRUE(is) << a.path << ": no " << own;
    ASSERT_TRUE(want) << name;
    EXPECT_TRUE(is->spec() == want->spec()) << own << ": " << info(is->spec().type).name << " " << to_string(is->spec().shape);
    const auto bytes = evaluate(is->node), wanted = evaluate(want->node);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    EXPECT_TRUE(*bytes == *wanted) << a.path << ": " << own;
    if (is->spec().shape.elements() > 1) expect_regions_match(is->node, 6, 1);
    ++compared_;
  }
  void all_of(const Artifact& a, const std::string& kind, const std::string& before) {
    for (const auto& t : expected_.tensors)
      if (t.name.starts_with(kind)) same(a, before + t.name.substr(kind.size()), t.name);
  }
  static void leaves(const Json& j, const std::string& path, const std::vector<std::string>& whole, std::map<std::string, Json>* out) {
    const bool parts = j.is_structured() && !j.empty() && std::find(whole.begin(), whole.end(), path) == whole.end();
    if (!parts) (*out)[path] = j;
    size_t i = 0;
    for (auto it = j.begin(); parts && it != j.end(); ++it, ++i)
      leaves(*it, (path.empty() ? "" : path + "/") + (j.is_object() ? it.key() : std::to_string(i)), whole, out);
  }
  // All leaves that are expected, and no others.
  static void same_values(const Artifact& a, const Json& want, const std::string& before = "", const std::vector<std::string>& whole = {}) {
    std::map<std::string, Json> all;
    leaves(want, before, whole, &all);
    for (const auto& [name, value] : all) {
      const auto it = a.values.find(name);
      ASSERT_TRUE(it != a.values.end()) << a.path << ": no " << name;
      const auto is = parse_json(it->second, name);
      ASSERT_TRUE(is.ok()) << is.error().message;
      EXPECT_EQ(*is, value) << a.path << ": " << name << " = " << it->second;
    }
    for (const auto& [name, value] : a.values)
      EXPECT_TRUE(all.count(name) || !name.starts_with(before)) << a.path << ": " << name << " = " << value << " is not expected";
  }
  static std::string notices(const Artifact& a) {
    std::string all;
    for (const auto& n : a.notices) all += n + "\n";
    return all;
  }

  std::string folder_;
  Artifact expected_;
  Json json_;
  size_t compared_ = 0;  // tensors, since begin()
  bool begun_ = false;
  std::string absent_;
};

}  // namespace ingot::testing
