// Files that torch, transformers, accelerate and Lightning wrote themselves, beside what the writing process held: tests/data/checkpoints (README.md there), or all
// of the set that these are taken from, in the folder that INGOT_CHECKPOINTS names.
#include "formats/outputs.h"
#include "formats/samples_testing.h"

namespace ingot {
namespace {

namespace fs = std::filesystem;
using namespace ingot::testing;

class TorchSamples : public Samples {
 protected:
  void begin(const std::string& name, const std::string& expected = "") { ASSERT_TRUE(Samples::begin(name, expected)) << name; }
  // The moments of an optimizer's state, whose parameters are in this order.
  void moments(const Artifact& a, const std::string& before, const std::vector<std::string>& order) {
    for (size_t i = 0; i < order.size(); ++i)
      for (const char* kind : {"exp_avg", "exp_avg_sq"}) same(a, fmt::format("{}state/{}/{}", before, i, kind), fmt::format("{}/{}", kind, order[i]));
  }
  // Of parameters in the model's order: matrices, then vectors.
  std::vector<std::string> in_order(const Artifact& model, const std::string& before) {
    std::vector<std::string> order;
    for (const bool matrices : {true, false})
      for (const auto& t : model.tensors)
        if (t.name.starts_with(before) && (t.spec().shape.rank > 1) == matrices && expected_.find("exp_avg/" + t.name.substr(before.size())))
          order.push_back(t.name.substr(before.size()));
    return order;
  }
  static std::vector<std::string> files(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(folder)) names.push_back(e.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
};

TEST_F(TorchSamples, EachZipOfTheSameStateGivesAllOfIt) {
  begin("torch-zip");
  for (const auto& name : files(folder_)) {
    const Artifact a = open(folder_ + "/" + name);
    EXPECT_EQ(a.format, "torch");
    EXPECT_EQ(a.naming, "") << "the names of a nested state are nobody's";
    EXPECT_EQ(a.tensors.size(), expected_.tensors.size());
    all_of(a, "", "");
    for (auto it = json_["leaves"].begin(); it != json_["leaves"].end(); ++it) EXPECT_EQ(*parse_json(a.values.at(it.key()), ""), it.value()) << it.key();
    EXPECT_EQ(a.values.size(), json_["leaves"].size());
    EXPECT_EQ(a.find("model/emb.weight")->node, a.find("model/head.weight")->node) << "tied";
    EXPECT_EQ(a.find("views/base")->node, a.find("views/same")->node);
    EXPECT_NE(a.find("views/base")->node, a.find("views/row")->node);
    EXPECT_TRUE(a.notices.empty()) << notices(a);
  }
  EXPECT_EQ(compared_, files(folder_).size() * 84);
}

TEST_F(TorchSamples, TheOldFormGivesTheSameState) {
  begin("torch-legacy", "torch-zip");
  const Artifact a = open(folder_ + "/legacy.pt"), model = open(folder_ + "/legacy_model.pt");
  for (const auto& t : expected_.tensors)
    if (!t.name.starts_with("dtypes/float8")) same(a, t.name, t.name);
  for (auto it = json_["leaves"].begin(); it != json_["leaves"].end(); ++it) EXPECT_EQ(*parse_json(a.values.at(it.key()), ""), it.value()) << it.key();
  EXPECT_EQ(a.tensors.size(), 82U);
  EXPECT_EQ(a.find("model/emb.weight")->node, a.find("model/head.weight")->node);
  EXPECT_EQ(model.naming, "hf");
  EXPECT_EQ(model.tensors.size(), 16U);
  all_of(model, "model/", "");
}

TEST_F(TorchSamples, EdgesOfTorch) {
  begin("torch-zip-edge");
  for (const auto& t : expected_.tensors) {
    const size_t slash = t.name.find('/'), space = t.name.find(' ');
    const std::string file = t.name.substr(0, slash), name = slash == std::string::npos ? "bare_tensor" : t.name.substr(slash + 1, space - slash - 1);
    const Artifact a = open(folder_ + "/" + file);
    if (t.name.ends_with("(real part)")) {
      const LazyTensor* is = a.find(name);
      ASSERT_TRUE(is);
      EXPECT_TRUE(is->spec() == (TensorSpec{DType::kF64, {3, 4, 2}}));
      const auto pairs = *evaluate(is->node), want = *evaluate(t.node);
      for (size_t i = 0; i < 12; ++i) EXPECT_EQ(std::memcmp(&pairs[16 * i], &want[8 * i], 8), 0);
      EXPECT_NE(notices(a).find("'complex128' is complex128: kept as F64 with a last dimension"), std::string::npos) << notices(a);
    } else if (t.name.ends_with("(bytes)")) {
      EXPECT_EQ(info(a.find(name)->spec().type).name.substr(0, 3), "F8_");
      EXPECT_EQ(*evaluate(a.find(name)->node), *evaluate(t.node)) << name;
    } else {
      same(a, name, t.name);
    }
  }
  const Artifact meta = open(folder_ + "/sparse_meta.pt");
  EXPECT_FALSE(meta.find("meta"));
  EXPECT_NE(notices(meta).find("'meta' is passed over: it was saved from the meta device"), std::string::npos) << notices(meta);
  Json objects = json_["leaves"]["objects.pt"];
  objects.erase("numpy");  // a tensor
  same_values(open(folder_ + "/objects.pt"), objects, "", {"set"});
  const Artifact holes = open(folder_ + "/skip_data.pt");
  EXPECT_EQ(holes.tensors.size(), 16U);
  EXPECT_EQ(to_floats(*evaluate(holes.find("scale")->node)), std::vector<float>(3, 0));
  // A whole module has the names of its state_dict().
  const Artifact module = open(folder_ + "/whole_module.pt");
  ASSERT_EQ(module.tensors.size(), 16U);
  for (const auto& t : holes.tensors) EXPECT_TRUE(module.find(t.name) && module.find(t.name)->spec() == t.spec()) << t.name;
  EXPECT_EQ(module.find("emb.weight")->node, module.find("head.weight")->node);
  EXPECT_TRUE(module.values.empty());
  EXPECT_EQ(module.naming, "hf");
}

TEST_F(TorchSamples, ScriptsAndTrainers) {
  begin("plain-script");
  std::string at = folder_ + "/" + std::string(json_["of"]);
  Artifact model = open(at + "/model.safetensors");
  EXPECT_EQ(model.format, "torch");
  EXPECT_NE(notices(model).find("is called a safetensors file, but is one of torch.save"), std::string::npos);
  all_of(model, "model/", "");
  const std::vector<std::string> order = in_order(model, "");
  moments(open(at + "/optimizer.pt"), "", order);
  EXPECT_EQ(compared_, expected_.tensors.size());
  same_values(open(at + "/training_state.pt"), json_["leaves"]["training_state.pt"]);

  for (const char* name : {"hf-trainer", "hf-trainer-bf16", "hf-trainer-peft"}) {
    if (!fs::exists(root() + "/" + name)) continue;
    begin(name);
    at = folder_ + "/" + std::string(json_["of"]);
    const Artifact optimizer = open(at + "/optimizer.pt");
    moments(optimizer, "", json_["optimizer_order"]);
    EXPECT_EQ(optimizer.values.at("param_groups/0/weight_decay"), "0.1");
    EXPECT_EQ(open(at + "/scheduler.pt").values.at("last_epoch"), "3");
    const Artifact args = open(at + "/training_args.bin"), rng = open(at + "/rng_state.pth");
    EXPECT_EQ(args.values.at("lr_scheduler_type"), "{\"call\": \"transformers.trainer_utils.SchedulerType\", \"args\": [\"cosine\"]}");
    EXPECT_TRUE(rng.find("cpu") && rng.find("cpu")->spec() == (TensorSpec{DType::kU8, {5056}}));
    ASSERT_TRUE(rng.find("numpy/1"));
    EXPECT_TRUE(rng.find("numpy/1")->spec() == (TensorSpec{DType::kU32, {624}})) << "an array of numpy";
    EXPECT_EQ(rng.values.at("numpy/0"), "\"MT19937\"");
  }
  for (const char* name : {"lightning", "lightning-bf16"}) {
    if (!fs::exists(root() + "/" + name)) continue;
    begin(name);
    const Artifact a = open(folder_ + "/epoch=0-step=3.ckpt");
    all_of(a, "model/", "state_dict/");
    moments(a, "optimizer_states/0/", in_order(a, "state_dict/"));
    EXPECT_EQ(compared_, expected_.tensors.size());
    for (auto it = json_["leaves"].begin(); it != json_["leaves"].end(); ++it) same_values(a, it.value(), it.key());
    EXPECT_EQ(a.find("state_dict/net.emb.weight")->node, a.find("state_dict/net.head.weight")->node);
  }
  begin("accelerate");
  at = folder_ + "/" + std::string(json_["of"]);
  model = open(at + "/model.safetensors");
  all_of(model, "model/", "");
  moments(open(at + "/optimizer.bin"), "", order);  // the same model
  const Artifact custom = open(at + "/custom_checkpoint_0.pkl");
  all_of(custom, "custom/", "");
  EXPECT_EQ(custom.values.at("n"), "3");
  EXPECT_EQ(compared_, expected_.tensors.size());
  open(at + "/random_states_0.pkl");
}

// What power cuts, full disks and bad copies leave: the variants of the set's broken.json that concern these files.
TEST_F(TorchSamples, BrokenFilesGiveOneErrorEach) {
  const auto store = make_memory_store();
  const auto refused = [&](const std::string& path, const std::string& bytes, const char* text) {
    put_file(*store, path, bytes);
    const auto a = open_model(*store, path);
    ASSERT_FALSE(a.ok()) << text;
    EXPECT_EQ(a.error().kind, ErrorKind::kBadInput);
    EXPECT_NE(a.error().message.find(text), std::string::npos) << a.error().message;
    EXPECT_NE(a.error().message.find(path), std::string::npos) << a.error().message;
  };
  const std::string zip = get_file(local_store(), root() + "/torch-zip/ckpt/default.pt"), old = get_file(local_store(), root() + "/torch-legacy/ckpt/legacy.pt");
  const auto zeroed = [](std::string s, size_t from, size_t to) { return s.replace(from, to - from, to - from, '\0'); };
  std::string flipped = zip;
  flipped[4154] = static_cast<char>(flipped[4154] ^ 1);
  refused("half.pt", zip.substr(0, zip.size() / 2), "has no end record; the file is truncated");
  refused("less22.pt", zip.substr(0, zip.size() - 22), "has no end record; the file is truncated");
  refused("empty.pt", "", "the file is empty");
  refused("flipped.pt", flipped, "the CRC-32 of its record 'default/data.pkl' is");
  refused("zeroed.pt", zeroed(zip, 64, 8244), "the CRC-32 of its record 'default/data.pkl' is");
  refused("tail.pt", zeroed(zip, zip.size() - 4096, zip.size()), "has no end record");
  refused("legacy-half.pt", old.substr(0, old.size() / 2), "it is truncated");
  refused("legacy-less-1.pt", old.substr(0, old.size() - 1), "it is truncated");
  for (const char* name : {"lightning", "lightning-bf16"})
    if (const std::string path = root() + "/" + name + "/ckpt/epoch=0-step=3.ckpt"; fs::exists(path)) {
      const std::string whole = get_file(local_store(), path);
      refused("half.ckpt", whole.substr(0, whole.size() / 2), "has no end record");
    }
  // A shard in another's place: what the index names is in none.
  for (const char* name : {"pytorch_model-00001-of-00004.bin", "pytorch_model-00002-of-00004.bin", "pytorch_model-00003-of-00004.bin", "pytorch_model-00004-of-00004.bin",
                           "pytorch_model.bin.index.json"})
    put_file(*store, std::string("m/") + name, get_file(local_store(), root() + "/torch-sharded/ckpt/" + (name[18] == '2' ? "pytorch_model-00001-of-00004.bin" : name)));
  const auto a = open_model(*store, "m");
  ASSERT_FALSE(a.ok());
  EXPECT_NE(a.error().message.find("none of the 2 tensors that it names for pytorch_model-00002-of-00004.bin is there"), std::string::npos) << a.error().message;
}

TEST_F(TorchSamples, DirectoriesOfShardsOpenAsModels) {
  for (const char* name : {"torch-sharded", "accelerate-bin"}) {
    begin(name);
    const Artifact a = open(folder_);
    EXPECT_EQ(a.naming + a.format, "hftorch");
    EXPECT_EQ(a.tensors.size(), expected_.tensors.size());
    all_of(a, "", "");
  }
}

// As transformers has it: safetensors under their own names, torch files, and no safetensors of other names before these.
TEST_F(TorchSamples, FilesOfADirectoryAreTakenWhereTransformersTakesThem) {
  const std::string sample = root() + "/torch-sharded/ckpt/";
  const auto store = make_memory_store();
  const auto torch = [&](const std::string& name, const std::string& as) { put_file(*store, as, get_file(local_store(), sample + name)); };
  const auto remove = [&](const std::string& path) { ASSERT_TRUE(store->remove(path).ok()); };
  const auto shard = [](int i) { return fmt::format("pytorch_model-0000{}-of-00004.bin", i); };
  std::string said;
  const auto tensors = [&] {
    auto a = open_model(*store, "m");
    EXPECT_TRUE(a.ok()) << a.error().message;
    said = a.ok() ? notices(*a) : a.error().message;
    return a.ok() ? a->tensors.size() : 0;
  };
  const auto refused = [&](const char* text) {
    const auto a = open_model(*store, "m");
    EXPECT_TRUE(!a.ok() && a.error().message.find(text) != std::string::npos) << (a.ok() ? "it opens" : a.error().message);
  };
  Artifact other;
  other.tensors = {{"t", f32_tensor({4}, {1, 2, 3, 4})}};
  write_output(safetensors_output(other, *store, "n"));
  for (int i : {1, 2, 3, 4}) torch(shard(i), "m/" + shard(i));
  put_file(*store, "m/training_args.bin", "not read");
  EXPECT_EQ(tensors(), 16U) << "the names prove the shards whole";
  torch("pytorch_model.bin.index.json", "m/pytorch_model.bin.index.json");
  EXPECT_EQ(tensors(), 16U);
  EXPECT_EQ(said, "");
  // Safetensors of other names are passed over, those of transformers' own taken.
  put_file(*store, "m/model.fp16.safetensors", get_file(*store, "n"));
  EXPECT_EQ(tensors(), 16U);
  EXPECT_NE(said.find("pytorch_model.bin.index.json is taken, as transformers does; passed over, as if of another model: model.fp16.safetensors"), std::string::npos);
  remove("m/model.fp16.safetensors");
  put_file(*store, "m/model.safetensors", get_file(*store, "n"));
  EXPECT_EQ(tensors(), 1U);
  EXPECT_NE(said.find("model.safetensors is taken, as transformers does, not pytorch_model.bin.index.json beside it"), std::string::npos) << said;
  // A torch file of that name is read as what it is.
  torch(shard(1), "m/model.safetensors");
  const size_t first = tensors();
  EXPECT_NE(said.find("m/model.safetensors: it is called a safetensors file, but is one of torch.save"), std::string::npos);
  remove("m/model.safetensors");
  torch(shard(1), "m/pytorch_model.bin");
  EXPECT_EQ(tensors(), first);
  remove("m/pytorch_model.bin");
  remove("m/" + shard(2));
  refused("1 of the 4 files that the index names is not there: pytorch_model-00002-of-00004.bin");
  remove("m/pytorch_model.bin.index.json");
  refused("of 4 shards 3 are there; missing: pytorch_model-00002-of-00004.bin");
  // One file of any other name; two say nothing of which.
  for (int i : {1, 3, 4}) remove("m/" + shard(i));
  torch(shard(1), "m/weights.pt");
  EXPECT_EQ(tensors(), first);
  torch(shard(3), "m/ema.pth");
  refused("2 torch files, and nothing tells which is the model: weights.pt (");
}

}  // namespace
}  // namespace ingot
