// Every kind of rope scaling as keys and tensors that llama.cpp reads, or refused by the name of what no key says.
#include "transform/gguf_rope.h"

#include <cmath>
#include <numbers>

#include "transform/transform_testing.h"

namespace ingot::transform {
namespace {

using namespace ingot::testing;

constexpr int64_t kHead = 16;

Json config_with(const char* place, Json rope, int64_t context = 4096) {
  Json c = {{"max_position_embeddings", context}, {place, std::move(rope)}};
  if (place == std::string("rope_scaling")) c["rope_theta"] = 10000.0;
  else c[place]["rope_theta"] = 10000.0;
  return c;
}
Result<GgufRope> rope_of(const Json& config) { return gguf_rope(config, "llama", kHead, "config.json"); }

// The metadata as JSON, the prefix left out.
Json keys_of(const GgufRope& r) {
  Json j = Json::object();
  for (const auto& [key, value] : r.metadata) {
    EXPECT_TRUE(key.starts_with("llama.rope.scaling.")) << key;
    const std::string name = key.substr(19);
    if (const auto* s = std::get_if<std::string>(&value.v)) j[name] = *s;
    else if (const auto* f = std::get_if<float>(&value.v)) j[name] = *f;
    else j[name] = std::get<uint32_t>(value.v);
  }
  return j;
}
void expect_keys(const char* place, const Json& rope, const Json& want, int64_t context = 4096) {
  auto r = rope_of(config_with(place, rope, context));
  ASSERT_TRUE(r.ok()) << rope.dump() << r.error().message;
  EXPECT_EQ(keys_of(*r), want) << rope.dump();
  EXPECT_EQ(r->notice, "") << rope.dump();
}
void expect_refused(const Json& rope, const std::vector<std::string>& parts) {
  auto r = rope_of(config_with("rope_parameters", rope));
  ASSERT_FALSE(r.ok()) << rope.dump();
  EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
  for (const auto& p : parts) EXPECT_NE(r.error().message.find(p), std::string::npos) << p << ": " << r.error().message;
}

TEST(GgufRope, NothingScaledHasNoKey) {
  const Json nothing = Json::object();
  for (const char* place : {"rope_parameters", "rope_scaling"})
    for (const Json& rope : {Json::object(), Json{{"rope_type", "default"}}, Json{{"type", "default"}}, Json{{"type", nullptr}},
                             Json{{"rope_type", nullptr}, {"type", "default"}}, Json{{"rope_type", "default"}, {"factor", 1.0}}, Json{{"rope_type", "default"}, {"factor", nullptr}}})
      expect_keys(place, rope, nothing);
  auto none = rope_of({{"max_position_embeddings", 4096}, {"rope_scaling", nullptr}, {"rope_parameters", nullptr}});
  ASSERT_TRUE(none.ok()) << none.error().message;
  EXPECT_TRUE(none->metadata.empty() && none->tensors.empty());
  // Said to be plain, with keys of another kind left over: plain, and told.
  auto left = rope_of(config_with("rope_parameters", {{"rope_type", "default"}, {"factor", 4.0}, {"beta_fast", 16}}));
  ASSERT_TRUE(left.ok()) << left.error().message;
  EXPECT_TRUE(left->metadata.empty());
  EXPECT_NE(left->notice.find("'factor' of 4"), std::string::npos) << left->notice;
}

TEST(GgufRope, LinearInBothPlacesAndSpellings) {
  for (const char* place : {"rope_parameters", "rope_scaling"})
    for (const char* type : {"type", "rope_type"}) expect_keys(place, {{type, "linear"}, {"factor", 2.5}}, {{"type", "linear"}, {"factor", 2.5f}});
}

TEST(GgufRope, DynamicIsPlainUpToTheTrainedLengthWithANotice) {
  for (const char* place : {"rope_parameters", "rope_scaling"}) {
    auto r = rope_of(config_with(place, {{"type", "dynamic"}, {"factor", 2.0}}, 2048));
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_TRUE(r->metadata.empty() && r->tensors.empty());
    EXPECT_NE(r->notice.find("up to 2048 tokens"), std::string::npos) << r->notice;
  }
  expect_refused({{"rope_type", "dynamic"}}, {"dynamic", "no 'factor'"});
}

// llama.cpp takes betas of 32 and 1, and multiplies by 0.1 ln(factor) + 1 and by attn_factor.
TEST(GgufRope, YarnsDefaultsNeedNoKeyWrittenOutOrNot) {
  const Json plain = {{"type", "yarn"}, {"factor", 4.0f}, {"original_context_length", 1024}};
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}};
  const auto with = [&](const Json& more) {
    Json j = yarn;
    j.update(more);
    return j;
  };
  for (const Json& more :
       {Json::object(), Json{{"beta_fast", 32}, {"beta_slow", 1}}, Json{{"beta_fast", 32.0}, {"beta_slow", 1.0}}, Json{{"beta_fast", nullptr}, {"beta_slow", 0}},
        Json{{"attention_factor", 0.1 * std::log(4.0) + 1}}, Json{{"attention_factor", nullptr}}, Json{{"extrapolation_factor", 1}},
        Json{{"attention_factor", 1.138629436111989}, {"attn_factor", 1.138629436111989}}, Json{{"mscale", 1.0}}, Json{{"mscale_all_dim", 1.0}},
        Json{{"mscale", 1.0}, {"mscale_all_dim", 0.0}}, Json{{"truncate", true}}, Json{{"finetuned", true}}})
    for (const char* place : {"rope_parameters", "rope_scaling"}) expect_keys(place, with(more), plain);
  const double usual = 0.1 * std::log(4.0) + 1;
  const auto attn = [&](double magnitude) {
    Json j = plain;
    j["attn_factor"] = static_cast<float>(magnitude / usual);
    return j;
  };
  expect_keys("rope_scaling", with({{"attention_factor", 1.0}}), attn(1));
  expect_keys("rope_scaling", with({{"attention_factor", 1.5}, {"mscale", 2}, {"mscale_all_dim", 1}}), attn(1.5));
  expect_keys("rope_scaling", with({{"mscale", 1.0}, {"mscale_all_dim", 1.0}}), attn(1));
  expect_keys("rope_scaling", with({{"mscale", 0.707}, {"mscale_all_dim", 1.5}}), attn((0.0707 * std::log(4.0) + 1) / (0.15 * std::log(4.0) + 1)));
  // Without it transformers takes the model's length.
  Json bare = yarn;
  bare.erase("original_max_position_embeddings");
  expect_keys("rope_parameters", bare, {{"type", "yarn"}, {"factor", 4.0f}, {"original_context_length", 4096}});
  // A factor of null is the quotient of the lengths; one that is absent is none.
  expect_keys("rope_parameters", with({{"factor", nullptr}}), plain, 4096);
  auto betas = rope_of(config_with("rope_parameters", with({{"beta_fast", 16}, {"beta_slow", 2}})));
  ASSERT_TRUE(betas.ok()) << betas.error().message;
  Json said = plain;
  said["yarn_beta_fast"] = 16.0f, said["yarn_beta_slow"] = 2.0f;
  EXPECT_EQ(keys_of(*betas), said);
  EXPECT_NE(betas->notice.find("16 and 2"), std::string::npos) << betas->notice;
}

// transformers 5 takes rope_scaling alone where it is not empty, but for the base, which is the outer one, or 10000.
TEST(GgufRope, OfTwoPlacesBothMustSayTheSame) {
  const auto both = [](Json parameters, Json scaling, const Json& more = Json::object()) {
    Json c = {{"max_position_embeddings", 4096}, {"rope_parameters", std::move(parameters)}, {"rope_scaling", std::move(scaling)}};
    c.update(more);
    return rope_of(c);
  };
  const Json linear = {{"type", "linear"}, {"factor", 2.0}}, keys = {{"type", "linear"}, {"factor", 2.0f}};
  const Json same = {{"rope_type", "linear"}, {"factor", 2.0}}, based = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}};
  for (const auto& [parameters, scaling, more] : {std::tuple{same, linear, Json::object()}, {Json::object(), linear, Json::object()}, {Json(), linear, Json::object()},
                                                  {same, Json(false), Json::object()}, {same, Json::object(), Json::object()}, {based, linear, Json{{"rope_theta", 5e5}}}}) {
    const auto r = both(parameters, scaling, more);
    ASSERT_TRUE(r.ok()) << parameters << scaling << r.error().message;
    EXPECT_EQ(keys_of(*r), keys);
  }
  Json more = same;
  more["attention_factor"] = 1.5;
  for (const auto& r : {both(based, linear), both(more, linear), both({{"rope_type", "default"}, {"rope_theta", 5e5}}, {{"rope_type", "default"}})}) {
    ASSERT_FALSE(r.ok());
    EXPECT_NE(r.error().message.find("contradict each other"), std::string::npos) << r.error().message;
  }
  EXPECT_TRUE(both({{"rope_type", "default"}, {"rope_theta", 10000}}, {{"rope_type", "default"}}).ok());
}

// Without a range between the two only the plain and the stretched are left.
TEST(GgufRope, Llama3WithoutARampIsAStep) {
  const Json llama3 = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 256}};
  const auto r = rope_of(config_with("rope_parameters", llama3));
  ASSERT_TRUE(r.ok()) << r.error().message;
  const auto f = values(r->tensors[0].node);
  for (size_t i = 0; i < f.size(); ++i)
    EXPECT_EQ(f[i], 2 * std::numbers::pi * std::pow(10000.0, 2.0 * static_cast<double>(i) / kHead) < 64 ? 1 : 8) << i;
}

TEST(GgufRope, WhatNoKeySaysOfYarnIsRefusedByName) {
  const auto refused = [](const Json& more, const std::vector<std::string>& parts) {
    Json j = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}};
    j.update(more);
    expect_refused(j, parts);
  };
  refused({{"truncate", false}}, {"'truncate'", "false"});
  refused({{"truncate", nullptr}}, {"'truncate'", "null"});  // which transformers counts as false
  refused({{"extrapolation_factor", 0.5}}, {"'extrapolation_factor'", "0.5"});
  refused({{"attn_factor", 2.0}}, {"'attn_factor'", "2", "'attention_factor'"});
  refused({{"attention_factor", 0}}, {"multiply the attention by 0"});
  refused({{"attention_factor", "1"}}, {"attention_factor", "\"1\"", "number"});
  refused({{"beta_fast", 1}, {"beta_slow", 32}}, {"'beta_fast'", "'beta_slow' 32"});
  refused({{"beta_slow", -1}}, {"'beta_slow' -1"});
  expect_refused({{"rope_type", "mrope"}, {"mrope_section", {16, 24, 24}}}, {"mrope", "not supported", "longrope"});
}

TEST(GgufRope, LongropesFactorsAreTensors) {
  Json longer = Json::array(), shorter = Json::array();
  for (int i = 0; i < kHead / 2; ++i) longer.push_back(1.5 + i), shorter.push_back(1 + i / 16.0);
  const Json rope = {{"short_factor", shorter}, {"long_factor", longer}, {"original_max_position_embeddings", 1024}};
  const auto with = [&](const char* type, const Json& more) {
    Json j = rope;
    j["type"] = type;
    j.update(more);
    return j;
  };
  const auto keys = [&](double magnitude) {
    Json j = {{"type", "longrope"}, {"original_context_length", 1024}};
    if (magnitude != 1) j["attn_factor"] = static_cast<float>(magnitude);
    return j;
  };
  const double usual = std::sqrt(1 + std::log(4.0) / std::log(1024.0));
  for (const char* place : {"rope_parameters", "rope_scaling"})
    for (const char* type : {"longrope", "su"}) expect_keys(place, with(type, Json::object()), keys(usual));
  expect_keys("rope_scaling", with("longrope", {{"factor", 16.0}}), keys(std::sqrt(1 + std::log(16.0) / std::log(1024.0))));
  expect_keys("rope_scaling", with("longrope", {{"factor", 1.0}}), keys(1));
  expect_keys("rope_scaling", with("longrope", {{"attention_factor", 1.25}}), keys(1.25));
  expect_keys("rope_scaling", with("longrope", {{"factor", nullptr}}), keys(1), 1024);
  auto r = rope_of(config_with("rope_scaling", with("longrope", Json::object())));
  ASSERT_TRUE(r.ok());
  ASSERT_EQ(r->tensors.size(), 2u);
  EXPECT_EQ(r->tensors[0].name, "rope_factors_long.weight");
  EXPECT_EQ(r->tensors[1].name, "rope_factors_short.weight");
  for (int i = 0; i < kHead / 2; ++i) {
    EXPECT_EQ(values(r->tensors[0].node)[static_cast<size_t>(i)], longer[static_cast<size_t>(i)].get<float>());
    EXPECT_EQ(values(r->tensors[1].node)[static_cast<size_t>(i)], shorter[static_cast<size_t>(i)].get<float>());
  }
  // At the top of the file, where Phi has it.
  Json top = config_with("rope_scaling", with("longrope", Json::object()));
  top["rope_scaling"].erase("original_max_position_embeddings");
  top["original_max_position_embeddings"] = 1024;
  ASSERT_TRUE(rope_of(top).ok());
  EXPECT_EQ(keys_of(*rope_of(top)), keys(usual));
  const auto refused = [&](const Json& more, const std::vector<std::string>& parts) { expect_refused(with("longrope", more), parts); };
  refused({{"long_factor", nullptr}}, {"'long_factor'", "missing"});
  refused({{"short_factor", 2}}, {"'short_factor'", "2", "list"});
  refused({{"short_factor", {1, 2, 3}}}, {"3 short and 8 long factors", "expected 8", "16 elements"});
  refused({{"short_factor", {1, 1, 1, 0, 1, 1, 1, 1}}}, {"'short_factor'", "has 0"});
  refused({{"short_factor", {1, 1, 1, "1", 1, 1, 1, 1}}}, {"'short_factor'", "has \"1\""});
  refused({{"original_max_position_embeddings", 1}}, {"multiply the attention by"});
}

}  // namespace
}  // namespace ingot::transform
