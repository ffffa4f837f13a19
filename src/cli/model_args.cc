// Options that several commands share.
#include "cli/model_args.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "cli/findings.h"
#include "cli/job.h"
#include "cli/model_folders.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/manifest.h"
#include "formats/outputs.h"
#include "formats/safetensors.h"
#include "ingot/ingot.h"
#include "storage/hub.h"
#include "transform/as_loaded.h"
#include "transform/class_rules.h"
#include "transform/dequantize.h"
#include "transform/empty_tensors.h"
#include "transform/gguf_check.h"
#include "transform/gguf_map.h"
#include "transform/hf_names.h"
#include "transform/lora.h"
#include "transform/lora_base.h"
#include "transform/model_state.h"

namespace ingot::cli {

void AdapterArgs::declare(Args& args) {
  args.list("--adapter|--lora", "DIR", &adapters_,
            "a PEFT LoRA adapter; may be repeated, applied in this order");
  args.list("--weight", "W", &weights_, "how strongly the adapter before it is applied (default 1)");
}

Result<std::vector<AdapterArgument>> AdapterArgs::read(const Args& args) const {
  std::vector<AdapterArgument> out;
  bool weighted = true;
  for (const auto& [name, value] : args.given()) {
    if (name == "--adapter") {
      out.push_back({value});
      weighted = false;
    } else if (name == "--weight") {
      if (out.empty())
        return usage("--weight {} stands before any --adapter; it belongs to the one before it", value);
      if (weighted)
        return usage("the adapter '{}' has two weights, the second is {}", out.back().path, value);
      double w = 0;
      const char* begin = value.data() + (value.size() > 1 && value[0] == '+');
      auto [p, ec] = std::from_chars(begin, value.data() + value.size(), w);
      if (ec != std::errc() || p != value.data() + value.size() || !std::isfinite(w))
        return usage("--weight takes a number, not '{}'", value);
      out.back().weight = w;
      weighted = true;
    }
  }
  return out;
}

Result<DType> read_float_type(const std::string& name) {
  const std::string n = lower(name);
  if (n == "f32" || n == "float32") return DType::kF32;
  if (n == "f16" || n == "float16") return DType::kF16;
  if (n == "bf16" || n == "bfloat16") return DType::kBF16;
  if (n == "f8_e4m3")
    return usage("--dtype f8_e4m3 is not there yet in this version of ingot; there are f32, f16, bf16");
  return usage("--dtype '{}' is no float type; there are f32, f16, bf16", name);
}

namespace {

void tell_notices(Context& c, const Artifact& a) {
  for (const std::string& text : a.notices) c.report.notice(text);
}

void tell_opened(Context& c, const Artifact& a) {
  const Totals t = totals_of(a);
  c.report.detail(fmt::format("opened '{}': {}, {}, {}, {}", a.path, a.format, count_of(t.tensors, "tensor"), count_of(t.elements, "value"),
                              format_bytes(t.bytes)));
}

// "; then: ingot ship org/model --adapter lora".
std::string with_base(const Context& c, const std::string& base, const std::string& adapter) {
  return fmt::format("{}: ingot {} {} --adapter {}", base.empty() ? ". Or give the base first" : "; then", c.report.command() == "run" ? "run" : "ship",
                     base.empty() ? "BASE" : base, shell_word(adapter));
}

std::string meta_or(const Artifact& a, const char* key, const char* other) {
  const std::string* s = meta_string(a, key);
  return s ? *s : other;
}

}  // namespace

Result<Artifact> open_told(Context& c, const Located& at, Faults* faults) {
  auto a = open_model(*at.store, at.path, faults);
  if (a.ok()) tell_notices(c, *a);
  return a;
}

Status check_is_model(const Artifact& a) {
  const std::string kind = beside_a_model(a);
  if (kind != "imatrix" && kind != "gguf adapter") return {};  // a projector has an architecture of its own
  return bad_input("'{}' is {}; no model itself. What can be made of it: ingot {}", a.path, kind_text(kind), shell_word(a.path));
}

Result<OpenedModel> open_with_adapters(Context& c, const std::string& given, const std::vector<AdapterArgument>& given_adapters, Given what,
                                       const std::string& config_from) {
  INGOT_ASSIGN(Located at, input_path(given));
  INGOT_ASSIGN(Artifact base, open_model(*at.store, at.path));
  std::vector<AdapterArgument> adapters = given_adapters;
  std::string assumed;
  if (base.naming == "gguf" && file_name(at.path) != file_name(given)) assumed = fmt::format("model {}", shell_word(at.path));
  if (base.naming == "peft" && what == Given::kBaseOfAdapter) {
    auto found = transform::find_base(base);
    if (!found.ok())
      return bad_input("{}{}", found.error().message, with_base(c, transform::original_of_base(base), given));
    at = *std::move(found);
    const auto snapshot = hub_snapshot(at.path);
    assumed = fmt::format("base {} (named by the adapter)",
                          snapshot ? fmt::format("{}, commit {}", snapshot->repo, snapshot->commit.substr(0, 7)) : shell_word(at.path));
    adapters.insert(adapters.begin(), {given});
    INGOT_ASSIGN(at, model_in_folder(at));
    INGOT_ASSIGN(base, open_model(*at.store, at.path));
    if (base.naming == "peft")
      return bad_input("'{0}' names as its base '{1}', which is an adapter itself; give the model that both stand on, and the adapters in the order "
                       "of their training: BASE --adapter {1} --adapter {0}", shell_word(given), shell_word(at.path));
  }
  if (!config_from.empty()) {
    INGOT_ASSIGN(const Located from, input_path(config_from));
    INGOT_ASSIGN(base.files, read_side_files(*from.store, from.path));
  }
  INGOT_ASSIGN(OpenedModel m, with_adapters(c, std::move(base), adapters, what));
  m.path = at.path;
  m.assumed = std::move(assumed);
  return m;
}

Result<OpenedModel> with_adapters(Context& c, Artifact base, const std::vector<AdapterArgument>& adapters, Given what) {
  OpenedModel m;
  m.path = base.path;
  m.base = std::move(base);
  tell_notices(c, m.base);
  const auto add_input = [&](Artifact* a) {
    const std::string manifest = take_manifest(a);
    return m.provenance ? m.provenance->add_input(*a, manifest) : Status();
  };
  const CommonOptions& common = c.args.common;
  if (common.provenance) m.provenance = std::make_shared<transform::Provenance>(version(), static_cast<uint64_t>(common.seed));
  INGOT_TRY(add_input(&m.base));
  if (what != Given::kState || m.is_gguf()) INGOT_TRY(check_is_model(m.base));
  if (m.is_gguf()) INGOT_TRY(transform::check_gguf(m.base, transform::GgufUse::kWeights));
  INGOT_TRY(go_on(c));
  tell_opened(c, m.base);
  const auto notice = [&c](const std::string& text) { c.report.notice(text); };
  if (what != Given::kState) {
    const std::map<std::string, std::string> values = m.base.values;  // among them what the model is, in some frameworks' own words
    if (m.base.naming.empty()) {
      std::string taken;
      INGOT_ASSIGN(m.base, transform::model_state(m.base, &taken));
      notice(taken);
    }
    INGOT_ASSIGN(m.base, transform::with_hf_names(std::move(m.base), values, notice));
  }
  INGOT_ASSIGN(m.base, transform::as_loaded(m.base, notice));
  if (m.base.naming == "peft")
    return bad_input("'{0}' is an adapter, not a model; fold it into its base: ingot ship {1} F16 (to GGUF), or ingot lora merge BASE {1} OUT (to a "
                     "Hugging Face directory)", m.path, shell_word(m.path));
  INGOT_TRY(transform::check_gathered(m.base));
  if (adapters.empty()) {
    m.artifact = m.base;
    return m;
  }
  if (m.is_gguf())
    return bad_input(
        "'{}' is a GGUF file; folding an adapter into one is not there yet, give the Hugging Face directory "
        "of the base",
        m.path);
  const auto snapshot = hub_snapshot(m.path);
  const std::string original = snapshot ? hub_original(snapshot->repo) : "";
  INGOT_TRY(transform::check_plain(m.base, "merging into " + m.path, original.empty() ? "" : with_base(c, original, adapters[0].path)));
  std::vector<transform::AdapterSpec> specs;
  OrderedJson weights = OrderedJson::array();
  for (const AdapterArgument& a : adapters) {
    INGOT_ASSIGN(const Located from, input_path(a.path));
    std::error_code error;
    for (const std::string& before : m.adapters)
      if (std::filesystem::equivalent(before, from.path, error))
        return usage("the adapter '{}' is given twice ('{}' too) and would be folded in twice; to have it stronger, give --weight 2 after it", from.path,
                     before);
    INGOT_ASSIGN(Artifact adapter, open_told(c, from));
    m.adapters.push_back(adapter.path);
    if (const std::string folder = parent_path(from.path); adapter.naming != "peft" && is_there(*from.store, join_path(folder, "adapter_config.json")))
      return bad_input("--adapter '{}' is a file of an adapter; give its directory: --adapter {}", from.path, shell_word(folder));
    if (adapter.naming != "peft") {
      const std::string kind = beside_a_model(adapter);
      return bad_input("--adapter '{}' is no PEFT adapter (a directory with adapter_config.json) but {}{}", from.path,
                       kind.empty() ? fmt::format("a model in {}", adapter.format) : kind_text(kind),
                       kind == "gguf adapter" ? fmt::format("; make one of it: ingot convert {} --to peft --out DIR", shell_word(from.path)) : "");
    }
    INGOT_TRY(transform::check_gathered(adapter));
    tell_opened(c, adapter);
    INGOT_TRY(add_input(&adapter));
    weights.push_back(a.weight);
    specs.push_back({std::move(adapter), a.weight});
    INGOT_TRY(go_on(c));
  }
  INGOT_ASSIGN(m.artifact, transform::lora_merge(m.base, specs, {notice, common.name}));
  m.operations.add("lora merge", {{"weights", weights}}, m.artifact);
  INGOT_TRY(go_on(c));
  return m;
}

std::vector<std::string> input_paths(const OpenedModel& model) {
  // Shards and splits too: each is read.
  std::set<std::string> files = {model.path};
  for (const LazyTensor& t : model.base.tensors)
    if (Origin o = origin_of(*t.node); !o.file.empty()) files.insert(std::move(o.file));
  std::vector<std::string> paths(files.begin(), files.end());
  paths.insert(paths.end(), model.adapters.begin(), model.adapters.end());
  paths.insert(paths.end(), model.texts.begin(), model.texts.end());
  return paths;
}

Result<Artifact> as_gguf(Context& c, const Artifact& artifact, const std::string& pre_tokenizer, transform::Operations* done) {
  if (artifact.naming == "gguf") {
    if (!pre_tokenizer.empty())
      return usage("--pre-tokenizer is for Hugging Face models; '{}' is GGUF already", artifact.path);
    if (c.args.common.strict) c.report.warning(fmt::format("--strict changes nothing for '{}', which is GGUF already", artifact.path));
    for (const std::string& text : transform::examine_gguf(artifact).warnings)
      c.report.warning(fmt::format("'{}': {}", artifact.path, text));
    if (c.args.common.name.empty()) return artifact;
    Artifact renamed = artifact;
    const auto named = std::find_if(renamed.metadata.begin(), renamed.metadata.end(), [](const auto& kv) { return kv.first == "general.name"; });
    if (named != renamed.metadata.end()) named->second.v = c.args.common.name;
    else renamed.metadata.emplace_back("general.name", MetaValue{c.args.common.name});
    done->add("rename", {{"name", c.args.common.name}}, renamed);
    return renamed;
  }
  transform::ToGgufOptions options;
  options.pre_tokenizer = pre_tokenizer;
  options.name = c.args.common.name;
  options.strict = c.args.common.strict;
  options.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  options.on_warning = [&c](const std::string& text) { c.report.warning(text); };
  INGOT_ASSIGN(Artifact gguf, transform::to_gguf(artifact, options));
  c.report.detail(fmt::format("as GGUF: architecture {}, name '{}', tokenizer {}, pre-tokenizer {}{}",
                              meta_or(gguf, "general.architecture", "?"), meta_or(gguf, "general.name", ""),
                              meta_or(gguf, "tokenizer.ggml.model", "?"), meta_or(gguf, "tokenizer.ggml.pre", "?"),
                              pre_tokenizer.empty() ? " (found by its rules)" : " (--pre-tokenizer)"));
  OrderedJson how = OrderedJson::object();
  if (!pre_tokenizer.empty()) how["pre_tokenizer"] = pre_tokenizer;
  if (!options.name.empty()) how["name"] = options.name;
  done->add("to gguf", std::move(how), gguf);
  INGOT_TRY(go_on(c));
  return gguf;
}

Result<Artifact> as_gguf_weights(Context& c, const Artifact& artifact) {
  if (artifact.naming == "gguf") return artifact;
  // The tokenizer of the directory itself is used to run it; any name will do for the metadata.
  transform::ToGgufOptions options;
  options.pre_tokenizer = "gpt-2";
  options.to_run = true;
  options.on_notice = [&c](const std::string& text) { c.report.notice(text); };
  return transform::to_gguf(artifact, options);
}

namespace {

// --allow-requantize is not among them: it lets be made what would be made in the same way.
OrderedJson quantize_json(const std::string& type, const transform::QuantizeOptions& o) {
  OrderedJson j = {{"type", type}};
  if (o.pure) j["pure"] = true;
  if (o.leave_output) j["leave_output_tensor"] = true;
  if (o.output_type) j["output_tensor_type"] = info(*o.output_type).name;
  if (o.token_embedding_type) j["token_embedding_type"] = info(*o.token_embedding_type).name;
  if (o.effort != Effort::kNormal) j["effort"] = o.effort == Effort::kFast ? "fast" : "best";
  if (o.imatrix) j["imatrix"] = o.imatrix->files;
  for (const auto& [pattern, t] : o.tensor_types) j["tensor_type"].push_back(fmt::format("{}={}", pattern, info(t).name));
  return j;
}

}  // namespace

Result<Artifact> quantized(Context& c, const Artifact& gguf, const std::string& type, const transform::QuantizeOptions& options,
                           transform::Operations* done) {
  INGOT_TRY(go_on(c));
  INGOT_ASSIGN(Artifact out, transform::quantize_gguf(gguf, type, options));
  std::map<std::string_view, int> counts;
  for (const LazyTensor& t : out.tensors) ++counts[info(t.spec().type).name];
  std::string text;
  for (const auto& [name, n] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", n, name);
  c.report.detail(fmt::format("{}: tensors by type: {}", type, text));
  done->add("quantize", quantize_json(type, options), out);
  return out;
}

Result<Artifact> with_manifest(const Context& c, const OpenedModel& from, Artifact made, transform::Operations done, OutputKind kind) {
  // A program that loads weights alone leaves a snapshot of them alone.
  const auto tokenizer = [](const auto& file) { return file.first.starts_with("tokenizer") || file.first.starts_with("vocab") || file.first == "tekken.json" || file.first == "spiece.model"; };
  if (kind.directory && hub_snapshot(from.path) && std::none_of(made.files.begin(), made.files.end(), tokenizer)) {
    INGOT_ASSIGN(const Located at, locate(from.path));
    c.report.notice(fmt::format("{}: the snapshot has no tokenizer; if the model has one, download it{}", from.path, hub_download(*at.store, at.path)));
  }
  if (kind.directory && kind.format->name == "safetensors") made = transform::without_ties(std::move(made));
  if (!from.provenance) return made;
  OrderedJson options = {{"format", kind.format->name}};
  if (c.args.common.max_shard_size && (kind.directory || kind.format->name == "gguf")) options["max_shard_size"] = c.args.common.max_shard_size;
  done.add("write", std::move(options), made);
  return from.provenance->tell(std::move(made), done, kind.directory);
}

Result<std::vector<Output>> gguf_files(const Context& c, const OpenedModel& from, Artifact made, const transform::Operations& done,
                                       const std::string& given, bool keep_split) {
  const std::vector<std::string> inputs = input_paths(from);
  GgufSplit split{.bytes = c.args.common.max_shard_size, .as_source = keep_split};
  INGOT_ASSIGN(const Located to, output_path(given, file_of("gguf"), inputs));
  INGOT_ASSIGN(made, with_manifest(c, from, std::move(made), done, file_of("gguf")));
  INGOT_ASSIGN(std::vector<Output> outputs, gguf_splits(std::move(made), *to.store, to.path, split));
  if (outputs.size() > 1)
    for (const Output& o : outputs) {
      INGOT_ASSIGN([[maybe_unused]] const Located checked, output_path(o.path, file_of("gguf"), inputs));
    }
  return outputs;
}

void warn_nonfinite(Context& c, const transform::CastCounts& counts, OrderedJson* result) {
  const auto tensors = counts.tensors();
  if (tensors.empty()) return;
  constexpr size_t kShown = 3;
  std::string text;
  OrderedJson list = OrderedJson::array();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [nan, infinite, first] = tensors[i];
    const std::vector<int64_t> index(first.index.d.begin(), first.index.d.begin() + first.index.rank);
    list.push_back({{"tensor", first.tensor}, {"file", first.file}, {"nan", nan}, {"infinite", infinite}, {"first", index}});
    if (i < kShown)
      text += fmt::format("{}{} in '{}'{}, {}{}", i ? "; " : "", nonfinite_text(nan, infinite), first.tensor, first.file.empty() ? "" : " of " + first.file,
                          nan + infinite > 1 ? "the first at " : "at ", to_string(first.index));
  }
  if (tensors.size() > kShown) text += fmt::format("; and {} more tensors", format_count(tensors.size() - kShown));
  c.report.warning("the source has NaN or infinity, which was kept as it is: " + text);
  (*result)["nonfinite"] = list;
}

}  // namespace ingot::cli
