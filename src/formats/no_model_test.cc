// What leads to a model and is none: each says what to give instead.
#include "formats/no_model.h"

#include "formats/formats_testing.h"

namespace ingot {
namespace {

using namespace ingot::testing;

class NoModel : public ::testing::Test {
 protected:
  void refused(const std::string& path, const std::string& part) {
    const auto a = open_model(*store_, path);
    ASSERT_FALSE(a.ok());
    EXPECT_NE(a.error().message.find(part), std::string::npos) << a.error().message;
  }
  std::unique_ptr<Store> store_ = make_memory_store();
};

TEST_F(NoModel, OllamasManifestLeadsToItsBlob) {
  const std::string tiny = "models/manifests/registry.ollama.ai/library/tiny", hash(64, 'a');
  put_file(*store_, tiny + "/latest", R"({"layers":[{"mediaType":"application/vnd.ollama.image.template","digest":"sha256:b"},)"
                                      R"({"mediaType":"application/vnd.ollama.image.model","digest":"sha256:)" + hash + "\"}]}");
  for (const std::string& path : {tiny, tiny + "/latest"}) refused(path, "the blob that it names is not there");
  put_file(*store_, "models/blobs/sha256-" + hash, "x");
  for (const std::string& path : {tiny, tiny + "/latest"}) refused(path, "give that: models/blobs/sha256-" + hash);
  refused("models", "it is Ollama's store");
}

TEST_F(NoModel, PartsThatAreCutByBytesAreJoinedFirst) {
  for (const char* name : {"m/a.gguf.part1of2", "m/a.gguf.part-00"}) {
    put_file(*store_, name, "GGUF");
    refused(name, "join all parts in order first: cat m/a.gguf.part* > m/a.gguf");
  }
  put_file(*store_, "m/a.gguf-split-a", "GGUF");
  refused("m/a.gguf-split-a", "cat m/a.gguf-split-* > m/a.gguf");
}

}  // namespace
}  // namespace ingot
