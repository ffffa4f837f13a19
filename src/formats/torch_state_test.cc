// States of torch whose containers are any: tensors are found in all of them, and what is written of a state is of the same kinds (tests/data/checkpoints/containers,
// make/containers.py).
#include "formats/formats_testing.h"
#include "formats/npz_write.h"
#include "formats/outputs.h"
#include "formats/pickle_numpy.h"
#include "formats/pickle_values.h"
#include "formats/state_tree.h"
#include "formats/torch_tensors.h"
#include "formats/torch_write.h"

namespace ingot {
namespace {

using namespace ingot::testing;

Artifact opened(Store& store, const std::string& path) {
  auto a = open_model(store, path);
  EXPECT_TRUE(a.ok()) << a.error().message;
  return a.ok() ? *std::move(a) : Artifact();
}
Artifact sample(const std::string& name) { return opened(local_store(), std::string(INGOT_SOURCE_DIR) + "/tests/data/checkpoints/containers/" + name); }

float first_number(const Artifact& a, const std::string& name) {
  const LazyTensor* t = a.find(name);
  if (!t) return ADD_FAILURE() << "no " << name, -1;
  const auto bytes = evaluate(t->node);
  EXPECT_TRUE(bytes.ok() && t->spec().type == DType::kF32) << name;
  float f = -1;
  std::memcpy(&f, bytes->data(), sizeof f);
  return f;
}
std::vector<std::string> names(const Artifact& a) {
  std::vector<std::string> all;
  for (const auto& t : a.tensors) all.push_back(t.name);
  std::sort(all.begin(), all.end());
  return all;
}

std::map<std::string, std::string> values(const Artifact& a) {
  auto all = a.values;
  for (auto& [name, text] : all) std::erase(text, ' ');
  return all;
}

TEST(TorchState, TensorsAreFoundInEveryContainer) {
  const Artifact a = sample("containers.pt");
  const std::pair<const char*, float> want[] = {{"named/1", 1}, {"set/0", 2}, {"deque/0", 3}, {"made/0", 4}, {"partial/1/0", 5}, {"partial/2/k", 6}, {"objects/0", 7},
                                                {"slots/t", 8}, {"slots/x", 9}, {"w", 0}};
  for (const auto& [name, value] : want) EXPECT_EQ(first_number(a, name), value) << name;
  EXPECT_EQ(a.tensors.size(), std::size(want)) << fmt::format("{}", fmt::join(names(a), " "));
  EXPECT_EQ(a.values.at("named/0"), "1");
  EXPECT_EQ(a.values.at("plain"), "[1, 2]") << "a set without tensors is a value";
}

TEST(TorchState, LookingForTensorsIsBounded) {
  // A large set with a storage at its end, in each of many objects.
  std::string s = "\x80\x02]q\x01(cm\nC\nq\x02(";
  for (int i = 0; i < 20'000; ++i) s += "K\x01";
  s += "N\x85Q" "t\x81q\x03";
  for (int i = 0; i < 20'000; ++i) s += "h\x02h\x03\x85\x81";
  const auto p = Pickle::run(s + "e.", "test");
  ASSERT_TRUE(p.ok()) << p.error().message;
  std::map<std::string, std::string> values;
  const auto r = flatten_pickle(*p, p->root(), "", "test", [](const std::string&, const PickleValue& v) -> Result<bool> { return v.kind() == PickleKind::kPersistent; }, &values);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.error().message.find("over and over"), std::string::npos) << r.error().message;
}

TEST(TorchState, ArraysOfNumpyAreTensors) {
  const Artifact a = sample("numpy.pt");
  EXPECT_EQ(names(a), (std::vector<std::string>{"F", "c", "w"}));
  EXPECT_EQ(std::string(as_text(*evaluate(a.find("F")->node))).substr(4, 8), std::string("\1\0\0\0\2\0\0\0", 8)) << "big-endian, in Fortran's order";
  EXPECT_EQ(to_string(a.find("c")->spec().shape), "[1, 2]");
  EXPECT_EQ(first_number(a, "w"), 0);
  EXPECT_EQ(a.values.at("scalar"), "2.5");
  EXPECT_EQ(a.values.at("zero"), "5.0");
}

// As many references as a pickle may have to an array of an odd type, of which no bytes are needed.
TEST(TorchState, ManyReferencesToOneArrayCostNothing) {
  std::string array = "cnumpy.core.multiarray\n_reconstruct\nN\x85R(K\1J";
  const uint32_t n = 1 << 21;
  const auto word = [](uint32_t v) { return std::string(reinterpret_cast<const char*>(&v), 4); };
  array += word(n) + "\x85" "cnumpy\ndtype\nU\2S1\x85R\x89" "B" + word(n) + std::string(n, 'a') + "tbq\1";
  std::string s = "\x80\x02](" + array;
  for (int i = 0; i < 1500; ++i) s += "h\1";
  const auto p = Pickle::run(s + "e.", "test");
  ASSERT_TRUE(p.ok()) << p.error().message;
  const auto whole = numpy_array(*p->root().at(0)), head = numpy_array(*p->root().at(0), false);
  ASSERT_TRUE(whole && head);
  EXPECT_EQ(whole->bytes.size(), n);
  EXPECT_EQ(head->bytes.size(), 0u) << "which is what is asked of each reference";
  TorchTensors tensors(std::make_shared<SourceFile>(), {});
  const auto state = torch_state(*p, tensors, "test", "x");
  ASSERT_TRUE(state.ok()) << state.error().message;
  EXPECT_EQ(state->values.size(), 1'501u);
  EXPECT_EQ(state->values.at("7"), "\"<2097152 elements of numpy's S1>\"");
}

TEST(TorchState, KindsComeBackFromEveryFormat) {
  const Artifact a = sample("kinds.pt");
  const auto kinds = kinds_of(a);
  ASSERT_TRUE(kinds.ok()) << kinds.error().message;
  EXPECT_EQ(kinds->at("milestones"), "counter_ints") << "which MultiStepLR asks for its elements()";
  EXPECT_EQ(kinds->at("betas"), "tuple");
  EXPECT_EQ(kinds->at("digits"), "dict");
  EXPECT_EQ(kinds->at("by"), "bytes");
  auto store = make_memory_store();
  ASSERT_TRUE(run_job({torch_output(a, *store, "a.pt")}, {}).ok());
  ASSERT_TRUE(run_job({safetensors_output(a, *store, "a.safetensors")}, {}).ok());
  ASSERT_TRUE(run_job({torch_output(opened(*store, "a.safetensors"), *store, "b.pt")}, {}).ok());
  for (const char* path : {"a.pt", "a.safetensors", "b.pt"}) {
    const Artifact b = opened(*store, path);
    EXPECT_EQ(names(b), names(a)) << path;
    EXPECT_EQ(values(b), values(a)) << path;
    EXPECT_EQ(*kinds_of(b), *kinds) << path;
  }
  // DCP itself knows only dicts of texts and lists.
  auto dcp = make_output(a, *store, "d", "dcp");
  ASSERT_TRUE(dcp.ok() && run_job({*dcp}, {}).ok());
  const Artifact d = opened(*store, "d");
  EXPECT_EQ(names(d), names(a));
  EXPECT_EQ(values(d), values(a));
  EXPECT_EQ(*kinds_of(d), *kinds);
  Artifact optimizer;
  optimizer.tensors = {{"opt/state/0/exp_avg", a.find("0")->node}};
  optimizer.values = {{"opt/param_groups/0/lr", "0.5"}};
  dcp = make_output(optimizer, *store, "o", "dcp");
  ASSERT_TRUE(dcp.ok() && run_job({*dcp}, {}).ok());
  EXPECT_EQ(kinds_of(opened(*store, "o"))->at("opt/state"), "ints") << "which is what an optimizer loads";
  EXPECT_EQ(read_text(*store, "o/.metadata")->find(kKindsKey), std::string::npos) << "where the paths tell all";
}

TEST(TorchState, ContainersOfCollectionsComeBack) {
  const Artifact a = sample("collections.pt");
  const StateKinds kinds = *kinds_of(a);
  const std::pair<const char*, const char*> want[] = {{"schedule/_schedulers/1/milestones", "counter_ints"}, {"model", "odict"}, {"by", "odict_ints"}, {"words", "counter"}, {"none", "counter"}};
  auto store = make_memory_store();
  ASSERT_TRUE(run_job({safetensors_output(a, *store, "a.safetensors")}, {}).ok());
  ASSERT_TRUE(run_job({torch_output(opened(*store, "a.safetensors"), *store, "a.pt")}, {}).ok());
  const Artifact b = opened(*store, "a.pt");
  for (const auto& [path, kind] : want) EXPECT_EQ(kinds.at(path), kind) << path;
  EXPECT_EQ(*kinds_of(b), kinds);
  EXPECT_EQ(values(b), values(a));
  // Of what is no longer there, the rest is still one.
  const StateKinds ints = {{"", "dict"}, {"c", "counter_ints"}};
  StateTree t(ints, true, "test");
  EXPECT_TRUE(t.add("c/x", 0).ok());
  EXPECT_EQ(t.finish().below[0].kind, "counter");
}

TEST(TorchState, ANestedStateWithoutValuesStaysNested) {
  const Artifact a = sample("nested.pt");
  auto store = make_memory_store();
  ASSERT_TRUE(run_job({torch_output(a, *store, "a.pt")}, {}).ok());
  EXPECT_EQ(*kinds_of(opened(*store, "a.pt")), (StateKinds{{"", "dict"}, {"ema", "dict"}, {"model", "dict"}}));
}

// What is told of a pickle, or its error.
std::string told(const std::string& pickle, std::map<std::string, std::string>* values) {
  const auto p = Pickle::run("\x80\x02" + pickle + ".", "test");
  if (!p.ok()) return ADD_FAILURE() << p.error().message, "";
  StateKinds kinds;
  std::vector<std::string> notices;
  const auto r = flatten_pickle(*p, p->root(), "", "test", [](const std::string&, const PickleValue& v) -> Result<bool> { return v.kind() == PickleKind::kPersistent; }, values, &kinds, &notices);
  return r.ok() ? fmt::format("{}", fmt::join(notices, "\n")) : r.error().message;
}

TEST(TorchState, NamesThatMeetAreToldOfOrAnError) {
  const auto text = [](const std::string& s) { return "U" + std::string(1, static_cast<char>(s.size())) + s; };
  std::map<std::string, std::string> values;
  // {"a/b": 1, "a": {"b": 2}}, 1 and "1", dicts that would be one, a tensor and a value.
  for (const std::string& pickle : {"}(" + text("a/b") + "K\1" + text("a") + "}" + text("b") + "K\2su", "}(K\1K\2" + text("1") + "K\3u",
                                    "}(K\1}" + text("x") + "K\2s" + text("1") + "}" + text("y") + "K\3su", "}(K\1NQ" + text("1") + "K\3u"})
    EXPECT_NE(told(pickle, &values).find("two of its values are called"), std::string::npos) << pickle;
  values.clear();
  EXPECT_NE(told("}(" + text("a/b") + "K\1" + text("a") + "}" + text("c") + "K\2su", &values).find("'a/b' is a key within '', and 'a' is a dict"), std::string::npos);
  EXPECT_EQ(values, (std::map<std::string, std::string>{{"a/b", "1"}, {"a/c", "2"}}));
  values.clear();
  EXPECT_EQ(told("}(" + text("a/b") + "K\1" + text("a") + "K\2u", &values), "") << "nothing lies within a number";
}

TEST(TorchState, WhatIsNoUtf8IsToldOf) {
  for (const char* pickle : {"}U\4a\xed\xa0\x80NQs", "}U\1aU\4b\xed\xa0\x80s", "}U\1a]U\4b\xed\xa0\x80" "as"}) {
    std::map<std::string, std::string> values;
    EXPECT_NE(told(pickle, &values).find("\xef\xbf\xbd' held what is no UTF-8"), std::string::npos) << pickle;
  }
}

TEST(TorchState, ASlashInANameOfAModelIsItsOwn) {
  Artifact a;
  a.naming = "hf";
  a.tensors = {{"enc/dense/kernel", make_memory_tensor({DType::kF32, {1}}, std::vector<std::byte>(4))}};
  auto store = make_memory_store();
  auto dcp = make_output(a, *store, "d", "dcp");
  ASSERT_TRUE(dcp.ok() && run_job({*dcp}, {}).ok());
  const std::string metadata = *read_text(*store, "d/.metadata");
  EXPECT_NE(metadata.find("enc/dense/kernel"), std::string::npos);
  EXPECT_EQ(metadata.find("enc.dense.kernel"), std::string::npos);
  // Beside what is nested, too.
  const StateKinds kinds = *kinds_of(sample("kinds.pt"));
  StateTree t(kinds, true, "test");
  EXPECT_TRUE(t.add("model/a/b", 0).ok());
  EXPECT_EQ(t.finish().below[0].below[0].key, "a/b");
}

TEST(TorchState, TheKindsOfARootAreKeptWhereANameHasASlash) {
  const StateKinds kinds = {{"", "dict"}};
  for (const char* name : {"a/b", "a.b"}) {
    Artifact a;
    a.tensors = {{name, make_memory_tensor({DType::kF32, {1}}, std::vector<std::byte>(4))}};
    set_kinds(kinds, &a);
    EXPECT_EQ(*kinds_of(a), std::string_view(name) == "a/b" ? kinds : StateKinds());
  }
}

TEST(TorchState, ASetOfListsIsAList) {
  const StateKinds kinds = {{"", "dict"}, {"s", "set"}, {"s/0", "list"}};
  StateTree t(kinds, true, "test");
  EXPECT_TRUE(t.add("s/0/0", 0).ok());
  EXPECT_EQ(t.finish().below[0].kind, "list");
}

TEST(TorchState, KindsThatAreBrokenAreAnError) {
  for (const char* text : {"[1]", "{\"list\": 1}", "{\"list\": [1]}", "{"}) {
    Artifact a;
    a.metadata = {{kKindsKey, MetaValue{std::string(text)}}};
    EXPECT_FALSE(kinds_of(a).ok()) << text;
  }
  // What members do not fit is a dict.
  const StateKinds kinds = {{"", "list"}, {"7", "tuple"}, {"x", "ints"}};
  StateTree t(kinds, true, "test");
  EXPECT_TRUE(t.add("7/2", 0).ok() && t.add("x/y", 1).ok() && t.add("q", 2).ok());
  const StateNode& root = t.finish();
  EXPECT_EQ(root.kind, "dict");
  EXPECT_EQ(root.below[0].kind, "ints");
  EXPECT_EQ(root.below[1].kind, "dict");
}

TEST(TorchState, AWholeModuleIsItsStateDict) {
  // Within DataParallel, with a module of no tensors and one of a buffer that is not kept; and compiled.
  for (const auto& [file, prefix] : {std::pair<const char*, std::string>{"module.pt", "module."}, {"module-compiled.pt", ""}}) {
    const Artifact a = sample(file);
    EXPECT_EQ(names(a), (std::vector<std::string>{prefix + "0.l.bias", prefix + "0.l.weight", prefix + "kept"}));
    EXPECT_TRUE(a.values.empty()) << a.values.begin()->first;
    EXPECT_EQ(a.naming, "hf");
  }
}

TEST(TorchState, WhatGetattrNamesIsRead) {
  const Artifact a = sample("getattr.pt");
  EXPECT_EQ(names(a), (std::vector<std::string>{"model/w"}));
  EXPECT_EQ(a.values.at("cfg/lr"), "0.5") << "an object of a nested class";
  EXPECT_EQ(a.values.at("mode"), "\"__main__.Outer.Mode.A\"");
  EXPECT_EQ(a.values.at("join"), "{\"call\": \"builtins.getattr\", \"args\": [\",\", \"join\"]}");
  EXPECT_NE(a.values.at("loss").find("\"forward\"]"), std::string::npos) << a.values.at("loss");
}

TEST(TorchState, AWholeModuleOfTheOldFormIsItsStateDict) {
  const Artifact a = sample("module-legacy.pt");
  EXPECT_EQ(names(a), (std::vector<std::string>{"l.bias", "l.weight"}));
  EXPECT_EQ(first_number(a, "l.weight"), 1);
}

TEST(TorchState, WhatIsNoTensorInAnNpzIsPassedOver) {
  const Artifact a = sample("odd.npz");
  EXPECT_EQ(names(a), (std::vector<std::string>{"a", "c"}));
  ASSERT_EQ(a.notices.size(), 2u);
  EXPECT_NE(a.notices[0].find("'c' is complex128"), std::string::npos);
  for (const char* part : {"'names' has the type '<U1'", "'o' is an array of Python objects", "'r' is an array of records"})
    EXPECT_NE(a.notices[1].find(part), std::string::npos) << a.notices[1];
  const auto bytes = evaluate(a.find("c")->node);
  double d[8] = {};
  ASSERT_EQ(bytes->size(), sizeof d);
  std::memcpy(d, bytes->data(), sizeof d);
  EXPECT_EQ(std::vector<double>(d, d + 8), (std::vector<double>{1, 2, 3, 0, 4, 0, 0, 5}));
  const auto none = open_model(local_store(), std::string(INGOT_SOURCE_DIR) + "/tests/data/checkpoints/containers/none.npz");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("none of its 2 arrays is a tensor: 'names' has the type '<U1'"), std::string::npos) << none.error().message;
  const Artifact packed = sample("packed.npz");
  float f[6] = {};
  const auto rows = evaluate(packed.find("f")->node);
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  std::memcpy(f, rows->data(), sizeof f);
  EXPECT_EQ(std::vector<float>(f, f + 6), (std::vector<float>{0, 1, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace ingot
