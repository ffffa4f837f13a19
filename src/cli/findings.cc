#include "cli/findings.h"

#include <algorithm>
#include <map>
#include <set>

#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/output.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/hf_weights.h"
#include "formats/outputs.h"
#include "transform/empty_tensors.h"
#include "transform/gguf_check.h"
#include "transform/lora_base.h"
#include "transform/lora_config.h"

namespace ingot::cli {

void Findings::row(std::string label, std::string text) { rows.emplace_back(std::move(label), printable(text)); }

std::string Findings::text() const {
  const int width = std::min(stdout_is_terminal() ? stderr_width() - 1 : 100, 100);
  std::string out;
  std::string_view before;
  for (const auto& [label, text] : rows) {
    out += wrap(fmt::format("  {:<14}{}", label == before ? "" : label, text), width, 16) + "\n";
    before = label;
  }
  int column = 0;
  for (const std::string& word : command) {
    const int w = display_width(word) + 1;
    if (column > 0 && column + w + 2 > width) out += " \\\n", column = 0;  // a shell goes on in the next line
    out += column > 0 ? " " + word : fmt::format("{:16}{}", "", word);
    column = (column > 0 ? column : 15) + w;
  }
  return command.empty() ? out : out + "\n";
}

std::vector<std::string> Findings::ship_command() const {
  if (base.empty()) return {"ingot", "ship", shell_word(given)};
  return {"ingot", "ship", shell_word(base), "--adapter", shell_word(given)};
}

namespace {

constexpr int kMostShown = 60, kMostSaid = 600;  // of a text that may be anything, of a message with one in it

std::string many(uint64_t n, const char* what) { return fmt::format("{} {}{}", format_count(n), what, n == 1 ? "" : "s"); }

Json config_of(const Artifact& a, const char* name) {
  const auto it = a.files.find(name);
  auto parsed = it == a.files.end() ? Result<Json>(Json()) : parse_json(it->second, "");
  return parsed.ok() ? std::move(*parsed) : Json();
}

// "6 layers" of {"num_hidden_layers": 6}; nothing where there is no such number.
void add_number(const Json& config, const char* key, const char* format, std::string* text) {
  if (const auto n = json_int(config, key)) *text += fmt::format(fmt::runtime(format), *n);
}

void tell_weights(const Artifact& a, Findings* r) {
  std::set<std::string> files;
  std::map<std::string_view, uint64_t> types;
  for (const LazyTensor& t : a.tensors) {
    files.insert(origin_of(*t.node).file);
    ++types[info(t.spec().type).name];
  }
  const Totals totals = totals_of(a);
  std::string by_type;
  for (const auto& [type, n] : types) by_type += fmt::format("{}{} {}", by_type.empty() ? "" : ", ", format_count(n), type);
  r->row("weights", fmt::format("{}, {} in {} ({}); {}, {}", a.format, many(totals.elements, "value"), many(totals.tensors, "tensor"), by_type,
                                many(files.size(), "file"), format_bytes(totals.bytes)));
  r->json["format"] = a.format;
  r->json["files"] = files.size();
  r->json["totals"] = {{"tensors", totals.tensors}, {"values", totals.elements}, {"bytes", totals.bytes}};
  for (const auto& [type, n] : types) r->json["types"][std::string(type)] = n;
}

void tell_architecture(const Artifact& a, Findings* r) {
  const Json config = config_of(a, "config.json");
  const Json* classes = json_member(config, "architectures");
  std::string name;
  if (classes && classes->is_array() && !classes->empty() && classes->front().is_string()) name = classes->front().get<std::string>();
  if (const auto* s = meta_string(a, "general.architecture"); name.empty() && s) name = *s;
  std::string text = name.empty() ? "unknown" : shown(name, kMostShown);
  add_number(config, "num_hidden_layers", ", {} layers", &text);
  add_number(config, "hidden_size", " of width {}", &text);
  add_number(config, "num_attention_heads", ", {} heads", &text);
  add_number(config, "num_key_value_heads", " ({} of keys and values)", &text);
  add_number(config, "max_position_embeddings", ", context {}", &text);
  add_number(config, "vocab_size", ", vocabulary {}", &text);
  r->row("architecture", text);
  r->json["architecture"] = name.empty() ? OrderedJson() : OrderedJson(name);
}

void tell_tokenizer(const Artifact& a, const Artifact* gguf, Findings* r) {
  const OrderedJson tokenizer = tokenizer_json(a, gguf);
  r->json["tokenizer"] = tokenizer;
  r->row("tokenizer", tokenizer.is_null() ? "none" : tokenizer_text(tokenizer));
  if (const std::string end = end_text(tokenizer); !end.empty()) r->row("ends a text", end);
}

void tell_adapter(const Artifact& a, Findings* r) {
  const Json config = config_of(a, "adapter_config.json");
  const auto base = json_string(config, "base_model_name_or_path");
  std::set<std::string> ends;
  std::vector<std::string> saved, files;
  uint64_t modules = 0;
  for (const LazyTensor& t : a.tensors) {
    const size_t at = t.name.find(".lora_");
    if (at == std::string::npos) {
      if (t.name.find(".base_layer.") == std::string::npos) saved.push_back(t.name);
      continue;
    }
    const std::string module = t.name.substr(0, at);
    ends.insert(module.substr(module.rfind('.') + 1));
    modules += t.name.find("_A", at) != std::string::npos;
  }
  for (const auto& [name, text] : a.files)
    if (name != "adapter_config.json") files.push_back(name);
  r->row("base", base ? shown(*base, kMostShown) : "not named");
  std::string text = shown(json_string(config, "peft_type").value_or("no peft_type"), kMostShown);
  add_number(config, "r", " of rank {}", &text);
  if (const auto alpha = json_number(config, "lora_alpha")) text += fmt::format(", alpha {}", *alpha);
  r->row("adapter", fmt::format("{}, {}: {}", text, many(modules, "module"), some_of({ends.begin(), ends.end()}, 12)));
  if (!saved.empty()) r->row("saved whole", some_of(saved, 4));
  r->row("besides", files.empty() ? "nothing (tokenizer and template are the base's)" : some_of(files, 8));
  r->json["base"] = base ? OrderedJson(*base) : OrderedJson();
  r->json["rank"] = json_int(config, "r") ? OrderedJson(*json_int(config, "r")) : OrderedJson();
  r->json["modules"] = modules;
  r->json["saved"] = saved;
  r->json["side_files"] = files;
}

// An adapter on its own: what can be told without the base.
Status check_adapter(const Artifact& a, std::vector<Reporter::Said>* odd) {
  for (const std::string& text : a.notices) odd->push_back({"notice", text});
  INGOT_TRY(transform::check_gathered(a));
  const std::string path = join_path(a.path, "adapter_config.json");
  INGOT_ASSIGN(const auto config, transform::parse_lora_config(a.files.at("adapter_config.json"), path));
  if (const auto& fields = config.passed_over; !fields.empty())
    odd->push_back({"notice", fmt::format("'{}': PEFT 0.21 does not know {} and passes over {}; so does this", path, some_of(fields, 10),
                                          fields.size() > 1 ? "them" : "it")});
  return {};
}

// Of the file that it is written as.
uint64_t file_bytes(const Artifact& gguf, Store& store) {
  std::vector<NamedSpec> specs;
  for (const LazyTensor& t : gguf.tensors) specs.emplace_back(t.name, t.spec());
  const auto layout = gguf_output(gguf, store, "model.gguf").layout(specs);
  return layout.ok() ? layout->files[0].size : totals_of(gguf).bytes;
}

void tell_verdict(const Diagnosis& d, Store& store, Findings* r) {
  OrderedJson odd = OrderedJson::array();
  for (const Reporter::Said& s : d.odd) {
    r->row("odd", fmt::format("{}: {}", s.kind, s.message));
    odd.push_back({{"kind", s.kind}, {"message", s.message}});
  }
  if (odd.empty() && d.verdict.ok()) r->row("odd", "nothing");
  r->json["odd"] = odd;
  r->json["ship"] = {{"ok", d.verdict.ok()}};
  if (!d.verdict.ok()) {
    r->row("ship", "would refuse it: " + d.verdict.error().message);
    r->json["ship"]["reason"] = d.verdict.error().message;
    return;
  }
  if (!d.made) {
    r->row("ship", "needs its base, which is not here; with --base DIR it is tried on one:");
    r->command = {"ingot", "doctor", shell_word(r->given), "--base", "DIR"};
    return;
  }
  const uint64_t bytes = file_bytes(*d.made, store);
  r->row("ship", fmt::format("would convert it: {}, {}, {}", kUsualType, format_bytes(bytes), many(d.made->tensors.size(), "tensor")));
  r->command = r->ship_command();
  r->json["ship"].update({{"type", kUsualType}, {"bytes", bytes}});
}

// What a GGUF file tells of itself; ship makes others of it only if it is not quantized yet.
void tell_gguf(const Artifact& a, Findings* r) {
  if (const auto* name = meta_string(a, "general.name")) r->row("name", shown(*name, kMostShown));
  for (const LazyTensor& t : a.tensors) r->quantized = r->quantized || is_block_type(t.spec().type);
  const transform::GgufReport report = transform::examine_gguf(a);
  for (const auto* texts : {&report.faults, &report.token_faults, &report.warnings})
    for (const std::string& text : *texts) r->diagnosis.odd.push_back({"warning", text});
}

}  // namespace

std::string beside_a_model(const Artifact& a) {
  const std::string* type = meta_string(a, "general.type");
  if (a.naming == "imatrix") return "imatrix";
  return a.naming != "gguf" || !type ? "" : *type == "adapter" ? "gguf adapter" : *type == "mmproj" ? "projector" : "";
}

std::string kind_text(std::string_view kind) {
  if (kind == "imatrix") return "an importance matrix of llama-imatrix, for quantizing a model";
  if (kind == "gguf adapter") return "a LoRA adapter in GGUF, for the model that it was trained on";
  return kind == "projector" ? "what a multimodal model in GGUF sees or hears with (mmproj)" : "";
}

Result<Findings> find_out(Context& c, const std::string& given, const Located& at, const std::string& base) {
  Findings r;
  r.given = given, r.base = base;
  const auto opened = open_model(*at.store, at.path);
  const bool adapter = opened.ok() && opened->naming == "peft", gguf = opened.ok() && opened->naming == "gguf";
  r.kind = !opened.ok() ? "unknown" : adapter ? "adapter" : gguf ? "gguf" : "model";
  if (const std::string beside = opened.ok() ? beside_a_model(*opened) : ""; !beside.empty()) {
    r.kind = beside, r.json = {{"path", at.path}, {"kind", r.kind}, {"odd", OrderedJson::array()}, {"ship", {{"ok", false}, {"reason", "it is no model"}}}};
    r.diagnosis.verdict = bad_input("'{}' is no model, but {}", at.path, kind_text(beside));
    tell_weights(*opened, &r);
    return r;
  }
  const auto own = adapter && base.empty() ? transform::find_base(*opened) : Result<Located>(at);
  if (!opened.ok()) {
    r.diagnosis.verdict = opened.error();
  } else if (adapter && !own.ok()) {
    r.diagnosis.verdict = check_adapter(*opened, &r.diagnosis.odd);
  } else if (adapter) {
    INGOT_ASSIGN(r.diagnosis, base.empty() ? diagnose(c, given, {}) : diagnose(c, base, {{given}}));
  } else {
    INGOT_ASSIGN(r.diagnosis, diagnose(c, *opened));
  }

  r.json = {{"path", at.path}, {"kind", gguf ? "model" : r.kind}};
  if (adapter) {
    tell_adapter(*opened, &r);
    if (!own.ok()) r.download = transform::base_download(*opened), r.original = transform::original_of_base(*opened);
    if (!own.ok() && !r.json["base"].is_null()) r.diagnosis.odd.push_back({"notice", shown(own.error().message, kMostSaid)});
  } else if (opened.ok()) {
    tell_architecture(*opened, &r);
  }
  if (gguf) tell_gguf(*opened, &r);
  if (opened.ok()) tell_weights(*opened, &r);
  const Diagnosis& d = r.diagnosis;
  if (d.opened) tell_tokenizer(d.opened->artifact, d.gguf ? &*d.gguf : nullptr, &r);
  tell_verdict(d, *at.store, &r);
  return r;
}

}  // namespace ingot::cli
