// Every architecture's GGUF as a Hugging Face directory again: the same tensors, and a configuration that is the same model.
#include "infer/architecture_logits.h"
#include "transform/gguf_to_hf.h"

namespace ingot {
namespace {

using namespace testing_models;

// The GGUF as a directory again: the same tensors, byte for byte but where GGUF itself has rounded them, and a configuration from which the same file is made.
void expect_the_same_directory(const Case& c) {
  const Artifact g = gguf_of(c);
  std::vector<std::string> notices;
  transform::ToHfOptions options;
  options.on_notice = [&](const std::string& text) { notices.push_back(text); };
  const auto back = transform::to_hf(g, options);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(fmt::format("{}", fmt::join(notices, "\n")), "") << back->files.at("config.json");
  const bool tied = !g.find("output.weight");
  EXPECT_EQ(back->tensors.size(), c.hf.tensors.size() - (tied && c.hf.find("lm_head.weight") ? 1 : 0));
  for (const auto& t : back->tensors) {
    const LazyTensor* own = c.hf.find(t.name);
    ASSERT_NE(own, nullptr) << t.name;
    ASSERT_EQ(own->spec(), t.spec()) << t.name;
    const auto a = evaluate(own->node), b = evaluate(t.node);
    ASSERT_TRUE(a.ok() && b.ok()) << t.name;
    if (c.data["shifted"].get<bool>() && has(t.name, {"norm"})) {  // one was added, and taken off again
      for (size_t i = 0; i < a->size(); i += 4) {
        float x = 0, y = 0;
        std::memcpy(&x, a->data() + i, 4), std::memcpy(&y, b->data() + i, 4);
        EXPECT_EQ(x + 1, y + 1) << t.name;
      }
    } else {
      EXPECT_TRUE(*a == *b) << t.name;
    }
  }
  Case again = c;
  again.hf = *back;
  const Artifact twice = gguf_of(again);
  for (const auto& [key, value] : g.metadata) {
    const MetaValue* m = twice.meta(key);
    ASSERT_NE(m, nullptr) << key << "\n" << back->files.at("config.json");
    EXPECT_EQ(as_json(*m), as_json(value)) << key << "\n" << back->files.at("config.json");
  }
  ASSERT_EQ(twice.tensors.size(), g.tensors.size());
  for (const auto& t : g.tensors) {
    const LazyTensor* other = twice.find(t.name);
    ASSERT_NE(other, nullptr) << t.name;
    const auto a = evaluate(t.node), b = evaluate(other->node);
    ASSERT_TRUE(a.ok() && b.ok()) << t.name;
    EXPECT_TRUE(*a == *b) << t.name;
  }
  const LogitsError l = compare(again, twice);
  EXPECT_LE(l.worst, kTolerance) << c.name;
  EXPECT_EQ(l.wrong_top, 0) << c.name;
}

class ToHf : public ::testing::TestWithParam<std::string> {};

TEST_P(ToHf, IsADirectoryAgain) { expect_the_same_directory(load_case(GetParam())); }

INSTANTIATE_TEST_SUITE_P(All, ToHf, ::testing::ValuesIn(case_names()), name_of);
INSTANTIATE_TEST_SUITE_P(Variants, ToHf, ::testing::ValuesIn(case_names("variants/")), name_of);

}  // namespace
}  // namespace ingot
