#include "transform/gguf_lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "formats/gguf.h"
#include "formats/hf_weights.h"
#include "model/model_config.h"
#include "transform/cast.h"
#include "transform/gguf_check.h"
#include "transform/hf_config.h"
#include "transform/permute.h"
#include "transform/rearrange.h"

namespace ingot::transform {
namespace {

constexpr char kPrefix[] = "base_model.model.";

std::string text_of(const Artifact& a, std::string_view key) {
  const std::string* s = meta_string(a, key);
  return s ? *s : std::string();
}

// Both factors of one weight, as the file has them.
struct Factors {
  const LazyTensor *a = nullptr, *b = nullptr;
};

class Maker {
 public:
  Maker(const Artifact& gguf, const Json& base, const std::string& base_name) : in_(gguf), base_(base), base_name_(base_name) {}

  Result<Artifact> run() {
    INGOT_TRY(read_kind());
    INGOT_TRY(find_class());
    std::map<std::string, Factors> pairs;
    for (const LazyTensor& t : in_.tensors) {
      const bool a = t.name.ends_with(".lora_a");
      if (!a && !t.name.ends_with(".lora_b"))
        return bad_input("{}: the tensor '{}' is no factor of a LoRA (.lora_a or .lora_b): a whole tensor that replaces the base's has no place in a PEFT LoRA made of "
                         "this file; fold it into the base by llama.cpp's llama-export-lora", what_, t.name.substr(0, 200));
      Factors& f = pairs[t.name.substr(0, t.name.size() - 7)];
      (a ? f.a : f.b) = &t;
    }
    if (pairs.empty()) return bad_input("{}: it has no tensors", what_);
    for (const auto& [name, f] : pairs) INGOT_TRY(add(name, f));
    out_.path = in_.path, out_.format = in_.format, out_.naming = "peft";
    out_.tensors = std::move(tensors_);
    out_.files["adapter_config.json"] = config();
    return std::move(out_);
  }

 private:
  Status read_kind() {
    if (const std::string kind = text_of(in_, "adapter.type"); kind != "lora")
      return bad_input("{}: its adapter.type is '{}', expected 'lora'; ingot writes LoRA adapters for PEFT", what_, kind.substr(0, 100));
    const MetaValue* alpha = in_.meta("adapter.lora.alpha");
    const auto number = alpha ? meta_number(*alpha) : std::nullopt;
    if (!number || !number->is_number() || !(std::fabs(number->get<double>()) <= 0x1p53)) return bad_input("{}: it has no number 'adapter.lora.alpha', by which the product is scaled", what_);
    alpha_ = *number;
    if (in_.meta("adapter.alora.invocation_tokens"))
      return bad_input("{}: it is an activated LoRA (adapter.alora.invocation_tokens), which acts on some tokens only; ingot does not write those for PEFT", what_);
    return {};
  }

  Status find_class() {
    const std::string name = text_of(in_, "general.architecture");
    if (base_.is_object()) {
      INGOT_ASSIGN(arch_, find_architecture(base_, "reading the base's config.json"));
      if (arch_->name != name)
        return bad_input("{}: it is for the architecture '{}', the base's config.json says {}, which is '{}'; give the base that it was made for", what_, name.substr(0, 100),
                         arch_->classes[0], arch_->name);
      INGOT_ASSIGN(params_, config_params(*arch_, with_defaults(*arch_, base_), "reading the base's config.json"));
      return {};
    }
    arch_ = find_architecture_by_name(name);
    return arch_ ? Status() : bad_input("{}: its architecture is '{}', whose names of tensors ingot does not know (ingot list architectures)", what_, name.substr(0, 100));
  }

  Status add(const std::string& name, const Factors& f) {
    if (!f.a || !f.b) return bad_input("{}: of '{}' there is only '.lora_{}'; the file is incomplete", what_, name.substr(0, 200), f.a ? 'a' : 'b');
    const auto mapped = map_from_gguf(*arch_, name);
    if (!mapped) return bad_input("{}: '{}' is none of the architecture {}", what_, name.substr(0, 200), arch_->name);
    const TensorRule& rule = *mapped->rule;
    if (rule.hf.size() > 1 || rule.gguf.size() > 1 || rule.per_expert() || rule.transpose || !rule.regroup.empty())
      return bad_input("{}: '{}' is of a weight that {} has in another form ('{}'), so that its factors are none of PEFT's", what_, name, arch_->classes[0], mapped->name);
    const bool embedding = rule.role == "embedding";
    const Shape a = f.a->spec().shape, b = f.b->spec().shape;
    const int64_t r = a.rank == 2 ? a[embedding ? 1 : 0] : 0;
    if (a.rank != 2 || b.rank != 2 || r < 1 || b[1] != r)
      return bad_input("{}: '{}' has the factors {} and {}, expected [r, in] and [out, r] of one r", what_, name, to_string(a), to_string(b));
    if (base_.is_object()) {
      INGOT_ASSIGN(const Shape whole, shape_of(rule.hf_shape(0), params_, mapped->name));
      const int64_t rows = embedding ? a[0] : b[0], columns = embedding ? b[0] : a[1];
      if (whole.rank != 2 || whole[0] != rows || whole[1] != columns)
        return bad_input("{}: '{}' is for a weight of {} x {}, by the base's config.json it is {}; give the base that it was made for", what_, name, rows, columns,
                         to_string(whole));
    }
    INGOT_ASSIGN(NodePtr down, plain(*f.a));
    INGOT_ASSIGN(NodePtr up, plain(*f.b));
    if (embedding) {
      INGOT_ASSIGN(down, transpose(std::move(down)));
    }
    if (!rule.permute.empty()) {
      if (!base_.is_object())
        return bad_input("{}: llama.cpp has the rows of '{}' in another order, by heads, of which the file does not tell the number; give the directory of the base: "
                         "--config-from DIR", what_, name);
      INGOT_ASSIGN(up, permute_rope(std::move(up), params_.at(rule.permute), RopeOrder::kToHalves));
    }
    const std::string module = mapped->name.substr(0, mapped->name.rfind('.'));
    tensors_.push_back({kPrefix + module + (embedding ? ".lora_embedding_A" : ".lora_A.weight"), std::move(down)});
    tensors_.push_back({kPrefix + module + (embedding ? ".lora_embedding_B" : ".lora_B.weight"), std::move(up)});
    ranks_[module] = r;
    return {};
  }

  static Result<NodePtr> plain(const LazyTensor& t) { return is_block_type(t.spec().type) ? cast(t.name, t.node, DType::kF16) : Result<NodePtr>(t.node); }

  // The rank that most modules have; others stand in rank_pattern. alpha / r is llama.cpp's scale as well as PEFT's.
  int64_t usual_rank() const {
    std::map<int64_t, size_t> counts;
    for (const auto& [module, r] : ranks_) ++counts[r];
    return std::max_element(counts.begin(), counts.end(), [](const auto& x, const auto& y) { return x.second < y.second; })->first;
  }

  // By their last names where all layers have them, else in full: PEFT takes a name's end for each module that has it.
  std::vector<std::string> targets() const {
    std::map<std::string, std::set<std::string>> layers;
    std::set<std::string> all;
    for (const auto& [module, r] : ranks_) {
      const size_t from = module.find(".layers."), to = from == std::string::npos ? from : module.find('.', from + 8);
      const std::string layer = from == std::string::npos ? "" : module.substr(from + 8, to - from - 8);
      layers[module.substr(module.rfind('.') + 1)].insert(layer);
      if (!layer.empty()) all.insert(layer);
    }
    const size_t count = base_.is_object() ? static_cast<size_t>(params_.at("layers")) : all.size();
    std::vector<std::string> out;
    for (const auto& [module, r] : ranks_) {
      const std::string last = module.substr(module.rfind('.') + 1);
      const bool everywhere = layers[last].size() == (layers[last].contains("") ? 1 : count);
      if (const std::string& target = everywhere ? last : module; std::find(out.begin(), out.end(), target) == out.end()) out.push_back(target);
    }
    return out;
  }

  std::string base_name() const {
    if (!base_name_.empty()) return base_name_;
    constexpr std::string_view kHub = "https://huggingface.co/";
    const std::string url = text_of(in_, "general.base_model.0.repo_url");
    return url.starts_with(kHub) ? url.substr(kHub.size()) : url;
  }

  // As LoraConfig.save_pretrained() of PEFT 0.21 writes it.
  std::string config() const {
    const int64_t usual = usual_rank();
    OrderedJson ranks = OrderedJson::object();
    for (const auto& [module, r] : ranks_)
      if (r != usual) ranks[module] = r;
    const std::string base = base_name();
    const double whole = std::trunc(alpha_);
    OrderedJson j = {{"alora_invocation_tokens", nullptr}, {"alpha_pattern", OrderedJson::object()}, {"arrow_config", nullptr}, {"auto_mapping", nullptr},
                     {"base_model_name_or_path", base.empty() ? OrderedJson() : OrderedJson(base)}, {"bias", "none"}, {"corda_config", nullptr},
                     {"ensure_weight_tying", false}, {"eva_config", nullptr}, {"exclude_modules", nullptr}, {"fan_in_fan_out", false}, {"inference_mode", true},
                     {"init_lora_weights", true}, {"kasa_config", nullptr}, {"layer_replication", nullptr}, {"layers_pattern", nullptr}, {"layers_to_transform", nullptr},
                     {"loftq_config", OrderedJson::object()}, {"lora_alpha", whole == alpha_ ? OrderedJson(static_cast<int64_t>(alpha_)) : OrderedJson(alpha_)},
                     {"lora_bias", false}, {"lora_dropout", 0.0}, {"lora_ga_config", nullptr}, {"megatron_config", nullptr}, {"megatron_core", "megatron.core"},
                     {"modules_to_save", nullptr}, {"monteclora_config", nullptr}, {"peft_type", "LORA"}, {"peft_version", "0.21.2"}, {"qalora_group_size", 16},
                     {"r", usual}, {"rank_pattern", ranks}, {"revision", nullptr}, {"target_modules", targets()}, {"target_parameters", nullptr},
                     {"task_type", "CAUSAL_LM"}, {"trainable_token_indices", nullptr}, {"use_bdlora", nullptr}, {"use_dora", false}, {"use_qalora", false},
                     {"use_rslora", false}, {"velora_config", nullptr}};
    std::string text = json_text(j);
    if (text.ends_with('\n')) text.pop_back();  // PEFT writes none
    return text;
  }

  const Artifact& in_;
  const Json& base_;
  const std::string& base_name_;
  const std::string what_ = "converting " + in_.path;
  const Architecture* arch_ = nullptr;
  Params params_;
  double alpha_ = 0;
  std::vector<LazyTensor> tensors_;
  std::map<std::string, int64_t> ranks_;  // by module
  Artifact out_;
};

}  // namespace

bool is_gguf_adapter(const Artifact& a) { return a.naming == "gguf" && text_of(a, "general.type") == "adapter"; }

Result<Artifact> gguf_lora_to_peft(const Artifact& gguf, const Json& base, const std::string& base_name) { return Maker(gguf, base, base_name).run(); }

}  // namespace ingot::transform
