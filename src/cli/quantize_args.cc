// The options of llama-quantize.
#include "cli/quantize_args.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>

#include "cli/metadata_value.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "cli/type_names.h"
#include "formats/formats.h"
#include "transform/gguf_check.h"
#include "transform/layers.h"

namespace ingot::cli {

void QuantizeArgs::declare(Args& a) {
  a.section("Choosing types (as llama-quantize has them)");
  a.flag("--pure", &pure_, "no mix: every matrix gets the type that the file type is named after");
  a.flag("--allow-requantize", &allow_requantize_,
         "quantize from weights that are quantized already (loses more)");
  a.flag("--leave-output-tensor", &leave_output_, "output.weight stays as it is");
  a.text("--output-tensor-type", "T", &output_type_, "type of output.weight");
  a.text("--token-embedding-type", "T", &embedding_type_, "type of token_embd.weight");
  a.list("--tensor-type", "PATTERN=T", &tensor_types_,
         "type of the tensors whose name matches the regular expression; may be repeated, the first that "
         "matches holds");
  a.list("--tensor-type-file", "FILE", &tensor_type_files_, "such words, apart by spaces or lines, from a file");
  a.list("--imatrix", "FILE", &imatrix_, "importance of each column, as llama-imatrix computes it (.gguf or .dat); several are merged");
  a.list("--calibrate", "TEXT", &calibrate_.texts,
         "compute it from this text first, with the model that is quantized, whose weights are read once more for it; a file of text or JSON lines, CATEGORY=FILE, or 'builtin': the mix that ships with ingot; may be repeated");
  a.integer("-c,--ctx|--ctx-size", "N", &calibrate_.length, 8, 1 << 20, "tokens of its windows (default 512)");
  a.integer("--chunks", "N", &calibrate_.chunks, -1, INT32_MAX, "at most so many of them (default: all)");
  a.list("--include-weights", "PART", &include_, "importance only for the tensors whose name has this in it; may be repeated");
  a.list("--exclude-weights", "PART", &exclude_, "no importance for these");
  a.text("--effort", "HOW", &effort_, "how hard to look for the numbers of least error: fast, normal (default) or best, which takes four to five times as long");
  a.list("--prune-layers", "N[,N...]", &prune_, "layers that are left out, by number or as 4-7; the others are numbered anew, and --tensor-type goes by the new names");
  a.list("--override-kv", "KEY=T:VALUE", &override_, "a key of the metadata set; T is int, float, bool or str; may be repeated");
  a.flag("--keep-split", &keep_split_, "a file for each of the source's that has tensors left, with those that begin in it");
  a.text("--max-buffer-size", "MiB", &buffer_, "as --memory; a number alone counts MiB");
}

namespace {

Result<std::pair<std::string, DType>> tensor_type(const std::string& given) {
  const size_t at = given.rfind('=');
  if (at == std::string::npos || at == 0 || at + 1 == given.size())
    return usage("--tensor-type '{}': write it as PATTERN=T, like 'attn_v=Q6_K' or 'blk\\.[0-3]\\.ffn_down=Q5_K'", given);
  INGOT_ASSIGN(const DType t, read_element_type("--tensor-type", given.substr(at + 1)));
  return std::pair(given.substr(0, at), t);
}

// -1: none, or none of a layer.
int64_t number(std::string_view digits) {
  constexpr int64_t kMost = 1 << 20;
  int64_t n = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
  return error == std::errc() && end == digits.data() + digits.size() && n <= kMost ? n : -1;
}

// "3", "4-7", with commas between.
Result<std::set<int64_t>> read_layers(const std::vector<std::string>& given) {
  std::set<int64_t> out;
  for (const std::string& words : given) {
    const auto wrong = [&] { return usage("--prune-layers {}: write numbers of layers with commas between, like 12,13 or 12-15", words); };
    std::istringstream list(words);
    for (std::string word; std::getline(list, word, ',');) {
      const size_t dash = word.find('-');
      const int64_t first = number(word.substr(0, dash)), last = dash == std::string::npos ? first : number(word.substr(dash + 1));
      if (first < 0 || last < first) return wrong();
      for (int64_t n = first; n <= last; ++n) out.insert(n);
    }
    if (words.empty() || words.back() == ',') return wrong();
  }
  return out;
}

// KEY=TYPE:VALUE as llama.cpp's tools have it. The key keeps the type that it has in the file, as long as it is of that kind; else an integer is a u32 where it can be.
Result<std::pair<std::string, MetaValue>> read_override(const Artifact& gguf, const std::string& given) {
  const size_t equals = given.find('='), colon = given.find(':', equals == std::string::npos ? 0 : equals);
  const std::string kind = equals == std::string::npos || colon == std::string::npos ? "" : given.substr(equals + 1, colon - equals - 1);
  constexpr std::string_view kKinds[] = {"int", "float", "bool", "str"};
  if (equals == 0 || std::find(std::begin(kKinds), std::end(kKinds), kind) == std::end(kKinds))
    return usage("--override-kv {}: write it as KEY=TYPE:VALUE with a TYPE of int, float, bool or str, like tokenizer.ggml.add_bos_token=bool:false", given);
  const std::string key = given.substr(0, equals), text = given.substr(colon + 1);
  if (key.starts_with("split.") || key == "general.alignment") return usage("--override-kv {}: the key is of the files that are written, not of the model", given);
  const MetaValue* old = gguf.meta(key);
  const auto is = [&](const auto& v) -> std::string_view {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, bool>) return "bool";
    else if constexpr (std::is_same_v<T, std::string>) return "str";
    else if constexpr (std::is_floating_point_v<T>) return "float";
    else if constexpr (std::is_integral_v<T>) return "int";
    else return "a list";
  };
  if (old)
    if (const std::string_view there = std::visit(is, old->v); there != kind)
      return usage("--override-kv {}: the key is {} in {}, not {}; 'ingot gguf edit' changes types", given, there, gguf.path, kind);
  // The type is said in front of the value, so that nothing in the value is taken for one.
  if (!old && kind == "int" && text.find(':') != std::string::npos) return usage("--override-kv {}: '{}' is no int", given, text);
  const std::string typed = old ? fmt::format("{}:{}", metadata_type(*old), text) : kind == "int" ? text : kind == "float" ? "f32:" + text : kind + ":" + text;
  auto v = metadata_value("--override-kv", key, typed, nullptr);
  if (!v.ok() || std::visit(is, v->v) != kind) return usage("--override-kv {}: '{}' is no {}{}", given, text, kind, old ? ", or none that the key's type holds" : "");
  return std::pair(key, *std::move(v));
}

}  // namespace

Result<Artifact> QuantizeArgs::prepared(Context& c, Artifact gguf, transform::QuantizeOptions* options, transform::Operations* done) const {
  if (!prune_.empty()) {
    INGOT_ASSIGN(const std::set<int64_t> layers, read_layers(prune_));
    const size_t told = gguf.notices.size();
    const std::vector<std::string> before = transform::examine_gguf(gguf).faults;
    INGOT_ASSIGN(gguf, transform::prune_layers(gguf, layers));
    for (const std::string& fault : transform::examine_gguf(gguf).faults)
      if (std::find(before.begin(), before.end(), fault) == before.end()) return bad_input("pruning layers of {}: what stays contradicts itself: {}", gguf.path, fault);
    for (size_t i = told; i < gguf.notices.size(); ++i) c.report.warning(gguf.notices[i]);
    if (options->imatrix) options->imatrix = std::make_shared<transform::Importance>(transform::without_layers(*options->imatrix, layers));
    done->add("prune_layers", {{"layers", layers}}, gguf);
  }
  if (override_.empty()) return gguf;
  const std::vector<std::string> before = transform::examine_gguf(gguf).faults;
  for (const std::string& given : override_) {
    INGOT_ASSIGN(auto kv, read_override(gguf, given));
    transform::set_meta(&gguf, kv.first, kv.second);
    options->metadata.push_back(std::move(kv));
  }
  for (const std::string& fault : transform::examine_gguf(gguf).faults)
    if (std::find(before.begin(), before.end(), fault) == before.end()) c.report.warning(fmt::format("--override-kv makes a model that contradicts itself: {}", fault));
  done->add("override_kv", {{"keys", override_}}, gguf);
  return gguf;
}

Status QuantizeArgs::choose_weights(transform::Importance* all) const {
  if (include_.empty() && exclude_.empty()) return {};
  const std::vector<std::string>& parts = include_.empty() ? exclude_ : include_;
  std::erase_if(all->weights, [&](const auto& entry) {
    const bool has_one = std::any_of(parts.begin(), parts.end(), [&](const std::string& part) { return entry.first.find(part) != std::string::npos; });
    return has_one == include_.empty();
  });
  if (all->weights.empty()) return usage("{} leaves no entry of the importance matrix", include_.empty() ? "--exclude-weights" : "--include-weights");
  return {};
}

Result<std::unique_ptr<Calibration>> QuantizeArgs::calibration(Context& c, const OpenedModel& model, const Artifact& gguf, transform::QuantizeOptions* options, const std::string& kept) const {
  if (!calibrates()) return std::unique_ptr<Calibration>();
  ImatrixArgs args = calibrate_;
  args.out = kept;
  INGOT_ASSIGN(std::unique_ptr<Calibration> made, Calibration::prepare(c, args, model, gguf, options));
  transform::Importance chosen = *options->imatrix;
  INGOT_TRY(choose_weights(&chosen));
  options->imatrix = std::make_shared<const transform::Importance>(std::move(chosen));
  return made;
}

Result<std::shared_ptr<const transform::Importance>> QuantizeArgs::importance(Context& c) const {
  std::shared_ptr<const transform::Importance> none;
  if (!include_.empty() && !exclude_.empty()) return usage("--include-weights and --exclude-weights exclude each other");
  if (imatrix_.empty()) {
    if ((!include_.empty() || !exclude_.empty()) && !calibrates()) return usage("{} chooses among the entries of an importance matrix; give one with --imatrix FILE", include_.empty() ? "--exclude-weights" : "--include-weights");
    return none;
  }
  if (calibrates()) return usage("--imatrix and --calibrate are two importance matrices; 'ingot imatrix MODEL --in-file {} --calibrate {}' adds them up", shell_word(imatrix_[0]), shell_word(calibrate_.texts[0]));
  std::vector<Artifact> files;
  for (const std::string& given : imatrix_) {
    INGOT_ASSIGN(const std::string path, expand_variables(given));
    INGOT_ASSIGN(const Located at, locate(path));
    INGOT_ASSIGN(Artifact a, open_model(*at.store, at.path));
    files.push_back(std::move(a));
  }
  INGOT_ASSIGN(transform::Importance all, transform::read_importance(files));
  for (const std::string& n : all.notices) c.report.notice(n);
  INGOT_TRY(choose_weights(&all));
  return std::shared_ptr<const transform::Importance>(std::make_shared<transform::Importance>(std::move(all)));
}

Result<transform::QuantizeOptions> QuantizeArgs::read(Context& c) const {
  transform::QuantizeOptions o;
  o.pure = pure_;
  o.allow_requantize = allow_requantize_;
  o.to_allow_it = "or allow it with --allow-requantize";
  o.leave_output = leave_output_;
  if (effort_ == "fast") o.effort = Effort::kFast;
  else if (effort_ == "best") o.effort = Effort::kBest;
  else if (effort_ != "normal") return usage("--effort is fast, normal or best, not '{}'", effort_);
  if (keep_split_ && c.args.common.max_shard_size) return usage("--keep-split and --max-shard-size exclude each other");
  if (leave_output_ && !output_type_.empty())
    return usage("--leave-output-tensor and --output-tensor-type exclude each other");
  if (!buffer_.empty()) {
    if (c.args.has("--memory")) return usage("--memory and --max-buffer-size are the same; give one");
    const bool plain = buffer_.find_first_not_of("0123456789") == std::string::npos;
    auto bytes = parse_size(buffer_ + (plain ? "MiB" : ""));
    if (!bytes.ok()) return usage("--max-buffer-size: {}", bytes.error().message);
    c.args.common.memory = *bytes;
  }
  if (!output_type_.empty()) {
    INGOT_ASSIGN(o.output_type, read_element_type("--output-tensor-type", output_type_));
  }
  if (!embedding_type_.empty()) {
    INGOT_ASSIGN(o.token_embedding_type, read_element_type("--token-embedding-type", embedding_type_));
  }
  std::vector<std::string> given = tensor_types_;
  for (const std::string& file : tensor_type_files_) {
    INGOT_ASSIGN(const std::string text, read_text_input(file, c.cancel));
    std::istringstream words(text);
    for (std::string word; words >> word;) given.push_back(word);
  }
  for (const std::string& word : given) {
    INGOT_ASSIGN(auto pattern, tensor_type(word));
    o.tensor_types.push_back(std::move(pattern));
  }
  INGOT_ASSIGN(o.imatrix, importance(c));
  o.to_give_it = "--imatrix FILE or --calibrate TEXT";
  o.counts = std::make_shared<transform::CastCounts>();
  o.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  return o;
}

}  // namespace ingot::cli
