#include "model/name_map.h"

#include <gtest/gtest.h>

#include "model/architecture.h"

namespace ingot {
namespace {

TEST(NameMap, AllFilesParseAndLeadToTensorsOfTheirClasses) {
  const auto maps = name_maps();
  ASSERT_TRUE(maps.ok()) << maps.error().message;
  ASSERT_FALSE((*maps)->empty());
  for (const NameMap& m : **maps)
    for (const NameRule& r : m.tensors)
      for (const std::string& hf : r.hf) {
        bool known = false;
        for (const NamedClass& c : m.classes) {
          const Architecture* a = architecture_of_class(c.name);
          ASSERT_NE(a, nullptr) << c.name;
          known = known || map_to_gguf(*a, expand(hf, 3, 2)).has_value();
          EXPECT_TRUE(r.groups.empty() || a->params.contains(r.groups)) << m.name << ": " << r.groups;
        }
        EXPECT_TRUE(known) << m.name << ": " << hf;
      }
}

TEST(NameMap, WhatIsMisspeltIsAnError) {
  const auto expect = [](const std::string& more, const std::string& part) {
    const auto m = parse_name_map("{\"name\": \"x\", \"classes\": [{\"name\": \"LlamaForCausalLM\"}], " + more + "}", "x.json");
    ASSERT_FALSE(m.ok()) << more;
    EXPECT_NE(m.error().message.find(part), std::string::npos) << m.error().message;
  };
  expect("\"tensors\": []", "no 'name', 'classes' or 'tensors'");
  expect("\"tensor\": []", "unknown key 'tensor'");
  expect("\"tensors\": [{\"from\": \"a.{i}\", \"hf\": \"b\"}]", "not of the layers");
  expect("\"tensors\": [{\"from\": \"a\", \"hf\": [\"b\", \"c\"], \"padded\": true}]", "one that is padded has one");
  expect("\"tensors\": [{\"from\": \"a\", \"hf\": \"b\"}], \"config\": [{\"key\": \"k\"}]", "'from' or a 'value'");
  expect("\"tensors\": [{\"from\": \"a\", \"hf\": \"b\"}], \"require\": {\"k\": 1}", "a list of values or");
}

}  // namespace
}  // namespace ingot
