#include "formats/manifest.h"

#include "formats/formats_testing.h"
#include "formats/json.h"
#include "formats/outputs.h"

namespace ingot {
namespace {

using namespace ingot::testing;

const std::string kExact = "00112233445566778899aabbccddeeff", kValue = "ffeeddccbbaa99887766554433221100";

std::string manifest_text() {
  const OrderedJson hashes = {{"exact", kExact}, {"value", kValue}};
  OrderedJson input = {{"format", "gguf"}};
  input.update(hashes);
  return OrderedJson({{"format", kManifestFormat}, {"ingot", "0.1.0"}, {"inputs", OrderedJson::array({input})}, {"content", hashes}}).dump();
}

Artifact model(const char* naming) {
  Artifact a;
  a.format = naming == std::string("gguf") ? "gguf" : "safetensors";
  a.naming = naming;
  a.tensors = {{"t", f32_tensor({2}, {1, 2})}};
  if (a.naming == "gguf") a.metadata.emplace_back("general.architecture", MetaValue{std::string("llama")});
  else a.files["config.json"] = "{}";
  return a;
}

// Through a file of each format, and back.
TEST(Manifest, LiesInTheFileItself) {
  auto store = make_memory_store();
  const auto there_and_back = [&](Artifact a, bool directory, auto output, const std::string& path) {
    put_manifest(&a, manifest_text(), directory);
    write_output(output(a));
    auto opened = open_model(*store, path);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    EXPECT_EQ(take_manifest(&*opened), manifest_text());
    EXPECT_EQ(take_manifest(&*opened), "") << "taken";
    EXPECT_EQ(opened->meta(kManifestKey), nullptr);
    EXPECT_EQ(opened->files.count(kManifestFile), 0u);
    EXPECT_EQ(opened->metadata.size(), directory ? 0u : 1u) << "the architecture, or format: pt";
  };
  there_and_back(model("gguf"), false, [&](const Artifact& a) { return gguf_output(a, *store, "m.gguf"); }, "m.gguf");
  there_and_back(model("hf"), false, [&](const Artifact& a) { return safetensors_output(a, *store, "m.safetensors"); }, "m.safetensors");
  there_and_back(model("hf"), true, [&](const Artifact& a) { return hf_directory_output(a, *store, "m"); }, "m");
}

TEST(Manifest, AnOlderOneGoesWithForce) {
  auto store = make_memory_store();
  EXPECT_TRUE(hf_directory_output(model("hf"), *store, "m").older_name(kManifestFile));
}

TEST(Manifest, IsRead) {
  const auto m = parse_manifest(manifest_text(), "m.gguf");
  ASSERT_TRUE(m.ok()) << m.error().message;
  EXPECT_EQ(m->content.exact, kExact);
  EXPECT_EQ(m->content.value, kValue);
  ASSERT_EQ(m->inputs.size(), 1u);
  EXPECT_EQ(m->inputs[0].format, "gguf");
  EXPECT_EQ(m->inputs[0].exact, kExact);
}

TEST(Manifest, WhatIsDamagedOrNewerIsRefused) {
  const auto replaced = [](std::string from, const std::string& to) {
    std::string s = manifest_text();
    return s.replace(s.find(from), from.size(), to);
  };
  for (const std::string& text :
       {std::string("{"), std::string("[]"), std::string("{}"), replaced("manifest 1", "manifesto"), replaced("content", "contend"),
        replaced("\"inputs\":[", "\"inputs\":[3,"), replaced("\"inputs\":", "\"inputs\":3,\"other\":"), replaced(kExact, "0011"),
        replaced(kValue, "FFEEDDCCBBAA99887766554433221100")}) {
    const auto m = parse_manifest(text, "dir/m.gguf");
    ASSERT_FALSE(m.ok()) << text;
    EXPECT_EQ(m.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(m.error().message.find("the manifest of dir/m.gguf"), std::string::npos) << m.error().message;
  }
  const auto newer = parse_manifest(replaced("manifest 1", "manifest 2"), "m.gguf");
  ASSERT_FALSE(newer.ok());
  for (const char* part : {"'ingot manifest 2'", "'ingot manifest 1'", "0.1.0", "later"})
    EXPECT_NE(newer.error().message.find(part), std::string::npos) << newer.error().message;
}

}  // namespace
}  // namespace ingot
