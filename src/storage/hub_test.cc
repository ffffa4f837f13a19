// Ids, where the cache is, revisions, and what a path into a cache tells. The caches are made here, as huggingface_hub lays them out.
#include "storage/hub.h"

#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

namespace ingot {
namespace {

namespace fs = std::filesystem;

const std::string kA(40, 'a'), kB = "b0" + std::string(38, '1'), kC = "b0" + std::string(38, '2');

// An environment without the user's own cache, and a directory to stand in; both come back.
class Hub : public ::testing::Test {
 protected:
  Hub() : before_directory_(fs::current_path()) {
    char name[] = "/tmp/ingot-hub-XXXXXX";
    dir_ = ::mkdtemp(name);
    for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
      const char* value = std::getenv(variable);
      before_[variable] = value ? std::optional<std::string>(value) : std::nullopt;
      ::unsetenv(variable);
    }
    ::setenv("HF_HUB_CACHE", dir_.c_str(), 1);
    fs::create_directory(dir_ + "/here");
    fs::current_path(dir_ + "/here");
  }
  ~Hub() override {
    fs::current_path(before_directory_);
    for (const auto& [variable, value] : before_)
      if (value) ::setenv(variable.c_str(), value->c_str(), 1);
      else ::unsetenv(variable.c_str());
    fs::remove_all(dir_);
  }

  std::string folder(const std::string& name) { return dir_ + "/models--" + name; }
  void snapshot(const std::string& name, const std::string& commit) { fs::create_directories(folder(name) + "/snapshots/" + commit); }
  void ref(const std::string& name, const std::string& revision, const std::string& text) {
    const fs::path path = folder(name) + "/refs/" + revision;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::string found(const std::string& given) {
    const auto at = locate_model(given);
    return at.ok() ? at->path : at.error().message;
  }
  void expect_refused(const std::string& given, const std::vector<std::string>& parts, ErrorKind kind = ErrorKind::kBadInput) {
    const auto at = locate_model(given);
    ASSERT_FALSE(at.ok()) << given << " -> " << at->path;
    EXPECT_EQ(at.error().kind, kind) << at.error().message;
    for (const std::string& part : parts) EXPECT_NE(at.error().message.find(part), std::string::npos) << part << "\n" << at.error().message;
  }

  std::string dir_;
  fs::path before_directory_;
  std::map<std::string, std::optional<std::string>> before_;
};

// The examples of validate_repo_id, and what its expression says of the edges.
TEST_F(Hub, IdsAreThoseThatHuggingfaceHubTakes) {
  for (const char* id : {"foo", "foo/bar", "123", "Foo-BAR_foo.bar123", "_a/b_", "a.b/c-d", "org/Model-7B-v0.1"}) {
    ASSERT_TRUE(parse_hub_id(id)) << id;
    EXPECT_EQ(parse_hub_id(id)->text(), id);
  }
  EXPECT_TRUE(parse_hub_id(std::string(96, 'x') + "/" + std::string(96, 'y')));
  for (const char* id : {"", "/", "a/", "/a", "a/b/c", ".a", "a.", "-a", "a-/b", "a--b", "a..b", "a.git", "a b", "a/b c", "caf\xC3\xA9", "a:b", "~/a", "./a",
                         "../a", "a\nb", "@main", "a/b@", "a/b@/x", "a/b@x/", "a/b@..", "a/b@x/../y", "a/b@x\n", "a/b@x y", "a/b@x\\y"})
    EXPECT_FALSE(parse_hub_id(id)) << id;
  EXPECT_FALSE(parse_hub_id(std::string(97, 'x')));
  EXPECT_FALSE(parse_hub_id("a@" + std::string(300, 'x')));
  const auto id = parse_hub_id("org/model@refs/pr/1");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->repo, "org/model");
  EXPECT_EQ(id->revision, "refs/pr/1");
}

TEST_F(Hub, TheCacheIsWhereTheFirstVariableSays) {
  const auto set = [](const char* name, const char* value) { ::setenv(name, value, 1); };
  set("HF_HUB_CACHE", "/one/");
  set("HUGGINGFACE_HUB_CACHE", "/two");
  set("HF_HOME", "/three");
  set("XDG_CACHE_HOME", "/four");
  set("HOME", "/five");
  const std::pair<const char*, std::string> steps[] = {{"HF_HUB_CACHE", "/one"},      {"HUGGINGFACE_HUB_CACHE", "/two"},
                                                       {"HF_HOME", "/three/hub"},     {"XDG_CACHE_HOME", "/four/huggingface/hub"},
                                                       {"HOME", "/five/.cache/huggingface/hub"}};
  for (const auto& [name, path] : steps) {
    EXPECT_EQ(hub_cache(), path);
    set(name, "");  // set to nothing is not set
  }
  EXPECT_EQ(hub_cache(), std::string(::getpwuid(::getuid())->pw_dir) + "/.cache/huggingface/hub");
  // As Python expands them.
  set("HOME", "/five");
  set("INGOT_X", "x");
  for (const auto& [given, path] : {std::pair{"~/hub", "/five/hub"}, {"$HOME/$INGOT_X", "/five/x"}, {"/a/${INGOT_X}b", "/a/xb"}, {"/a/$INGOT_UNSET/~", "/a/$INGOT_UNSET/~"},
                                    {"/a/${INGOT_X", "/a/${INGOT_X"}, {"/a$", "/a$"}}) {
    set("HF_HUB_CACHE", given);
    EXPECT_EQ(hub_cache(), path) << given;
  }
  ::unsetenv("INGOT_X");
}

TEST_F(Hub, AnIdLeadsToTheSnapshotOfItsRevision) {
  for (const std::string& commit : {kA, kB, kC}) snapshot("org--model", commit);
  snapshot("gpt2", kA);
  ref("gpt2", "main", kA);
  ref("org--model", "main", kA + "\n");  // an editor's line end
  ref("org--model", "v1.0", kB);
  ref("org--model", "refs/pr/1", kC);
  ref("org--model", "feature/x", " " + kC + "\r\n");
  const std::string all = folder("org--model") + "/snapshots/";
  const std::pair<const char*, std::string> cases[] = {{"org/model", kA},           {"org/model@main", kA},      {"hf://org/model", kA},
                                                       {"org/model@v1.0", kB},      {"hf://org/model@v1.0", kB}, {"org/model@refs/pr/1", kC},
                                                       {"org/model@feature/x", kC}, {"org/model@aaaa", kA},      {"org/model@b022", kC}};
  for (const auto& [given, commit] : cases) EXPECT_EQ(found(given), all + commit) << given;
  EXPECT_EQ(found("org/model@" + kB), all + kB);
  EXPECT_EQ(found("gpt2"), folder("gpt2") + "/snapshots/" + kA);
  EXPECT_EQ(found("hf://gpt2"), folder("gpt2") + "/snapshots/" + kA);
  // Too short to be a commit; two commits; none.
  expect_refused("org/model@aaa", {"no revision 'aaa'", "feature/x, main, refs/pr/1, v1.0", "hf download org/model --revision aaa"});
  snapshot("org--model", "b022" + std::string(36, '3'));
  expect_refused("org/model@b022", {"2 commits", "begin with b022"});
  expect_refused("org/model@v2", {"no revision 'v2'", "--revision v2"});
}

TEST_F(Hub, WithoutARefTheOnlySnapshotIsMeant) {
  snapshot("org--copied", kA);
  EXPECT_EQ(found("org/copied"), folder("org--copied") + "/snapshots/" + kA);
  // Not where another revision was asked for when it was downloaded: main may be something else.
  ref("org--copied", "v1", kA);
  expect_refused("org/copied", {"no revision 'main'", "v1", "org/copied@v1", "hf download org/copied"});
  snapshot("org--two", kA);
  snapshot("org--two", kB);
  expect_refused("org/two", {"no revision 'main'", kA, kB, "org/two@" + kA});
  fs::create_directories(folder("org--none") + "/blobs");
  expect_refused("org/none", {"no snapshot", "hf download org/none"});
}

TEST_F(Hub, ARefToAnAbsentSnapshotIsNoOtherSnapshot) {
  snapshot("org--model", kA);
  ref("org--model", "main", kB);
  expect_refused("org/model", {kB, kA, "hf download org/model"});
  for (const char* text : {"", "../../elsewhere", "..", "a/b", "a b"}) {
    ref("org--model", "main", text);
    expect_refused("org/model", {"refs/main", "holds no commit"});
  }
  fs::remove(folder("org--model") + "/refs/main");
  fs::create_directory(folder("org--model") + "/refs/main");  // a directory of branches "main/..": no ref of that name
  expect_refused("org/model@main", {"no revision 'main'"});
}

TEST_F(Hub, WhatIsAPathHereIsNoId) {
  snapshot("org--model", kA);
  snapshot("gpt2", kA);
  const std::string model = folder("org--model") + "/snapshots/" + kA;
  EXPECT_EQ(found("org/model"), model);
  fs::create_directory("org");  // the first component is enough
  EXPECT_EQ(found("org/model"), "org/model");
  EXPECT_EQ(found("org/model@main"), "org/model@main");
  EXPECT_EQ(found("hf://org/model"), model);
  fs::create_directory("gpt2");
  EXPECT_EQ(found("gpt2"), "gpt2");
  EXPECT_EQ(found("gpt2@main"), "gpt2@main");
  for (const char* path : {"", ".", "..", "/a/b", "./org/model", "a/b/c", "file:///a", "x.gguf", "no/such.safetensors", "a b"}) EXPECT_TRUE(locate_model(path).ok()) << path;
  // A name like a file's, if the cache has it.
  snapshot("org--x.gguf", kA);
  EXPECT_EQ(found("hf://org/x.gguf"), folder("org--x.gguf") + "/snapshots/" + kA);
}

TEST_F(Hub, WhatTheCacheHasNotIsSaidWithTheWayToGetIt) {
  expect_refused("some/model", {"'some/model' is no file or directory here", dir_, "hf download some/model"});
  expect_refused("some/model@v1", {"hf download some/model --revision v1"});
  expect_refused("hf://some/model", {"'hf://some/model' is not in", "hf download some/model"});
  snapshot("Org--Model", kA);
  expect_refused("org/model", {"did you mean 'Org/Model'?"});
  ::setenv("HF_HUB_OFFLINE", "1", 1);
  expect_refused("some/model", {"HF_HUB_OFFLINE is set here"});
  ::setenv("HF_HUB_CACHE", "/no/such/place", 1);
  expect_refused("some/model", {"/no/such/place, which does not exist"});
  for (const char* url : {"hf://", "hf://a/b/c", "hf://a/b@", "hf://../x", "hf://a/b@../.."}) expect_refused(url, {"hf://ORG/MODEL"}, ErrorKind::kUsage);
}

TEST_F(Hub, APathIntoACacheKnowsItsModel) {
  const auto s = hub_snapshot("/x/models--org--my-model/snapshots/" + kA + "/sub/model.safetensors");
  ASSERT_TRUE(s);
  EXPECT_EQ(s->hub, "/x");
  EXPECT_EQ(s->repo, "org/my-model");
  EXPECT_EQ(s->commit, kA);
  EXPECT_EQ(s->folder(), "/x/models--org--my-model");
  for (const char* path : {"/x/models--org--m/snapshots", "/x/models--org--m/snapshots/", "/x/org/snapshots/abc", "snapshots/abc", "/snapshots/abc", "",
                           "/x/datasets--org--m/snapshots/abc", "/x/models--/snapshots/abc", "/x/models--..--..--etc/snapshots/abc"})
    EXPECT_FALSE(hub_snapshot(path)) << path;
  EXPECT_EQ(model_name("models--gpt2/snapshots/" + kA), "gpt2");
  EXPECT_EQ(model_name("/x/models--org--my-model/snapshots/" + kA), "my-model");
  EXPECT_EQ(model_name("/x/models--org--my-model/snapshots/" + kA + "/part"), "part");
  EXPECT_EQ(model_name("/x/" + kA), kA);
  EXPECT_EQ(model_name("base"), "base");
  for (const auto& [copy, original] : {std::pair("unsloth/Llama-3.2-1B-unsloth-bnb-4bit", "unsloth/Llama-3.2-1B"), {"org/m-bnb-4bit", "org/m"}, {"org/m-GPTQ-Int4", "org/m"},
                                       {"org/m-AWQ", "org/m"}, {"org/m-4bit", "org/m"}, {"org/m", ""}, {"org/-awq", ""}, {"m-awq-x", ""}})
    EXPECT_EQ(hub_original(copy), original);
  EXPECT_EQ(hub_download(local_store(), "/x/base"), "");
  ref("org--model", "main", kA);
  EXPECT_EQ(hub_download(local_store(), folder("org--model") + "/snapshots/" + kA), ": hf download org/model");
  EXPECT_EQ(hub_download(local_store(), folder("org--model") + "/snapshots/" + kB + "/x"), ": hf download org/model --revision " + kB);
  ::setenv("HF_HUB_CACHE", "/elsewhere", 1);
  EXPECT_EQ(hub_download(local_store(), folder("org--model") + "/snapshots/" + kA), ": hf download org/model --cache-dir '" + dir_ + "'");
}

}  // namespace
}  // namespace ingot
