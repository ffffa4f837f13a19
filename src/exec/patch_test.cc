#include "commit/patch.h"

#include <filesystem>
#include <fstream>

#include "exec/exec_testing.h"

namespace ingot {
namespace {

std::string text_of(Store& store) { return *read_text(store, "f", UINT64_MAX); }

void put(Store& store, const std::string& bytes) {
  auto f = store.create("f", bytes.size(), false);
  ASSERT_TRUE(f.ok());
  ASSERT_TRUE((*f)->write(0, as_bytes(bytes)).ok());
  ASSERT_TRUE((*f)->complete().ok());
}

TEST(Patch, FitsWithinOnePageAlone) {
  EXPECT_TRUE(fits_patch(0, kPatchPage));
  EXPECT_TRUE(fits_patch(kPatchPage - 1, 1));
  EXPECT_FALSE(fits_patch(kPatchPage - 1, 2));
  EXPECT_FALSE(fits_patch(1, kPatchPage));
  EXPECT_FALSE(fits_patch(5, 0));
}

TEST(Patch, ChangesTheseBytesAndTakesOffTheNote) {
  const auto store = make_memory_store();
  const std::string before(3 * kPatchPage, 'a');
  put(*store, before);
  ASSERT_TRUE(store->set_note("f", "a hash"));
  ASSERT_TRUE(patch_file(*store, "f", kPatchPage + 7, as_bytes("xyz"), {}, {}).ok());
  std::string after = before;
  after.replace(kPatchPage + 7, 3, "xyz");
  EXPECT_TRUE(text_of(*store) == after);
  EXPECT_EQ(store->note("f"), "");
  EXPECT_FALSE(patch_file(*store, "f", kPatchPage - 1, as_bytes("xy"), {}, {}).ok()) << "two pages";
  EXPECT_FALSE(patch_file(*store, "f", before.size(), as_bytes("x"), {}, {}).ok()) << "beyond the end";
  EXPECT_FALSE(patch_file(*store, "f", 0, as_bytes("x"), "the stamp of another", {}).ok()) << "changed since";
  EXPECT_FALSE(patch_file(*store, "none", 0, as_bytes("x"), {}, {}).ok());
  EXPECT_TRUE(text_of(*store) == after);
  EXPECT_FALSE(*store->stat("none"));
}

// Whatever call fails: the old bytes or the new, and no note that tells of others.
TEST(Patch, AFailureLeavesOldOrNewBytes) {
  for (int call = 1; call < 20; ++call) {
    const auto memory = make_memory_store();
    put(*memory, "before");
    memory->set_note("f", "a hash");
    FaultHooks hooks;
    hooks.hook = [call](uint64_t number, const char*, const std::string&) { return number + 1 == static_cast<uint64_t>(call) ? "a fault" : ""; };
    const auto store = make_fault_store(*memory, hooks);
    const Status s = patch_file(*store, "f", 0, as_bytes("behind"), {}, {});
    const std::string text = text_of(*memory);
    EXPECT_TRUE(text == "before" || (text == "behind" && memory->note("f").empty())) << call << ": " << text;
    if (s.ok()) {
      EXPECT_EQ(text, "behind");
      return;
    }
  }
  FAIL() << "it never came through";
}

// Another name keeps its bytes, what is read-only stays so, and links are not followed.
TEST(Patch, ChangesAFileOfOneNameAlone) {
  char pattern[] = "/tmp/ingot-patch-XXXXXX";
  const std::string dir = mkdtemp(pattern), a = dir + "/a", b = dir + "/b", link = dir + "/link";
  Store& store = local_store();
  const auto reason = [&](const std::string& path) {
    const Status s = patch_file(store, path, 0, as_bytes("behind"), {}, {});
    return s.ok() ? "" : s.error().message;
  };
  std::ofstream(a) << "before, and more";
  std::filesystem::create_hard_link(a, b);
  EXPECT_NE(reason(a).find("2 names"), std::string::npos) << reason(a);
  EXPECT_EQ(*read_text(store, a), "before, and more");
  EXPECT_EQ(*read_text(store, b), "before, and more");
  std::filesystem::remove(b);
  std::filesystem::create_symlink(a, link);
  EXPECT_NE(reason(link).find("no regular file"), std::string::npos) << reason(link);
  std::filesystem::permissions(a, std::filesystem::perms::owner_read);
  EXPECT_NE(reason(a).find("it is read-only"), std::string::npos) << reason(a);
  std::filesystem::permissions(a, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(reason(a), "");
  EXPECT_EQ(*read_text(store, a), "behind, and more");
  // Nor while another ingot writes it.
  const auto held = store.lock(dir + "/.a.ingot-lock");
  EXPECT_NE(reason(a).find("another ingot"), std::string::npos) << reason(a);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace ingot
