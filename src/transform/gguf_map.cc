#include "transform/gguf_map.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_set>

#include "base/memory.h"
#include "formats/hf_weights.h"
#include "formats/json.h"
#include "model/architecture.h"
#include "quant/codec.h"
#include "storage/hub.h"
#include "tokenizer/gguf_gaps.h"
#include "transform/class_rules.h"
#include "transform/dequantize.h"
#include "transform/gguf_rope.h"
#include "transform/gguf_vocab.h"
#include "transform/key_names.h"
#include "transform/lora_nodes.h"
#include "transform/permute.h"
#include "transform/quantize.h"

namespace ingot::transform {
namespace {

using Params = std::map<std::string, int64_t>;

// Runs of digits compare as numbers, so that layer 10 follows layer 9. An order of our own, not the file's: sharded or
// not, merged in one pass or stored in between, a model gives the same GGUF.
bool natural_less(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      size_t x = i, y = j;
      while (x < a.size() && digit(a[x])) ++x;
      while (y < b.size() && digit(b[y])) ++y;
      if (x - i != y - j) return x - i < y - j;
      if (const int c = a.compare(i, x - i, b, j, y - j); c != 0) return c < 0;
      i = x, j = y;
    } else {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

std::string file_text(const Artifact& a, const std::string& name) {
  auto it = a.files.find(name);
  return it == a.files.end() ? std::string() : it->second;
}

class Mapper {
 public:
  Mapper(const Artifact& hf, const ToGgufOptions& options) : hf_(hf), options_(options) {}
  Result<Artifact> run();

 private:
  Status read_config();
  Status map_tensors();
  Result<NodePtr> map_tensor(const LazyTensor& t, const MappedName& m);
  Status check_complete();
  Status rope_scaling();
  Status check_announced(const TensorRule& rule, const std::unordered_set<std::string>& have);
  Status note_window();
  Status add_metadata();
  Status add_vocab();
  Status check_vocab(const Tokenizer& tokenizer, GgufVocab vocab);
  Status cannot_say(const std::string& text);
  void put(std::string key, auto value) { out_.metadata.emplace_back(std::move(key), MetaValue{std::move(value)}); }

  const Artifact& hf_;
  const ToGgufOptions& options_;
  std::string config_path_;
  Json config_;
  const Architecture* arch_ = nullptr;
  Params params_;
  bool tied_ = false;
  int64_t vocab_rows_ = 0;
  std::optional<int64_t> window_;
  std::map<std::tuple<NodePtr, std::string, bool>, NodePtr> mapped_;  // by input, permutation and cast: one node stays one
  Artifact out_;
};

Status Mapper::read_config() {
  config_path_ = join_path(hf_.path, "config.json");
  const std::string text = file_text(hf_, "config.json");
  if (text.empty()) {
    if (hf_.files.count("config.json")) return bad_input("reading {}: the file is empty; copy it from the model's repository", config_path_);
    return hf_.path.ends_with(".safetensors")
               ? bad_input("converting {}: a single file of weights has no configuration and no tokenizer; give the model's directory, {}",
                           hf_.path, parent_path(hf_.path))
               : bad_input("converting {}: there is no config.json beside the weights; give the model's directory", hf_.path);
  }
  INGOT_ASSIGN(config_, parse_json(text, "reading " + config_path_));
  const std::string what = "reading " + config_path_;
  INGOT_ASSIGN(arch_, find_architecture(config_, what));
  INGOT_ASSIGN(params_, config_params(*arch_, config_, what));
  INGOT_TRY(check_plain(hf_, "converting " + hf_.path));
  if (const Json* t = json_member(config_, "tie_word_embeddings"); t && !t->is_null() && !t->is_boolean())
    return bad_input("{}: 'tie_word_embeddings' is {}, expected true or false", what, json_brief(*t));
  tied_ = json_bool(config_, "tie_word_embeddings").value_or(arch_->tied_by_default);
  return {};
}

Result<NodePtr> Mapper::map_tensor(const LazyTensor& t, const MappedName& m) {
  INGOT_ASSIGN(const Shape want, expected_shape(*m.rule, params_));
  const TensorSpec spec = t.spec();
  if (!(spec.shape == want))
    return bad_input("converting {}: tensor {} is {}, but config.json makes it {}; the two do not belong together",
                     hf_.path, tensor_text(*t.node, t.name), to_string(spec.shape), to_string(want));
  const bool widened = spec.shape.rank < 2 || m.name.ends_with("_norm.weight");
  NodePtr& node = mapped_[{t.node, m.rule->permute, widened}];
  if (node) return node;
  node = t.node;
  if (!m.rule->permute.empty()) {
    auto permuted = permute_rope(node, params_.at(m.rule->permute), RopeOrder::kToInterleaved);
    if (!permuted.ok()) return std::move(permuted.take_error()).during("converting tensor " + tensor_text(*t.node, t.name));
    node = std::move(permuted).value();
  }
  if (widened) {
    INGOT_ASSIGN(node, cast(t.name, node, DType::kF32, {nullptr, options_.counts}));
  } else if (!is_float_type(spec.type) || spec.type == DType::kF64)
    return bad_input("converting {}: tensor {} is {}, expected F32, F16 or BF16", hf_.path, tensor_text(*t.node, t.name),
                     info(spec.type).name);
  return node;
}

Status Mapper::map_tensors() {
  std::vector<const LazyTensor*> in;
  for (const auto& t : hf_.tensors) in.push_back(&t);
  std::sort(in.begin(), in.end(), [](auto* a, auto* b) { return natural_less(a->name, b->name); });
  const LazyTensor* head = nullptr;
  size_t embedding = SIZE_MAX;
  std::vector<std::string> passed_over;
  for (const LazyTensor* t : in) {
    if (is_dropped(*arch_, t->name)) continue;
    const auto m = map_to_gguf(*arch_, t->name);
    if (is_passed_over(t->name, m, params_.at("layers"))) {
      passed_over.push_back(t->name);
      continue;
    }
    if (!m) {
      const std::string origin = likely_origin(t->name, [this](const std::string& name) { return map_to_gguf(*arch_, name).has_value(); });
      return bad_input("converting {}: the tensor {} {} is none that {} has{}; data/architectures/{}.json lists them{}", hf_.path,
                       tensor_text(*t->node, t->name), to_string(t->spec().shape), config_["architectures"][0].dump(), origin, arch_->name,
                       origin.empty() ? ". If transformers runs the model without it, load it there and save it anew" : "");
    }
    if (m->rule->role == "output" && tied_) {
      head = t;
      continue;
    }
    INGOT_ASSIGN(auto node, map_tensor(*t, *m));
    if (m->rule->role == "embedding") {
      vocab_rows_ = node->spec().shape[0];
      embedding = out_.tensors.size();
    }
    out_.tensors.push_back({m->name, std::move(node)});
  }
  if (!passed_over.empty() && options_.on_notice)
    options_.on_notice(fmt::format("{}: tensors that the class does not read, and transformers passes over, are left out: {}", hf_.path, some_of(passed_over)));
  // A head that is left out because it is tied must be the embedding: compared as the embedding is written.
  if (head && embedding < out_.tensors.size() && head->node != out_.tensors[embedding].node) {
    const LazyTensor& e = out_.tensors[embedding];
    if (!(head->spec().shape == e.spec().shape) || !find_codec(head->spec().type))
      return bad_input("converting {}: config.json ties the embeddings, but '{}' is {} {} and the embedding {} {}", hf_.path, head->name,
                       info(head->spec().type).name, to_string(head->spec().shape), info(e.spec().type).name, to_string(e.spec().shape));
    out_.tensors.node(embedding) =
        same_as(e.node, head->node,
                {"converting " + hf_.path, head->name,
                 "config.json says tie_word_embeddings, which would leave the head out: set it to false to keep the head, or remove "
                 "the head"});
  }
  return {};
}

// Tensors that config.json announces by a flag must be there, others not: whoever believes the one or the other would
// run another model.
Status Mapper::check_announced(const TensorRule& rule, const std::unordered_set<std::string>& have) {
  const Json* m = json_member(config_, rule.announced);
  if (m && !m->is_boolean())
    return bad_input("reading {}: '{}' is {}, expected true or false", config_path_, rule.announced, json_brief(*m));
  const bool announced = m && m->get<bool>();
  const int64_t n = rule.per_layer() ? params_.at("layers") : 1;
  for (int64_t i = 0; i < n; ++i) {
    const bool there = have.count(expand(rule.gguf, static_cast<int>(i))) > 0;
    if (there == announced) continue;
    const std::string tensor = expand(rule.hf, static_cast<int>(i));
    if (announced)
      return bad_input("converting {}: config.json says '{}' is true, but the tensor '{}' is missing; the model is not whole, or the "
                       "flag is wrong", hf_.path, rule.announced, tensor);
    return bad_input("converting {}: the tensor '{}' is there, but config.json {}, so that transformers would leave it out; set '{}' to "
                     "true if the model was trained with it, else remove the tensor", hf_.path, tensor,
                     m ? fmt::format("says '{}' is false", rule.announced) : fmt::format("does not set '{}'", rule.announced), rule.announced);
  }
  return {};
}

// The key is one that llama.cpp reads of other architectures; of these neither its loader nor its converter knows it, and ours does.
Status Mapper::note_window() {
  INGOT_ASSIGN(const auto window, attention_window(*arch_, config_, "reading " + config_path_));
  window_ = window;
  if (window)
    return cannot_say(fmt::format("{}: attention sees the last {} tokens only (sliding_window), which llama.cpp does not read of {} models: in "
                                  "texts longer than that it runs another model", config_path_, *window, arch_->name));
  return {};
}

Status Mapper::check_complete() {
  std::unordered_set<std::string> have;
  for (const auto& t : out_.tensors) have.insert(t.name);
  for (const auto& r : arch_->tensors) {
    if (!r.announced.empty()) INGOT_TRY(check_announced(r, have));
    if (r.optional || (r.role == "output" && tied_)) continue;
    const int64_t n = r.per_layer() ? params_.at("layers") : 1;
    for (int64_t i = 0; i < n; ++i)
      if (!have.count(expand(r.gguf, static_cast<int>(i))))
        return bad_input("converting {}: the tensor '{}' is missing; the model is not whole", hf_.path,
                         expand(r.hf, static_cast<int>(i)));
  }
  return {};
}

Status Mapper::rope_scaling() {
  INGOT_ASSIGN(GgufRope rope, gguf_rope(config_, arch_->name, params_.at("head_dim"), "reading " + config_path_));
  for (auto& [key, value] : rope.metadata) out_.metadata.emplace_back(key, std::move(value));
  out_.tensors.edit([&](auto& all) { all.insert(all.begin(), rope.tensors.begin(), rope.tensors.end()); });
  if (!rope.notice.empty() && options_.on_notice) options_.on_notice(config_path_ + ": " + rope.notice);
  return {};
}

Status Mapper::add_metadata() {
  put("general.architecture", arch_->name);
  put("general.type", std::string("model"));
  std::string id = json_string(config_, "_name_or_path").value_or("");
  if (id.empty() || std::count(id.begin(), id.end(), '/') > 1) id = model_name(hf_.path);
  if (const auto slash = id.rfind('/'); slash != std::string::npos) id = id.substr(slash + 1);
  if (id.empty() || id == "." || id == "..") id = "model";
  put("general.name", options_.name.empty() ? title_of(id) : options_.name);
  uint64_t parameters = 0;
  for (const auto& t : out_.tensors) parameters += static_cast<uint64_t>(t.spec().shape.elements());
  put("general.size_label", size_label(parameters));
  for (const auto& r : arch_->metadata) {
    if (r.special == "rope_scaling") {
      INGOT_TRY(rope_scaling());
    } else if (r.special == "file_type") {
      // By the type that most of the weights have, when the rest is written.
      put("general.file_type", uint32_t{0});
    } else if (r.special == "quantization_version") {
      put("general.quantization_version", kQuantizationVersion);
    } else {
      std::optional<double> v;
      for (const auto& path : r.from)
        if (!v) {
          INGOT_ASSIGN(v, read_config_number(config_, path, "reading " + config_path_));
        }
      if (!v && r.optional) continue;
      if (!v) return bad_input("reading {}: there is no number '{}'", config_path_, r.from[0]);
      // Whoever loads the file refuses what is not above zero.
      if (!(*v > 0)) return bad_input("reading {}: '{}' is {}, expected a number above zero", config_path_, r.from[0], *v);
      if (r.type == "f32") {
        if (const auto f = static_cast<float>(*v); !std::isnormal(f))
          return bad_input("reading {}: '{}' is {}, which is beyond the 32-bit float of the file", config_path_, r.from[0], *v);
        put(r.key, static_cast<float>(*v));
      } else {
        if (!(*v >= 0) || *v > 4294967295.0 || *v != std::floor(*v))
          return bad_input("reading {}: '{}' is {}, expected a whole number", config_path_, r.from[0], *v);
        put(r.key, static_cast<uint32_t>(*v));
      }
    }
  }
  if (window_) put(arch_->name + ".attention.sliding_window", static_cast<uint32_t>(*window_));
  for (auto& [key, value] : out_.metadata)
    if (key == "general.file_type") value.v = float_file_type(out_);
  return {};
}

Status Mapper::add_vocab() {
  INGOT_ASSIGN(Tokenizer t, hf_tokenizer(hf_.files, hf_.path, options_.on_warning));
  if (!options_.pre_tokenizer.empty()) {
    const auto own = t.pre_tokenizer_name();
    INGOT_TRY(t.override_pre_tokenizer(options_.pre_tokenizer));
    if ((!own.ok() || *own != options_.pre_tokenizer) && options_.on_warning)
      options_.on_warning(fmt::format("--pre-tokenizer {} overrides {}, which the rules of {} match: who loads the file will cut some texts "
                                      "into other tokens than the model was trained with", options_.pre_tokenizer,
                                      own.ok() ? *own : "no known name", join_path(hf_.path, "tokenizer.json")));
  }
  auto vocab = t.to_gguf_vocab(static_cast<size_t>(vocab_rows_));
  if (!vocab.ok()) return std::move(vocab.take_error()).during("converting the tokenizer of " + hf_.path);
  if (static_cast<int64_t>(t.size()) < vocab_rows_ && options_.on_notice)
    options_.on_notice(fmt::format("the embedding has {} rows for {} tokens: {} unused tokens pad the vocabulary",
                                   vocab_rows_, t.size(), vocab_rows_ - static_cast<int64_t>(t.size())));
  for (const std::string& w : vocab->warnings)
    if (options_.on_warning) options_.on_warning(fmt::format("the tokenizer of {}: {}", hf_.path, w));
  INGOT_TRY(check_vocab(t, *vocab));
  append_vocab(*vocab, &out_.metadata);
  return {};
}

// Tells what whoever loads the file will do otherwise than the directory's tokenizer.
Status Mapper::check_vocab(const Tokenizer& tokenizer, GgufVocab vocab) {
  if (!options_.strict && !options_.on_notice) return {};
  for (const auto& [key, value] : out_.metadata)
    if (key == "general.name") vocab.name = std::get<std::string>(value.v);
  auto findings = find_gguf_gaps(tokenizer, vocab);
  if (!findings.ok()) return std::move(findings.take_error()).during("comparing the tokenizer of " + hf_.path + " with what GGUF says of it");
  for (const GgufFinding& f : *findings) INGOT_TRY(cannot_say(fmt::format("{}: {}", join_path(hf_.path, "tokenizer.json"), f.describe())));
  return {};
}

Status Mapper::cannot_say(const std::string& text) {
  if (options_.strict) return bad_input("converting {}: {}. Without --strict this is a notice, and the file is written", hf_.path, text);
  if (options_.on_notice) options_.on_notice(text);
  return {};
}

Result<Artifact> Mapper::run() {
  if (hf_.naming != "hf")
    return bad_input("converting {}: it is {}, expected a Hugging Face model", hf_.path, hf_.format);
  out_.path = hf_.path;
  out_.format = out_.naming = "gguf";
  INGOT_TRY(read_config());
  INGOT_TRY(map_tensors());
  INGOT_TRY(check_complete());
  INGOT_TRY(note_window());
  INGOT_TRY(add_metadata());
  INGOT_TRY(add_vocab());
  return std::move(out_);
}

}  // namespace

std::string title_of(const std::string& id) {
  std::string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    bool lower = false, upper = false, version = false;
    for (char c : word) lower = lower || (c >= 'a' && c <= 'z'), upper = upper || (c >= 'A' && c <= 'Z');
    if (word[0] >= '0' && word[0] <= '9') version = true;
    if (word.size() > 1 && word[0] == 'v' && word.find_first_not_of("0123456789.", 1) == std::string::npos) version = true;
    if (lower && !upper && !version) {
      bool start = true;
      for (char& c : word) {
        const bool letter = c >= 'a' && c <= 'z';
        if (letter && start) c = static_cast<char>(c - 'a' + 'A');
        start = !letter && static_cast<unsigned char>(c) < 0x80;
      }
    }
    if (!out.empty()) out += ' ';
    out += word;
    word.clear();
  };
  for (char c : id) {
    if (c == '-' || c == ' ') flush();
    else word += c;
  }
  flush();
  return out;
}

std::string size_label(uint64_t n) {
  const auto x = static_cast<double>(n);
  const auto [scale, suffix] = x > 1e12 ? std::pair{1e-12, "T"} : x > 1e9 ? std::pair{1e-9, "B"}
                               : x > 1e6 ? std::pair{1e-6, "M"} : std::pair{1e-3, "K"};
  const double scaled = x * scale;
  const std::string whole = std::to_string(static_cast<int64_t>(std::nearbyint(scaled)));
  const int digits = whole == "0" ? 0 : static_cast<int>(whole.size());
  return fmt::format("{:.{}f}{}", scaled, std::max(2 - digits, 0), suffix);
}

Result<Artifact> to_gguf(const Artifact& hf, const ToGgufOptions& options) {
  return within_memory("converting " + hf.path, [&]() -> Result<Artifact> {
    INGOT_ASSIGN(const Artifact settled, with_settled_head(hf, options.on_notice));
    return Mapper(settled, options).run();
  });
}

}  // namespace ingot::transform
