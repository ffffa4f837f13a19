// The table of formats in README.md, made here: each cell is what came of trying it. `./run formats-table` writes the table anew (INGOT_WRITE_TABLE).
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>

#include "formats/formats_testing.h"
#include "formats/output_formats.h"
#include "formats/outputs.h"

namespace ingot {
namespace {

using namespace ingot::testing;

constexpr int64_t kRows = 4096, kCols = 1024;  // of the large tensor: 16 MB
constexpr char kBegin[] = "<!-- formats: made by ./run formats-table -->\n", kEnd[] = "<!-- end of formats -->";

Artifact state(const std::string& prefix) {
  const auto large = static_cast<size_t>(kRows * kCols);
  std::vector<std::byte> bytes(large * 4);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 4 == 3 ? 0x3E : i * 2654435761u >> 24);
  Artifact a;
  const NodePtr tied = f32_tensor({8, 32}, random_floats(8 * 32, 1));
  a.tensors = {{prefix + "large.weight", make_memory_tensor({DType::kF32, {kRows, kCols}}, std::move(bytes))}, {prefix + "tied.a.weight", tied}, {prefix + "tied.b.weight", tied}};
  a.metadata = {{"general.architecture", MetaValue{std::string("llama")}}};
  a.values = {{"step", "3"}, {"nested/lr", "0.25"}};
  return a;
}

Status written(Artifact a, Store& store, const std::string& path, const std::string& format) {
  a.path = "state";
  INGOT_ASSIGN(const Output output, make_output(std::move(a), store, path, format));
  auto report = run_job({output}, {});
  return report.ok() ? Status() : Status(report.take_error());
}

// How the test makes a file of a format, with names that it has; and files that the format's own programs wrote.
struct Trial {
  std::string format, path;
  std::function<Status(Store&, const Artifact&, const std::string& path)> make;
  std::string prefix = {}, read_prefix = {};  // of the names that are written, and of those that are read
  const char* by = "";
  std::vector<std::string> samples = {};
};

Status write_like(const char* format, Store& store, const Artifact& a, const std::string& path) { return written(a, store, path, format); }

Status make_deepspeed(Store& store, const Artifact& a, const std::string& path) {
  Artifact all;
  all.values = a.values;
  for (const char* kind : {"model/", "master/", "exp_avg/", "exp_avg_sq/"})
    for (const auto& t : a.tensors) all.tensors.push_back({kind + t.name.substr(std::string("master/").size()), t.node});
  return written(all, store, path, "deepspeed");
}

Status make_imatrix(Store& store, const Artifact& a, const std::string& path) {
  ByteWriter w;
  w.write(static_cast<int32_t>(a.tensors.size()));
  for (const auto& t : a.tensors) {
    const auto bytes = evaluate(t.node);
    w.text(t.name);
    w.write(int32_t{1});
    w.write(static_cast<int32_t>(bytes->size() / 4));
    w.append(bytes->data(), bytes->size());
  }
  put_file(store, path, w.str());
  return {};
}

Status make_megatron(Store& store, const Artifact& a, const std::string& path) {
  Artifact common, tensors = a;
  common.values = std::move(tensors.values), tensors.values = {};
  INGOT_TRY(written(tensors, store, path, "dcp"));
  INGOT_TRY(written(common, store, join_path(path, "common.pt"), "torch"));
  put_file(store, join_path(path, "metadata.json"), R"({"sharded_backend": "torch_dist", "sharded_backend_version": 1})");
  return {};
}

Status make_peft(Store& store, const Artifact& a, const std::string& path) {
  INGOT_TRY(written(a, store, join_path(path, "adapter_model.safetensors"), "safetensors"));
  put_file(store, join_path(path, "adapter_config.json"), R"({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]})");
  return {};
}

std::vector<Trial> trials() {
  const std::string samples = std::string(INGOT_SOURCE_DIR) + "/tests/data/checkpoints/", data = std::string(INGOT_SOURCE_DIR) + "/tests/data/",
                    examples = std::string(INGOT_SOURCE_DIR) + "/examples/";
  const auto like = [](const char* format) { return [format](Store& s, const Artifact& a, const std::string& p) { return write_like(format, s, a, p); }; };
  return {{"safetensors", "m.safetensors", like("safetensors"), "", "", "transformers, accelerate",
           {examples + "tiny-llama-base", samples + "accelerate/ckpt/checkpoints/checkpoint_1/model.safetensors", samples + "hf-trainer-bf16/ckpt/checkpoint-3/model.safetensors"}},
          {"torch", "m.pt", like("torch"), "", "", "torch, transformers, accelerate",
           {samples + "torch-zip/ckpt/default.pt", samples + "torch-zip/ckpt/nocrc.pt", samples + "torch-legacy/ckpt/legacy.pt", samples + "torch-sharded/ckpt", samples + "accelerate-bin/ckpt",
            samples + "hf-trainer-bf16/ckpt/checkpoint-3/optimizer.pt"}},
          {"dcp", "m", like("dcp"), "", "", "torch", {samples + "dcp-4rank/ckpt", samples + "dcp-hf/ckpt"}},
          {"megatron", "m", make_megatron, "", "model/", "torch, under Megatron's names", {samples + "megatron/llama/megatron", samples + "megatron/moe/nemo"}},
          {"deepspeed", "m", make_deepspeed, "master/", "master/", "DeepSpeed", {samples + "deepspeed-zero1-bf16/ckpt", samples + "deepspeed-zero3-bf16-frozen/ckpt"}},
          {"gguf", "m.gguf", like("gguf"), "", "", "llama.cpp's gguf", {data + "gguf/little-endian.gguf", data + "gguf/big-endian.gguf"}},
          {"imatrix", "m.dat", make_imatrix, "blk.0.", "blk.0.", "", {}},
          {"npz", "m.npz", like("npz"), "", "", "", {}},
          {"peft", "m", make_peft, "base_model.model.", "base_model.model.", "PEFT", {examples + "lora-code", data + "adapters/lora-prose", data + "adapters/lora-rs-patterns"}}};
}

const char* yes(bool b) { return b ? "yes" : "no"; }

// A row of the table: what came of writing the state, opening it, reading a row of the large tensor, and planning to read all of it.
std::string row_of(const Trial& t) {
  SCOPED_TRACE(t.format);
  auto store = make_memory_store();
  const Artifact a = state(t.prefix);
  const Status made = t.make(*store, a, t.path);
  EXPECT_TRUE(made.ok()) << made.error().message;
  std::atomic<uint64_t> bytes{0};
  auto counting = make_fault_store(*store, {nullptr, [&](const std::string&, uint64_t, uint64_t size) { bytes += size; }});
  const auto opened = open_model(*counting, t.path);
  EXPECT_TRUE(opened.ok()) << opened.error().message;
  if (!opened.ok()) return "";
  EXPECT_EQ(opened->format, t.format);
  const auto of = [&](size_t i) { return opened->find(t.read_prefix + a.tensors[i].name.substr(t.prefix.size())); };
  const LazyTensor* large = of(0);
  EXPECT_TRUE(large && of(1) && of(2));
  if (!large || !of(1) || !of(2)) return "";
  const bool flat = large->spec().shape.rank == 1;  // an imatrix has no shapes
  Region one = Region::all(large->spec().shape);
  one.begin[0] = flat ? 7 * kCols : 7, one.extent[0] = flat ? kCols : 1;
  const auto part = evaluate(large->node, one);
  EXPECT_TRUE(part.ok());
  const bool ranges = bytes < (1u << 20);
  bool read = true;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const auto is = evaluate(of(i)->node), want = evaluate(a.tensors[i].node);
    read = read && is.ok() && *is == *want;
  }
  EXPECT_TRUE(read);
  // Within a quarter of what the large tensor takes.
  auto nothing = make_digest_store();
  ExecOptions few;
  few.threads = 1;
  const auto floor = [&](const Artifact& artifact, const std::string& format) {
    auto output = make_output(artifact, *nothing, "out", format);
    EXPECT_TRUE(output.ok());
    const auto plan = plan_job({*output}, few);
    EXPECT_TRUE(plan.ok()) << plan.error().message;
    return plan.ok() ? plan->memory_floor : UINT64_MAX;
  };
  Artifact tensors;
  tensors.tensors = {{"large", large->node}};
  const bool writes = output_format(t.format) != nullptr;
  bool streamed = floor(tensors, "safetensors") < kRows * kCols;
  Artifact given = a;
  given.files["adapter_config.json"] = "{}";  // which an adapter has
  if (writes && t.format != "deepspeed") streamed = streamed && floor(given, t.format) < kRows * kCols;
  const auto keeps = [&](const std::string& name) {
    const auto it = opened->values.find(name);
    return it != opened->values.end() && it->second == a.values.at(name);
  };
  // Elsewhere each sample is compared value by value with what its writer held; here, that they are of this format, and that every tensor of them can be read.
  for (const auto& path : t.samples) {
    const auto sample = open_model(local_store(), path);
    EXPECT_TRUE(sample.ok()) << sample.error().message;
    if (!sample.ok()) continue;
    EXPECT_EQ(sample->format, t.format) << path;
    for (const auto& tensor : sample->tensors) EXPECT_TRUE(evaluate(tensor.node).ok()) << path << ": " << tensor.name;
  }
  const std::string by = t.samples.empty() ? "files made by the test" : fmt::format("{} ({} files)", t.by, t.samples.size());
  return fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} |\n", t.format, yes(read), yes(writes), yes(streamed), yes(ranges), yes(of(1)->node == of(2)->node),
                     yes(keeps("step") && keeps("nested/lr")), by);
}

TEST(FormatsTable, IsWhatTheReadmeHas) {
  const auto all = trials();
  for (const auto name : format_names()) EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const Trial& t) { return t.format == name; })) << name << ": no trial";
  for (const auto* f : output_formats()) EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const Trial& t) { return output_format(t.format) == f; })) << f->name << ": no trial";
  std::string table = "| format | read | write | streamed | ranges | ties kept | plain values kept | verified by files of |\n|---|---|---|---|---|---|---|---|\n";
  for (const auto& t : all) table += row_of(t);
  const std::string path = std::string(INGOT_SOURCE_DIR) + "/README.md";
  std::string readme = get_file(local_store(), path);
  const size_t begin = readme.find(kBegin), end = readme.find(kEnd);
  ASSERT_TRUE(begin != std::string::npos && end != std::string::npos && begin < end) << path << " has no place for the table:\n" << kBegin << table << kEnd;
  const size_t from = begin + std::string(kBegin).size();
  if (std::getenv("INGOT_WRITE_TABLE")) {
    std::ofstream(path) << readme.replace(from, end - from, table);
    return;
  }
  EXPECT_EQ(readme.substr(from, end - from), table) << "./run formats-table writes it";
}

}  // namespace
}  // namespace ingot
