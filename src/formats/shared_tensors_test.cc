// Models that the ranks of a training have saved in parts.
#include "formats/shared_tensors.h"

#include <gtest/gtest.h>

#include "formats/formats_testing.h"
#include "formats/json.h"

namespace ingot {
namespace {

using namespace ingot::testing;

// A file of one U8 tensor [rows, 3] of that byte, which is a part of w, and what else its header says.
void put_rank(Store& store, int rank, int rows, char byte, const std::string& parts, const std::string& more = "") {
  const std::string header = fmt::format(R"({{"__metadata__":{{"ingot.parts":{}}},"w":{{"dtype":"U8","shape":[{},3],"data_offsets":[0,{}]}}{}}})", json_quote(parts), rows, 3 * rows, more);
  ByteWriter file;
  file.write<uint64_t>(header.size());
  file.append(header + std::string(static_cast<size_t>(3 * rows), byte) + (more.empty() ? "" : "!!"));
  put_file(store, fmt::format("run/{}.safetensors", rank_stem("model", rank)), file.str());
}

TEST(SharedTensors, AreWholeAgain) {
  const auto store = make_memory_store();
  put_rank(*store, 0, 2, 'a', R"({"w":{"of":"w","shape":[3,3],"offset":[0,0]}})", R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]})");
  put_rank(*store, 7, 1, 'b', R"({"w":{"of":"w","shape":[3,3],"offset":[2,0]}})");
  const auto a = open_model(*store, "run");
  ASSERT_TRUE(a.ok()) << a.error().message;
  ASSERT_EQ(a->tensors.size(), 2u);
  const auto w = evaluate(a->find("w")->node), b = evaluate(a->find("b")->node);
  ASSERT_TRUE(w.ok() && b.ok());
  EXPECT_EQ(as_text(*w), "aaaaaabbb");
  EXPECT_EQ(as_text(*b), "!!");
  expect_regions_match(a->find("w")->node, 20, 1);
}

TEST(SharedTensors, WhatIsMissingOrContradictsIsOneError) {
  const auto error = [](const std::function<void(Store&)>& put) {
    const auto store = make_memory_store();
    put(*store);
    const auto a = open_model(*store, "run");
    return a.ok() ? std::string("it opened") : a.error().message;
  };
  const std::string first = R"({"w":{"of":"w","shape":[3,3],"offset":[0,0]}})";
  EXPECT_NE(error([&](Store& s) { put_rank(s, 0, 2, 'a', first); }).find("of the tensor 'w' [3, 3], which its ranks share, element [2, 0] lies in no"), std::string::npos);
  EXPECT_NE(error([&](Store& s) { put_rank(s, 0, 2, 'a', first), put_rank(s, 1, 2, 'b', R"({"w":{"of":"w","shape":[4,3],"offset":[2,0]}})"); }).find("the files are of different saves"), std::string::npos);
  EXPECT_NE(error([&](Store& s) { put_rank(s, 0, 2, 'a', first), put_rank(s, 1, 2, 'b', R"({"w":{"of":"w","shape":[3,3],"offset":[1,0]}})"); }).find("lies in"), std::string::npos);
  for (const std::string bad : {R"([])", R"({"w":1})", R"({"w":{"of":"w","shape":[3,3],"offset":[2,0]}})", R"({"w":{"of":"w","shape":[3,3],"offset":[-1,0]}})", R"({"w":{"of":"w","shape":[3],"offset":[0]}})",
                                 R"({"x":{"of":"w","shape":[3,3],"offset":[0,0]}})", R"({"w":{"of":"w","shape":[1e30,3],"offset":[0,0]}})", R"({"w":{"of":"w","shape":[1,1,1,1,1,1,1,1,1],"offset":[]}})", "{"}) {
    const std::string text = error([&](Store& s) { put_rank(s, 0, 2, 'a', bad); });
    EXPECT_NE(text.find("model-rank-00000.safetensors"), std::string::npos) << bad << ": " << text;
  }
}

TEST(SharedTensors, NamesOfRanks) {
  EXPECT_EQ(rank_stem("model", 12), "model-rank-00012");
  EXPECT_EQ(without_rank("model-rank-00012"), "model");
  for (const char* name : {"model", "-rank-00012", "rank-00012", "model-rank-001"}) EXPECT_EQ(without_rank(name), name);
}

}  // namespace
}  // namespace ingot
