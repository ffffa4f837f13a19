#include "transform/gguf_check.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

#include "formats/gguf.h"
#include "model/model_config.h"
#include "transform/gguf_rope.h"
#include "transform/layers.h"

namespace ingot::transform {
namespace {

constexpr size_t kMaxFaults = 20;
constexpr int64_t kMost = UINT32_MAX;  // of a count or a length
// Params that are in no tensor's shape, and keys of their own.
constexpr std::string_view kShapeless[] = {"rope_dim", "experts_used"};
bool in_shapes(std::string_view param) { return std::find(std::begin(kShapeless), std::end(kShapeless), param) == std::end(kShapeless); }

// The numbers of a key: one, or one for each layer.
struct Numbers {
  std::vector<int64_t> values;
  int64_t at(int64_t layer) const {
    return values.size() == 1 ? values[0] : layer < static_cast<int64_t>(values.size()) ? values[static_cast<size_t>(layer)] : 0;
  }
  bool per_layer() const { return values.size() > 1; }
};

std::optional<int64_t> whole(double v) {
  if (!(v >= 0) || v > static_cast<double>(kMost) || v != std::floor(v)) return std::nullopt;
  return static_cast<int64_t>(v);
}

std::optional<int64_t> whole(const MetaValue& m) { return count_of(m); }

// Nothing: it is no whole number, nor a list of them.
std::optional<Numbers> numbers(const MetaValue& m) {
  Numbers out;
  const auto take = [&](const auto& list) {
    for (const auto& x : list) {
      const auto n = whole(x);
      if (!n) return false;
      out.values.push_back(*n);
    }
    return !out.values.empty();
  };
  const bool ok = std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, MetaArray> || std::is_same_v<T, std::vector<int32_t>> || std::is_same_v<T, std::vector<uint32_t>>)
          return take(v);
        else return take(std::vector<MetaValue>{m});
      },
      m.v);
  return ok ? std::optional<Numbers>(std::move(out)) : std::nullopt;
}

// What was found, for a message.
std::string shown(const MetaValue& m) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_arithmetic_v<T>) return fmt::format("{}", v);
        else if constexpr (std::is_same_v<T, std::string>) return fmt::format("'{}'", v.substr(0, 40));
        else return fmt::format("a list of {}", v.size());
      },
      m.v);
}

bool has_experts(const Artifact& a) {
  const std::string* arch = meta_string(a, "general.architecture");
  const MetaValue* m = arch ? a.meta(*arch + ".expert_count") : nullptr;
  const auto experts = m ? numbers(*m) : std::nullopt;
  return experts && experts->at(0) > 0;
}

// As ggml compares them: leading dimensions of 1 are none.
bool same_shape(const Shape& a, const Shape& b) {
  int i = 0, j = 0;
  while (i < a.rank && a[i] == 1) ++i;
  while (j < b.rank && b[j] == 1) ++j;
  if (a.rank - i != b.rank - j) return false;
  for (; i < a.rank; ++i, ++j)
    if (a[i] != b[j]) return false;
  return true;
}

class Examiner {
 public:
  explicit Examiner(const Artifact& a) : a_(a) {
    for (const auto& t : a.tensors) tensors_.emplace(t.name, &t);
  }

  GgufReport run() {
    const std::string* arch = meta_string(a_, "general.architecture");
    if (!arch) {
      fault("there is no general.architecture in its metadata, which every model has");
      return std::move(report_);
    }
    prefix_ = *arch + ".";
    check_layers();
    check_vocabulary();
    const std::string* type = meta_string(a_, "general.type");
    if (!a_.tensors.empty() && report_.faults.empty() && (!type || *type == "model"))
      if (const Architecture* known = architecture_of(a_)) check_architecture(*known);
    return std::move(report_);
  }

  struct Value {
    int64_t n = 0;
    std::string text;  // "llama.attention.head_count 8"
  };
  std::optional<Value> param(const Architecture& arch, const std::string& name, int64_t layer);

 private:
  template <class... A>
  void fault(fmt::format_string<A...> f, A&&... args) {
    if (report_.faults.size() < kMaxFaults) report_.faults.push_back(fmt::format(f, std::forward<A>(args)...));
  }
  const LazyTensor* find(const std::string& name) const {
    auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : it->second;
  }
  // Of "<architecture>.<key>"; a value that is no number is a fault.
  std::optional<Numbers> number(const std::string& key) {
    const MetaValue* m = a_.meta(key);
    if (!m) return std::nullopt;
    auto n = numbers(*m);
    if (!n && told_.insert(key).second) fault("{} is {}, expected a whole number from 0 to {}", key, shown(*m), kMost);
    return n;
  }

  void check_layers();
  void check_vocabulary();
  void check_architecture(const Architecture& arch);
  std::optional<Value> path_value(const Architecture& arch, const std::string& path, int64_t layer);
  std::string path_text(const Architecture& arch, const std::string& path) const;
  void check_agreement(const Architecture& arch);
  void check_tensor(const std::string& name, bool required, const std::vector<std::string>& shape, const Architecture& arch, int64_t layer);

  const Artifact& a_;
  std::string prefix_;
  std::unordered_map<std::string, const LazyTensor*> tensors_;
  std::map<std::string, std::optional<Numbers>> read_;  // keys of the architecture
  std::set<std::string> told_;  // keys that are no numbers
  GgufReport report_;
};

// Layers that the metadata counts and layers that tensors are in.
void Examiner::check_layers() {
  const auto count = number(prefix_ + "block_count");
  if (!count || a_.tensors.empty()) return;
  const int64_t n = count->at(0);
  std::set<int64_t> found;
  for (const auto& t : a_.tensors) {
    const int64_t layer = layer_of(t.name);
    if (layer < 0) continue;
    if (layer >= n)
      return fault("the tensor '{}' is in layer {}, but {}block_count says {} layers (0 to {})", t.name, layer, prefix_, n, n - 1);
    found.insert(layer);
  }
  if (found.empty() || static_cast<int64_t>(found.size()) == n) return;
  // Some architectures have layers without any weight: lists with a number for each layer tell.
  for (const char* key : {"attention.head_count", "feed_forward_length"})
    if (const MetaValue* m = a_.meta(prefix_ + key))
      if (const auto list = numbers(*m); list && list->per_layer()) return;
  int64_t missing = 0;
  while (found.count(missing)) ++missing;
  fault("{}block_count says {} layers, but the file has tensors of {} and none of layer {}; it is not whole", prefix_, n, found.size(),
        missing);
}

// Rows of the embedding and tokens.
void Examiner::check_vocabulary() {
  const MetaValue* m = a_.meta("tokenizer.ggml.tokens");
  const auto* tokens = m ? std::get_if<std::vector<std::string>>(&m->v) : nullptr;
  if (m && !tokens) return fault("tokenizer.ggml.tokens is no list of texts");
  if (const std::string* model = meta_string(a_, "tokenizer.ggml.model"); tokens && model && *model == "gpt2" && !a_.meta("tokenizer.ggml.merges"))
    report_.warnings.push_back("tokenizer.ggml.model is 'gpt2', but there is no tokenizer.ggml.merges, without which llama.cpp does not load the file: convert the model "
                               "anew, or take the key from another file of it");
  const auto listed = [&](const char* key, size_t n) {
    if (tokens && n != tokens->size()) fault("{} has {} entries for {} tokens", key, n, tokens->size());
  };
  if (const MetaValue* s = a_.meta("tokenizer.ggml.scores"))
    if (const auto* list = std::get_if<std::vector<float>>(&s->v)) listed("tokenizer.ggml.scores", list->size());
  if (const MetaValue* s = a_.meta("tokenizer.ggml.token_type"))
    if (const auto* list = std::get_if<std::vector<int32_t>>(&s->v)) listed("tokenizer.ggml.token_type", list->size());
  for (const auto& [key, value] : a_.metadata) {
    if (!tokens || !key.starts_with("tokenizer.ggml.") || !key.ends_with("_token_id") || report_.token_faults.size() == kMaxFaults) continue;
    if (const auto id = whole(value); !id || *id >= static_cast<int64_t>(tokens->size()))
      report_.token_faults.push_back(fmt::format("{} is {}, expected an id of the {} tokens", key, shown(value), tokens->size()));
  }
  const LazyTensor* e = find("token_embd.weight");
  if (!e) return;
  const Shape shape = e->spec().shape;
  const auto hidden = number(prefix_ + "embedding_length"), vocabulary = number(prefix_ + "vocab_size");
  if (shape.rank != 2) return fault("the tensor 'token_embd.weight' is {}, expected rows of one token each", to_string(shape));
  if (hidden && shape[1] != hidden->at(0))
    fault("the tensor 'token_embd.weight' is {}, but {}embedding_length says rows of {}", to_string(shape), prefix_, hidden->at(0));
  if (!tokens) return;
  const auto n = static_cast<int64_t>(tokens->size());
  if (shape[0] < n)
    fault("the tokenizer has {} tokens, but 'token_embd.weight' only {} rows; they are not of one model", n, shape[0]);
  else if (shape[0] > n && vocabulary && vocabulary->at(0) != shape[0])
    fault("'token_embd.weight' has {} rows for the tokenizer's {} tokens ({}vocab_size says {}); they are not of one model", shape[0], n,
          prefix_, vocabulary->at(0));
  else if (shape[0] > n)
    report_.warnings.push_back(fmt::format("'token_embd.weight' has {} rows for the tokenizer's {} tokens: llama.cpp loads only files with "
                                           "as many rows as tokens",
                                           shape[0], n));
}

// What the metadata says of a number that config.json calls `path`: the key that is made from it.
std::optional<Examiner::Value> Examiner::path_value(const Architecture& arch, const std::string& path, int64_t layer) {
  std::vector<std::optional<double>> values;
  std::string told;
  for (const auto& key : path_keys(path)) {
    values.emplace_back();
    for (const auto& r : arch.metadata) {
      if (r.type != "u32" || r.from.empty() || r.from[0] != key) continue;
      auto it = read_.find(r.key);
      if (it == read_.end()) it = read_.emplace(r.key, number(r.key)).first;
      if (!it->second) break;
      values.back() = static_cast<double>(it->second->at(layer));
      told += fmt::format("{}{} {}", told.empty() ? "" : " / ", r.key, *values.back());
      break;
    }
  }
  const auto v = ingot::path_value(path, values);
  const auto n = v ? whole(*v) : std::nullopt;
  return n ? std::optional<Value>({*n, told}) : std::nullopt;
}

// The key of a path and what it holds, for a message: "llama.embedding_length (256) / llama.attention.head_count (12), whole".
std::string Examiner::path_text(const Architecture& arch, const std::string& path) const {
  std::string out;
  const auto keys = path_keys(path);
  for (const auto& key : keys) {
    std::string one = key;
    for (const auto& r : arch.metadata)
      if (r.type == "u32" && !r.from.empty() && r.from[0] == key) {
        const MetaValue* m = a_.meta(r.key);
        one = r.key + (m ? " (" + shown(*m) + ")" : " (absent)");
        break;
      }
    out += (out.empty() ? "" : " / ") + one;
  }
  return out + (keys.size() > 1 ? ", a whole number" : "");
}

std::optional<Examiner::Value> Examiner::param(const Architecture& arch, const std::string& name, int64_t layer) {
  if (name == "vocab") {  // rows against tokens: check_vocabulary()
    const LazyTensor* e = find("token_embd.weight");
    return e ? std::optional<Value>({e->spec().shape[0], "rows of token_embd.weight"}) : std::nullopt;
  }
  const auto it = arch.params.find(name);
  if (it == arch.params.end()) return std::nullopt;
  for (const auto& path : it->second)
    if (auto v = path_value(arch, path, layer)) return v;
  return std::nullopt;
}

// Keys that are made from one number of config.json hold one number.
void Examiner::check_agreement(const Architecture& arch) {
  std::map<std::string, std::pair<std::string, int64_t>> first;
  for (const auto& r : arch.metadata) {
    if (r.type != "u32" || r.from.empty()) continue;
    const auto n = number(r.key);
    if (!n || n->per_layer() || r.key == prefix_ + "vocab_size") continue;
    if (n->at(0) == 0) fault("{} is 0, expected at least 1", r.key);
    const auto [it, fresh] = first.try_emplace(r.from[0], r.key, n->at(0));
    if (!fresh && it->second.second != n->at(0))
      fault("{} is {} and {} is {}, expected the same number", it->second.first, it->second.second, r.key, n->at(0));
  }
}

void Examiner::check_tensor(const std::string& name, bool required, const std::vector<std::string>& shape, const Architecture& arch,
                            int64_t layer) {
  const LazyTensor* t = find(name);
  if (!t) {
    if (required) fault("the tensor '{}' is missing; the file is not whole", name);
    return;
  }
  Shape want;
  std::string why;
  for (const auto& e : shape) {
    const auto n = extent(e, [&](const std::string& name) -> std::optional<int64_t> {
      const auto v = param(arch, name, layer);
      if (!v) return std::nullopt;
      if (why.find(v->text) == std::string::npos) why += (why.empty() ? "" : ", ") + v->text;
      return v->n;
    });
    if (!n) return;  // what is missing was told
    want.push_back(*n);
  }
  if (!same_shape(t->spec().shape, want))
    fault("the tensor '{}' is {}, but its metadata makes it {} ({})", name, to_string(t->spec().shape), to_string(want), why);
}

void Examiner::check_architecture(const Architecture& arch) {
  check_agreement(arch);
  std::map<std::string, Value> first;
  for (const auto& [name, from] : arch.params) {
    const auto v = param(arch, name, 0);
    if (v) {
      first[name] = *v;
    } else if (name != "vocab" && in_shapes(name)) {
      std::string expected;
      for (const auto& path : from) expected += (expected.empty() ? "" : ", or ") + path_text(arch, path);
      fault("its metadata does not say {}; expected {}", name, expected);
    }
  }
  for (const auto& r : arch.metadata)
    for (const auto& [name, from] : arch.params) {
      const MetaValue* m = r.from == from ? a_.meta(r.key) : nullptr;
      const auto n = m ? numbers(*m) : std::nullopt;
      if (in_shapes(name) && n && !n->per_layer() && first.count(name) && n->at(0) != first[name].n && report_.faults.empty())
        fault("{} is {}, but its metadata makes it {} ({})", r.key, n->at(0), first[name].n, first[name].text);
    }
  if (!report_.faults.empty()) return;
  const int64_t layers = first.count("layers") ? first["layers"].n : 0;
  if (layers > static_cast<int64_t>(a_.tensors.size()))
    return fault("{}block_count says {} layers, but the file has only {} tensors; it is not whole", prefix_, layers, a_.tensors.size());
  for (int64_t i = 0; i < layers; ++i) {
    const auto heads = param(arch, "heads", i), kv = param(arch, "kv_heads", i);
    if (heads && kv && (heads->n == 0 || kv->n == 0 || heads->n % kv->n != 0))
      return fault("layer {} has {} and {}, expected a multiple of the latter", i, heads->text, kv->text);
  }
  for (const char* name : kRopeFactors) {
    const LazyTensor* factors = find(name);
    if (!factors) continue;
    const auto turned = number(prefix_ + "rope.dimension_count");
    const int64_t want = (turned ? turned->at(0) : first["head_dim"].n) / 2;
    if (!same_shape(factors->spec().shape, {want}))
      fault("the tensor '{}' is {}, expected one number for each of {} pairs of a head's elements", name, to_string(factors->spec().shape), want);
  }
  const bool mixture = has_experts(a_), known = mixture == (arch.params.count("experts") > 0);
  for (const auto& r : arch.tensors) {
    if (r.alternative) continue;
    const int64_t n = r.per_layer() ? layers : 1;
    for (size_t k = 0; k < r.gguf.size(); ++k) {
      const std::string& gguf = r.gguf[k];
      const bool ffn = gguf.find(".ffn_") != std::string::npos && gguf.find("norm") == std::string::npos;
      if (ffn && !known) continue;  // experts have tensors of their own
      const bool part = gguf.find(".attn_q.") != std::string::npos || gguf.find(".attn_k.") != std::string::npos || gguf.find(".attn_v.") != std::string::npos;
      for (int64_t i = 0; i < n && report_.faults.size() < kMaxFaults; ++i) {
        const bool fused = part && find(fmt::format("blk.{}.attn_qkv.weight", i));
        check_tensor(expand(gguf, static_cast<int>(i)), !r.optional && r.role != "output" && !fused, r.gguf_shape(k), arch, i);
      }
    }
  }
}

// Of a command that needs more than the file is.
Error not_a_model(const Artifact& gguf, const std::string& why) { return bad_input("using {} as a model: {}", gguf.path, why); }

}  // namespace

std::optional<int64_t> count_of(const MetaValue& value) {
  return std::visit(
      []<class T>(const T& v) -> std::optional<int64_t> {
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) return whole(static_cast<double>(v));
        else return std::nullopt;
      },
      value.v);
}

const Architecture* architecture_of(const Artifact& gguf) {
  const std::string* name = meta_string(gguf, "general.architecture");
  return name ? find_architecture_by_name(*name, has_experts(gguf)) : nullptr;
}

MetadataParams metadata_params(const Artifact& gguf, const Architecture& arch) {
  return [examiner = std::make_shared<Examiner>(gguf), &arch](const std::string& param, int64_t layer) {
    const auto v = examiner->param(arch, param, std::max<int64_t>(layer, 0));
    return v ? std::optional<int64_t>(v->n) : std::nullopt;
  };
}

GgufReport examine_gguf(const Artifact& gguf) { return Examiner(gguf).run(); }

Status check_gguf(const Artifact& gguf, GgufUse use) {
  if (const std::string* type = meta_string(gguf, "general.type"))
    if (*type == "adapter" || *type == "imatrix")
      return not_a_model(gguf, fmt::format("its general.type is '{}', expected 'model'", *type));
  if (gguf.tensors.empty() && use == GgufUse::kWeights) return not_a_model(gguf, "it has no tensors; it is a vocabulary alone");
  const GgufReport r = examine_gguf(gguf);
  if (r.faults.empty()) return {};
  return not_a_model(gguf, r.faults.size() == 1 ? r.faults[0]
                                                 : fmt::format("{} ('ingot inspect' tells {} more)", r.faults[0], r.faults.size() - 1));
}

}  // namespace ingot::transform
