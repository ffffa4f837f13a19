#include "formats/formats_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

void entry(ByteWriter* w, std::string_view name, int32_t calls, const std::vector<float>& values) {
  w->text(name);
  w->write(calls);
  w->write(static_cast<int32_t>(values.size()));
  w->append(values.data(), values.size() * sizeof(float));
}

TEST(Imatrix, HasATensorForEachEntryAndWhatStandsBehind) {
  ByteWriter w;
  w.write<int32_t>(2);
  entry(&w, "blk.0.attn_q.weight", 5, {1, 2, 3});
  entry(&w, "output.weight", 7, {0.5f});
  const std::string older = w.str();
  w.write<int32_t>(9);
  w.text("wiki.txt");
  auto store = make_memory_store();
  put_file(*store, "new", w.str());
  put_file(*store, "old", older);
  for (const char* name : {"new", "old"}) {
    const auto a = open_model(*store, name);
    ASSERT_TRUE(a.ok()) << a.error().message;
    EXPECT_EQ(a->format, "imatrix");
    ASSERT_EQ(a->tensors.size(), 2u);
    EXPECT_EQ(a->tensors[0].name, "blk.0.attn_q.weight");
    EXPECT_EQ(to_floats(*evaluate(a->tensors[0].node)), (std::vector<float>{1, 2, 3}));
    EXPECT_EQ(to_floats(*evaluate(a->find("output.weight")->node)), std::vector<float>{0.5f});
    EXPECT_EQ(a->values.at("calls"), "[5,7]");
  }
  EXPECT_EQ(open_model(*store, "new")->values.at("dataset"), "\"wiki.txt\"");
  EXPECT_EQ(open_model(*store, "new")->values.at("chunks"), "9");
  for (size_t n = 8; n < older.size(); ++n) {
    put_file(*store, "cut", older.substr(0, n));
    EXPECT_FALSE(open_model(*store, "cut").ok()) << n;
  }
}

}  // namespace
}  // namespace ingot
