#include "transform/gguf_to_hf.h"

#include <algorithm>

#include "base/memory.h"
#include "formats/gguf_scales.h"
#include "formats/json.h"
#include "quant/decode.h"
#include "tokenizer/json_write.h"
#include "transform/gguf_check.h"
#include "transform/gguf_rope.h"
#include "transform/gguf_vocab.h"
#include "transform/hf_config.h"
#include "transform/rule_nodes.h"

namespace ingot::transform {
namespace {

// What generation_config.json calls the samplers that a file may recommend.
constexpr std::pair<const char*, const char*> kSampling[] = {{"general.sampling.temp", "temperature"},  {"general.sampling.top_k", "top_k"},
                                                             {"general.sampling.top_p", "top_p"},       {"general.sampling.min_p", "min_p"},
                                                             {"general.sampling.penalty_repeat", "repetition_penalty"}};

class Maker {
 public:
  Maker(const Artifact& gguf, const ToHfOptions& options) : in_(gguf), options_(options) {}

  Result<Artifact> run() {
    INGOT_TRY(check_gguf(in_, GgufUse::kWeights));
    INGOT_ASSIGN(const Architecture* arch, hf_architecture(in_));
    auto tensors = hf_tensors(in_, *arch, [this](const LazyTensor& t) { return written(t); }, true);
    if (!tensors.ok()) return std::move(tensors.take_error()).during("converting " + in_.path);
    out_.path = in_.path;
    out_.format = in_.format;
    out_.naming = "hf";
    out_.tensors = *std::move(tensors);
    if (options_.dtype) {
      INGOT_ASSIGN(out_, cast_floats(out_, *options_.dtype, options_.counts));
    }
    INGOT_ASSIGN(HfConfig made, hf_config(in_, *arch));
    for (const std::string& text : made.lost) INGOT_TRY(cannot_say(text));
    INGOT_TRY(add_tokenizer(&made.config));
    out_.files["config.json"] = json_text(made.config);
    return std::move(out_);
  }

 private:
  // Blocks as floats, before anything is moved: rows and columns change places there.
  Result<NodePtr> written(const LazyTensor& t) const {
    const DType type = t.spec().type;
    if (!is_block_type(type)) return t.node;
    if (find_decode(type)) return cast(t.name, t.node, options_.dtype.value_or(DType::kF16), {nullptr, options_.counts});
    return bad_input("the tensor {} is {}, whose values ingot cannot read yet; --keep-blocks writes its blocks as they are", tensor_text(*t.node, t.name), info(type).name);
  }

  Status cannot_say(const std::string& text) {
    if (options_.strict) return bad_input("converting {}: {}. Without --strict this is a notice, and the model is written", in_.path, text);
    if (options_.on_notice) options_.on_notice(fmt::format("{}: {}", in_.path, text));
    return {};
  }

  Status add_tokenizer(OrderedJson* config) {
    if (!in_.meta("tokenizer.ggml.model")) return cannot_say("it has no tokenizer (tokenizer.ggml.model): the directory has none");
    INGOT_ASSIGN(const GgufVocab vocab, gguf_vocab(in_));
    auto made = hf_tokenizer_of(vocab, json_int(Json(*config), "max_position_embeddings").value_or(0));
    if (!made.ok()) return cannot_say(fmt::format("no tokenizer is written: {}", made.error().message));
    for (auto& [name, text] : made->files) out_.files[name] = std::move(text);
    for (const std::string& text : made->notices) INGOT_TRY(cannot_say(text));
    INGOT_ASSIGN(const Tokenizer tokenizer, Tokenizer::from_gguf(vocab));
    // Where generation ends here it ends there: the one that the file calls eos first.
    std::vector<int32_t> ends = tokenizer.end_ids();
    if (vocab.eos) std::stable_partition(ends.begin(), ends.end(), [&](int32_t id) { return id == *vocab.eos; });
    OrderedJson generation = OrderedJson::object();
    for (OrderedJson* j : {config, &generation}) {
      if (const auto bos = tokenizer.bos()) (*j)["bos_token_id"] = *bos;
      if (!ends.empty()) (*j)["eos_token_id"] = ends[0];
      if (vocab.pad) (*j)["pad_token_id"] = *vocab.pad;
    }
    if (ends.size() > 1) generation["eos_token_id"] = ends;
    for (const auto& [key, name] : kSampling)
      if (const MetaValue* m = in_.meta(key))
        if (const auto number = meta_number(*m)) generation[name] = *number, generation["do_sample"] = true;
    out_.files["generation_config.json"] = json_text(generation);
    return {};
  }

  const Artifact& in_;
  const ToHfOptions& options_;
  Artifact out_;
};

}  // namespace

Result<std::vector<LazyTensor>> hf_tensors(const Artifact& gguf, const Architecture& arch, const ReadTensor& read, bool plain) {
  const MetadataParams params = metadata_params(gguf, arch);
  std::vector<LazyTensor> out;
  for (const LazyTensor& t : gguf.tensors) {
    if (is_rope_factors(t.name) || is_gguf_scale(gguf, t.name)) continue;
    const auto mapped = map_from_gguf(arch, t.name);
    if (!mapped) return bad_input("the tensor '{}' is none of the architecture {}", t.name, arch.name);
    const TensorRule& rule = *mapped->rule;
    if (mapped->part > 0) continue;  // it came with the first
    std::vector<NodePtr> parts;
    for (size_t k = 0; k < rule.gguf.size(); ++k) {
      const std::string name = expand(rule.gguf[k], mapped->layer);
      const LazyTensor* part = k ? gguf.find(name) : &t;
      if (!part) return bad_input("there is no '{}' beside '{}'", name, t.name);
      INGOT_ASSIGN(NodePtr node, read(*part));
      parts.push_back(std::move(node));
    }
    auto nodes = to_hf_nodes(rule, std::move(parts), [&](const std::string& param) { return params(param, mapped->layer); });
    if (!nodes.ok()) return std::move(nodes.take_error()).during(fmt::format("the tensor '{}'", t.name));
    for (size_t k = 0; k < nodes->size(); ++k) {
      NodePtr& node = (*nodes)[k];
      if (plain && rule.add != 0) node = add_constant(std::move(node), -rule.add);
      out.push_back({expand(rule.hf[rule.per_expert() ? 0 : k], mapped->layer, static_cast<int>(k)), std::move(node)});
    }
  }
  return out;
}

Result<Artifact> to_hf(const Artifact& gguf, const ToHfOptions& options) {
  return within_memory("converting " + gguf.path, [&] { return Maker(gguf, options).run(); });
}

}  // namespace ingot::transform
