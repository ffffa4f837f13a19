#include "formats/megatron_yaml.h"

#include <gtest/gtest.h>

namespace ingot {
namespace {

TEST(MegatronYaml, MembersOfOneSectionAreJson) {
  const auto v = yaml_section(
      "_target_: a.B\nother:\n  num_layers: 9\nmodel:\n    # a comment\n    num_layers: 2\r\n    eps: 1.0e-05\n    name: RMSNorm\n    quoted: 'x y'\n    text: \"a\\n\"\n"
      "    nothing: null\n    flag: True\n    list: [4096, 0]\n    deeper:\n        num_layers: 7\n    - item: 1\n    no_space:1\nlater:\n    num_layers: 3\n",
      "model");
  const std::map<std::string, std::string> expected = {{"num_layers", "2"}, {"eps", "1.0e-05"}, {"name", "\"RMSNorm\""}, {"quoted", "\"x y\""}, {"text", "\"a\\n\""},
                                                       {"nothing", "null"}, {"flag", "true"}, {"list", "[4096, 0]"}};
  EXPECT_EQ(v, expected);
  EXPECT_TRUE(yaml_section("model: 1\n", "model").empty());
  EXPECT_TRUE(yaml_section("", "model").empty());
  EXPECT_TRUE(yaml_section("model:", "model").empty());
}

}  // namespace
}  // namespace ingot
