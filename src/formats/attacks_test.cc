// Hostile files: each row of tests/attacks/*.tsv names one and a part of the error that it must give (none: it opens, and all of it can be read). make_*.py
// there wrote them.
#include <filesystem>
#include <fstream>

#include "formats/formats_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;
namespace fs = std::filesystem;

const std::string kFolder = std::string(INGOT_SOURCE_DIR) + "/tests/attacks";

TEST(Attacks, EachGivesItsOneError) {
  size_t rows = 0;
  for (const auto& table : fs::directory_iterator(kFolder)) {
    if (table.path().extension() != ".tsv") continue;
    std::ifstream in(table.path());
    for (std::string line; std::getline(in, line); ++rows) {
      const size_t tab = line.find('\t');
      ASSERT_NE(tab, std::string::npos) << line;
      const std::string path = kFolder + "/" + table.path().stem().string() + "/" + line.substr(0, tab), want = line.substr(tab + 1);
      const auto a = open_model(local_store(), path);
      if (want.empty()) {
        ASSERT_TRUE(a.ok()) << path << ": " << a.error().message;
        for (const auto& t : a->tensors) EXPECT_TRUE(evaluate(t.node).ok()) << path << ": " << t.name;
        continue;
      }
      ASSERT_FALSE(a.ok()) << path << " opens";
      EXPECT_EQ(a.error().kind, ErrorKind::kBadInput) << path;
      EXPECT_NE(a.error().message.find(want), std::string::npos) << path << ": no '" << want << "' in: " << a.error().message;
      EXPECT_NE(a.error().message.find(path), std::string::npos) << "it does not name the file: " << a.error().message;
    }
  }
  EXPECT_GT(rows, 100U);
}

// Cut at every byte, and with every byte in turn another: an error, or what can be read to its end.
TEST(Attacks, TruncatedAndFlippedAtEveryByte) {
  for (const char* name : {"good.pt", "legacy-good.pt"}) {
    const std::string whole = get_file(local_store(), kFolder + "/torch/" + name);
    const auto store = make_memory_store();
    for (size_t n = 0; n < whole.size(); ++n) {
      put_file(*store, "cut.pt", whole.substr(0, n));
      const auto cut = open_model(*store, "cut.pt");
      ASSERT_FALSE(cut.ok()) << name << " cut at " << n;
      EXPECT_EQ(cut.error().kind, ErrorKind::kBadInput) << cut.error().message;
      for (const char to : {'\0', '\xff', '\x7f', static_cast<char>(whole[n] ^ 1)}) {
        std::string other = whole;
        other[n] = to;
        put_file(*store, "other.pt", other);
        const auto a = open_model(*store, "other.pt");
        if (!a.ok()) EXPECT_EQ(a.error().kind, ErrorKind::kBadInput) << a.error().message;
        else
          for (const auto& t : a->tensors) ASSERT_TRUE(evaluate(t.node).ok()) << name << " at " << n;
      }
    }
  }
}

}  // namespace
}  // namespace ingot
