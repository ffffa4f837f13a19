#include "transform/quantize.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "formats/gguf.h"
#include "formats/gguf_scales.h"
#include "formats/hf_weights.h"
#include "quant/codec.h"
#include "transform/layers.h"
#include "transform/nvfp4_scale.h"
#include "transform/pattern.h"

namespace ingot::transform {
namespace {

enum class Category { attn_v, attn_k, attn_q, attn_output, ffn_up, ffn_gate, ffn_down, output, token_embd, other };

// What a rule's condition looks at.
struct Place {
  int64_t i = 0, n = 0;  // the tensor's position among those of its category, and their number
  int64_t experts = 0;
  int64_t matrices = 1;  // of the tensor
  int64_t shared = 1;  // attention heads that share a head of k and v
  bool imatrix = false;
};

// Conditions of mixes.def. All divisions are of integers.
bool always(const Place&) { return true; }
bool first_two(const Place& p) { return p.i < 2; }
bool first_four(const Place& p) { return p.i < 4; }
bool first_sixteenth(const Place& p) { return p.i < p.n / 16; }
bool first_eighth(const Place& p) { return p.i < p.n / 8; }
bool first_eighth_with_imatrix(const Place& p) { return p.imatrix && first_eighth(p); }
bool without_imatrix(const Place& p) { return !p.imatrix; }
bool first_eighth_without_imatrix(const Place& p) { return !p.imatrix && first_eighth(p); }
bool inner(const Place& p) { return p.i >= p.n / 8 && p.i < 7 * p.n / 8; }
bool more_bits(const Place& p) {
  return p.i < p.n / 8 || p.i >= 7 * p.n / 8 || (p.i - p.n / 8) % 3 == 2;
}
bool eight_experts(const Place& p) { return p.experts == 8; }
bool four_experts(const Place& p) { return p.experts >= 4; }
bool more_bits_of_eight_experts(const Place& p) { return p.experts == 8 && more_bits(p); }
bool other_than_eight_experts(const Place& p) { return p.experts != 8; }
bool of_experts(const Place& p) { return p.matrices > 1; }
bool shared_by_four(const Place& p) { return p.shared >= 4; }

struct Rule {
  std::string_view mix;
  Category category;
  bool (*when)(const Place&);
  DType type;
};
#define MIX(...)
#define FALLBACK(...)
#define RULE(mix, category, when, type) {#mix, Category::category, when, DType::type},
constexpr Rule kRules[] = {
#include "transform/mixes.def"
    {"", Category::other, always, DType::kF32}};
#undef MIX
#undef RULE
#undef FALLBACK

Category category_of(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (name == "output.weight") return Category::output;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") return Category::token_embd;
  if (has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight")) return Category::attn_v;
  if (has("attn_k.weight")) return Category::attn_k;
  if (has("attn_q.weight")) return Category::attn_q;
  if (has("attn_output.weight")) return Category::attn_output;
  if (has("ffn_up")) return Category::ffn_up;
  if (has("ffn_gate")) return Category::ffn_gate;
  if (has("ffn_down")) return Category::ffn_down;
  return Category::other;
}

// Tensors that are never quantized: vectors, norms, routers, and small tables that llama.cpp reads as floats.
bool may_quantize(const LazyTensor& t, const QuantizeOptions& o) {
  static constexpr std::string_view kKept[] = {
      "_norm.weight",      "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup",          "laurel",
      "per_layer_model_proj", "ssm_conv1d",       "shortconv.conv.weight",   "indexer.k_proj", "indexer.q_proj",
      "time_mix_first",    "time_mix_w",          "time_mix_v0",             "time_mix_v1",    "time_mix_v2",
      "time_mix_a",        "time_mix_g1",         "time_mix_g2",             "time_mix_decay_w1", "time_mix_decay_w2",
      "time_mix_lerp_fused", "attn_rel_b.weight", ".position_embd",          "sam.",           ".rel_pos",
      ".patch_embd",       ".patch_merger"};
  const TensorSpec s = t.spec();
  int dims = 0;  // as ggml counts them: from the first that is not 1
  for (int i = 0; i < s.shape.rank; ++i)
    if (dims || s.shape[i] != 1) ++dims;
  if (dims < 2 || !t.name.ends_with("weight")) return false;
  if (t.name == "position_embd.weight" || t.name == "token_types.weight") return false;
  if (o.leave_output && t.name == "output.weight") return false;
  return std::none_of(std::begin(kKept), std::end(kKept),
                      [&](auto part) { return t.name.find(part) != std::string::npos; });
}

// The mixes whose rules say all that there is to say.
bool very_few_bits(DType base) { return base == DType::kIQ1_S || base == DType::kIQ1_M || base == DType::kIQ2_XXS || base == DType::kIQ2_XS || base == DType::kIQ2_S; }

std::optional<int64_t> meta_int(const Artifact& a, std::string_view suffix) {
  const std::string* name = meta_string(a, "general.architecture");
  const MetaValue* m = name ? a.meta(*name + "." + std::string(suffix)) : nullptr;
  if (!m) return std::nullopt;
  if (auto* v = std::get_if<uint32_t>(&m->v)) return *v;
  if (auto* v = std::get_if<int32_t>(&m->v)) return *v;
  if (auto* v = std::get_if<uint64_t>(&m->v)) return static_cast<int64_t>(*v);
  return std::nullopt;
}

// A type whose blocks fit the rows, for a row that the wanted one does not fit (FALLBACK rows of mixes.def).
DType smaller_block(DType t) {
  struct Row {
    DType wanted, instead;
  };
#define MIX(...)
#define RULE(...)
#define FALLBACK(wanted, instead) {DType::wanted, DType::instead},
  static constexpr Row kRows[] = {
#include "transform/mixes.def"
  };
#undef MIX
#undef RULE
#undef FALLBACK
  for (const auto& r : kRows)
    if (r.wanted == t) return r.instead;
  return t;
}

// The type that each tensor gets, in the artifact's order.
class Chooser {
 public:
  Chooser(const Artifact& a, const FileType& type, const QuantizeOptions& o) : a_(a), type_(type), o_(o) {}

  Result<std::vector<DType>> run() {
    for (const auto& [expression, type] : o_.tensor_types) {
      auto p = Pattern::compile(expression, "--tensor-type");
      if (!p.ok()) return usage("{}", p.error().message);
      patterns_.push_back({std::move(*p), type, expression});
    }
    tied_ = !a_.find("output.weight");
    experts_ = meta_int(a_, "expert_count").value_or(0);
    const auto heads = meta_int(a_, "attention.head_count"), kv = meta_int(a_, "attention.head_count_kv");
    shared_ = heads && kv && *kv > 0 ? *heads / *kv : 1;
    seventy_b_ = meta_int(a_, "block_count") == 80 && heads && kv && *heads != *kv;
    count_places();
    std::vector<DType> out;
    for (size_t i = 0; i < a_.tensors.size(); ++i) {
      INGOT_ASSIGN(DType t, choose(i));
      out.push_back(t);
    }
    for (const auto& [key, f] : fallbacks_) {
      const auto& [cols, wanted, other] = key;
      const std::string others = f.count > 1 ? fmt::format(" (and {} more)", f.count - 1) : "";
      notice("tensor '{}'{} has rows of {} elements, which {} with its blocks of {} cannot hold: it is {}", f.first, others, cols,
             info(wanted).name, info(wanted).block, info(other).name);
    }
    for (const auto& p : patterns_)
      if (!p.used) return usage("--tensor-type '{}' changes nothing: no tensor that can be quantized takes its type from it; 'ingot inspect {}' shows their names", p.expression, a_.path);
    return out;
  }

 private:
  // Positions follow the layer numbers, not the order in the file: with several tensors of a category in a layer
  // (experts) the position is the layer's.
  void count_places() {
    std::array<std::vector<std::pair<int64_t, size_t>>, 10> by_category;
    for (size_t i = 0; i < a_.tensors.size(); ++i)
      by_category[static_cast<size_t>(category_of(a_.tensors[i].name))].emplace_back(layer_of(a_.tensors[i].name), i);
    places_.resize(a_.tensors.size());
    for (auto& list : by_category) {
      std::sort(list.begin(), list.end());
      // Biases share a category with their weights only where names overlap ("ffn_down.bias"): count layers.
      int64_t n = 0;
      for (size_t k = 0; k < list.size(); ++k) {
        if (k && list[k].first != list[k - 1].first) ++n;
        places_[list[k].second].i = n;
      }
      for (const auto& [layer, i] : list) {
        places_[i].n = n + 1;
        places_[i].experts = experts_;
        places_[i].shared = shared_;
        if (const Shape s = a_.tensors[i].spec().shape; s.rank == 3) places_[i].matrices = s[0];
        places_[i].imatrix = o_.imatrix != nullptr;
      }
    }
  }

  Result<DType> choose(size_t index) {
    const LazyTensor& t = a_.tensors[index];
    const TensorSpec spec = t.spec();
    // Nothing of a file of floats stays in blocks, but for what was asked to.
    const bool unpack = is_block_type(spec.type) && !is_block_type(type_.base) && !(o_.leave_output && t.name == "output.weight");
    if (!may_quantize(t, o_)) return unpack ? type_.base : spec.type;
    const Category c = category_of(t.name);
    if (c == Category::token_embd && o_.token_embedding_type) return fit(t, *o_.token_embedding_type);
    if (c == Category::output && o_.output_type) return fit(t, *o_.output_type);
    for (auto& p : patterns_) {
      INGOT_ASSIGN(bool hit, p.pattern.search(t.name));
      if (!hit) continue;
      p.used = true;
      return fit(t, p.type);
    }
    DType type = type_.base;
    if (is_block_type(type) && !o_.pure) type = mixed(t, c, places_[index]);
    return fit(t, type);
  }

  std::optional<DType> ruled(Category c, const Place& p) const {
    for (const auto& r : kRules)
      if (r.mix == type_.name && r.category == c && r.when(p)) return r.type;
    return std::nullopt;
  }

  DType mixed(const LazyTensor& t, Category c, const Place& p) {
    DType type = type_.base;
    if (c == Category::output || (c == Category::token_embd && tied_)) {
      if (o_.output_type) return *o_.output_type;
      if (t.spec().shape.back() % info(type).block != 0) return DType::kQ8_0;
      if (type == DType::kQ8_0) return type;
      return ruled(Category::output, p).value_or(DType::kQ6_K);
    }
    if (const auto ruled_type = ruled(c, p)) type = *ruled_type;
    if (very_few_bits(type_.base)) return type;
    // A 70B shares attn_v between 8 heads, a model of 8 experts between them: more bits there cost little.
    if (c == Category::attn_v && seventy_b_ && (type == DType::kQ3_K || type == DType::kQ4_K)) type = DType::kQ5_K;
    if ((c == Category::attn_v || c == Category::attn_k) && p.experts == 8) type = DType::kQ8_0;
    return type;
  }

  // A type that the rows can be cut into.
  DType fit(const LazyTensor& t, DType type) {
    const int64_t cols = t.spec().shape.back();
    if (cols % info(type).block == 0) return type;
    DType other = smaller_block(type);
    if (cols % info(other).block != 0 || !find_codec(other)) other = DType::kQ8_0;
    if (cols % info(other).block != 0) other = DType::kF16;
    auto& f = fallbacks_[{cols, type, other}];
    if (!f.count++) f.first = t.name;
    return other;
  }

  template <class... A>
  void notice(fmt::format_string<A...> f, A&&... args) {
    if (o_.on_notice) o_.on_notice(fmt::format(f, std::forward<A>(args)...));
  }

  const Artifact& a_;
  const FileType& type_;
  const QuantizeOptions& o_;
  struct TensorType {  // of --tensor-type
    Pattern pattern;
    DType type;
    std::string expression;
    bool used = false;
  };
  std::vector<TensorType> patterns_;
  struct Fallback {
    int count = 0;
    std::string first;
  };
  std::map<std::tuple<int64_t, DType, DType>, Fallback> fallbacks_;  // rows, wanted, instead
  std::vector<Place> places_;
  bool tied_ = false, seventy_b_ = false;
  int64_t experts_ = 0, shared_ = 1;
};

// llama-quantize's, which makes nothing of use without one.
bool needs_imatrix(const std::string& name, DType to, std::string_view mix) {
  const Category c = category_of(name);
  if (c == Category::output || c == Category::token_embd) return false;
  return to == DType::kIQ3_XXS || to == DType::kIQ2_XXS || to == DType::kIQ2_XS || to == DType::kIQ2_S || to == DType::kIQ1_S || to == DType::kIQ1_M || (to == DType::kQ2_K && mix == "Q2_K_S");
}

// That the importance matrix is this model's, and has what the types need.
Status check_importance(const Artifact& a, const FileType& type, const std::vector<DType>& types, const QuantizeOptions& o) {
  static const Importance kNone;
  const Importance& imatrix = o.imatrix ? *o.imatrix : kNone;
  const auto notice = [&](const std::string& text) {
    if (o.on_notice) o.on_notice(text);
  };
  const std::string file = imatrix.files.empty() ? "" : fmt::format("the importance matrix {}", fmt::join(imatrix.files, ", "));
  const auto quoted = [](const std::string& name) { return fmt::format("'{}'", name); };
  std::vector<std::string> strange, missing, needed;
  for (const auto& [name, weights] : imatrix.weights) {
    const LazyTensor* t = a.find(name);
    if (!t) {
      strange.push_back(quoted(name));
      continue;
    }
    const Shape s = t->spec().shape;
    const int64_t matrices = s.rank == 3 ? s[0] : 1;
    if (const int64_t n = static_cast<int64_t>(weights->size()); n != s.back() * matrices && n != s.back())
      return bad_input("quantizing {}: {} has {} values for '{}', whose {} columns{} want {}: it was computed from another model", a.path, file, n, name, s.back(),
                       matrices > 1 ? fmt::format(" in {} matrices", matrices) : "", s.back() * matrices);
  }
  if (o.imatrix && strange.size() == imatrix.weights.size())
    return bad_input("quantizing {}: {} has {} entries, of which none is a tensor of this model: {}; it was computed from another one", a.path, file, strange.size(), some_of(strange));
  if (!strange.empty()) notice(fmt::format("{} has entries of no tensor of {}: {}", file, a.path, some_of(strange)));
  for (size_t i = 0; i < types.size(); ++i) {
    const std::string& name = a.tensors[i].name;
    if (types[i] == a.tensors[i].spec().type || !is_block_type(types[i]) || imatrix.weights.contains(name)) continue;
    if (needs_imatrix(name, types[i], type.name)) needed.push_back(quoted(fmt::format("{} ({})", name, info(types[i]).name)));
    const Category c = category_of(name);
    if (o.imatrix && c != Category::output && c != Category::token_embd && types[i] != DType::kQ8_0) missing.push_back(quoted(name));
  }
  if (!needed.empty())
    return bad_input("quantizing {} to {}: {}: such few bits need an importance matrix{}{}", a.path, type.name, some_of(needed), o.imatrix ? fmt::format(", and {} has no entry of them", file) : "",
                     o.to_give_it.empty() ? "" : fmt::format("; give one with {}", o.to_give_it));
  if (!missing.empty()) notice(fmt::format("{} has no entry of {}: all their columns count alike", file, some_of(missing)));
  if (o.advise && !o.imatrix && is_block_type(type.base) && bits_per_weight(type.base) < 5)
    notice(fmt::format("{} without an importance matrix loses more than with one{}", type.name, o.to_give_it.empty() ? "" : fmt::format("; give it with {}", o.to_give_it)));
  return {};
}

}  // namespace

void set_meta(Artifact* a, const std::string& key, MetaValue value) {
  for (auto& [k, v] : a->metadata)
    if (k == key) {
      v = std::move(value);
      return;
    }
  a->metadata.emplace_back(key, std::move(value));
}

double bits_per_weight(DType t) { return 8.0 * static_cast<double>(info(t).bytes) / static_cast<double>(info(t).block); }

const std::vector<FileType>& file_types() {
#define MIX(name, id, base) {#name, id, DType::base},
#define RULE(...)
#define FALLBACK(...)
  static const std::vector<FileType> all = {
#include "transform/mixes.def"
  };
#undef MIX
#undef RULE
#undef FALLBACK
  return all;
}

Result<FileType> file_type_by_name(std::string_view name) {
  std::string known;
  for (const auto& f : file_types()) {
    if (std::equal(f.name.begin(), f.name.end(), name.begin(), name.end(), [](char a, char b) {
          return a == (b >= 'a' && b <= 'z' ? b - 'a' + 'A' : b);
        }))
      return f;
    known += known.empty() ? "" : " ";
    known += f.name;
  }
  return usage("the file type '{}' is unknown; known are {}", name, known);
}

uint32_t float_file_type(const Artifact& a) {
  Artifact weights;
  for (const auto& t : a.tensors)
    if (t.spec().shape.rank > 1) weights.tensors.push_back(t);
  // The file type whose tensors are all of that type; F32 is the first row.
  const DType main = main_float_type(weights);
  for (const auto& f : file_types())
    if (f.base == main) return f.id;
  return 0;
}

Result<TypePlan> plan_types(const Artifact& gguf, std::string_view file_type, const QuantizeOptions& options) {
  INGOT_ASSIGN(const FileType type, file_type_by_name(file_type));
  TypePlan plan;
  INGOT_ASSIGN(plan.types, Chooser(gguf, type, options).run());
  for (size_t i = 0; i < plan.types.size(); ++i) plan.needs_imatrix = plan.needs_imatrix || needs_imatrix(gguf.tensors[i].name, plan.types[i], type.name);
  return plan;
}

Result<Artifact> quantize_gguf(const Artifact& gguf, std::string_view file_type, const QuantizeOptions& options) {
  INGOT_ASSIGN(const FileType type, file_type_by_name(file_type));
  if (gguf.naming != "gguf")
    return bad_input("quantizing {}: it is {}, expected a GGUF model", gguf.path, gguf.format);
  INGOT_ASSIGN(const auto types, Chooser(gguf, type, options).run());
  INGOT_TRY(check_importance(gguf, type, types, options));
  Artifact out = gguf;
  TiedCast cast;
  size_t unpacked = 0;
  std::vector<std::string> changed;
  std::vector<std::pair<std::string, LazyTensor>> scales;  // and the weights that they stand behind
  for (size_t i = 0; i < gguf.tensors.size(); ++i) {
    const LazyTensor& t = gguf.tensors[i];
    const DType from = t.spec().type;
    if (from == types[i]) continue;
    if (is_block_type(from) && is_block_type(types[i]) && !options.allow_requantize)
      return bad_input("quantizing {}: tensor '{}' is {} already; quantizing it again loses more than once: start from F32, F16 or BF16{}{}",
                       gguf.path, t.name, info(from).name, options.to_allow_it.empty() ? "" : ", ", options.to_allow_it);
    if (is_block_type(from) && !is_block_type(types[i])) ++unpacked;
    CastOptions o{.importance = nullptr, .counts = options.counts, .effort = options.effort};
    if (options.imatrix && is_block_type(types[i]))
      if (auto it = options.imatrix->weights.find(t.name); it != options.imatrix->weights.end()) {
        o.importance = it->second;
        if (!options.imatrix->key.empty()) o.importance_key = fmt::format("{} {}", options.imatrix->key, t.name);
      }
    LazyTensor source = t;
    if (types[i] == DType::kNVFP4 && has_nvfp4_scale(gguf, t.name)) {
      INGOT_ASSIGN(NodePtr floats, cast(t, DType::kF32));
      Nvfp4Scaled scaled = nvfp4_scaled(std::move(floats));
      source.node = std::move(scaled.values);
      scales.push_back({t.name, {gguf_scale_name(t.name), std::move(scaled.scale)}});
    }
    INGOT_ASSIGN(out.tensors.node(i), cast(source, types[i], o));
    changed.push_back(t.name);
  }
  for (const std::string& name : changed) drop_gguf_scales(name, &out);
  if (!scales.empty())
    out.tensors.edit([&](std::vector<LazyTensor>& all) {
      std::vector<LazyTensor> with;
      auto next = scales.begin();
      for (LazyTensor& t : all) {
        const bool scaled = next != scales.end() && next->first == t.name;
        with.push_back(std::move(t));
        if (scaled) with.push_back(std::move((next++)->second));
      }
      all = std::move(with);
    });
  if (unpacked && options.on_notice)
    options.on_notice(fmt::format("{} tensors of {} are quantized: written as floats they keep the values that they have, not those they were "
                                  "made from",
                                  unpacked, gguf.path));
  set_meta(&out, "general.quantization_version", {kQuantizationVersion});
  set_meta(&out, "general.file_type", {type.id});
  if (options.imatrix && is_block_type(type.base)) {
    std::vector<std::string> names;
    for (const std::string& path : options.imatrix->files) names.push_back(path.substr(path.rfind('/') + 1));  // where it lies is the user's affair
    set_meta(&out, "quantize.imatrix.file", {fmt::format("{}", fmt::join(names, ", "))});
    set_meta(&out, "quantize.imatrix.dataset", {options.imatrix->dataset});
    set_meta(&out, "quantize.imatrix.entries_count", {static_cast<uint32_t>(options.imatrix->weights.size())});
    set_meta(&out, "quantize.imatrix.chunks_count", {options.imatrix->chunks});
  }
  for (const auto& [key, value] : options.metadata) set_meta(&out, key, value);
  return out;
}

}  // namespace ingot::transform
