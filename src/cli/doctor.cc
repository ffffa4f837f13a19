// ingot doctor: what lies in a directory, what is odd, what 'ship' would make of it.
#include <algorithm>
#include <map>
#include <set>

#include "cli/diagnosis.h"
#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "formats/formats.h"
#include "formats/hf_weights.h"
#include "transform/empty_tensors.h"
#include "transform/lora_config.h"

namespace ingot::cli {

namespace {

constexpr int kMostShown = 60;  // of a text that may be anything

// What is shown: a line, or several, under each label; and the same for --json.
struct Report {
  std::vector<std::pair<std::string, std::string>> rows;
  OrderedJson json;

  void row(std::string label, std::string text) { rows.emplace_back(std::move(label), printable(text)); }
  std::vector<std::string> command;  // its words, to be copied to a shell
  std::string text() const {
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
};

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

void tell_weights(const Artifact& a, Report* r) {
  std::set<std::string> files;
  std::map<std::string_view, uint64_t> types;
  for (const LazyTensor& t : a.tensors) {
    files.insert(origin_of(*t.node, {}).file);
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

void tell_architecture(const Artifact& a, Report* r) {
  const Json config = config_of(a, "config.json");
  const Json* classes = json_member(config, "architectures");
  std::string name;
  if (classes && classes->is_array() && !classes->empty() && classes->front().is_string()) name = classes->front().get<std::string>();
  if (const MetaValue* m = a.meta("general.architecture"); name.empty() && m)
    if (const auto* s = std::get_if<std::string>(&m->v)) name = *s;
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

void tell_tokenizer(const Artifact& a, const Artifact* gguf, Report* r) {
  const OrderedJson tokenizer = tokenizer_json(a, gguf);
  r->json["tokenizer"] = tokenizer;
  r->row("tokenizer", tokenizer.is_null() ? "none" : tokenizer_text(tokenizer));
  if (const std::string end = end_text(tokenizer); !end.empty()) r->row("ends a text", end);
}

void tell_adapter(const Artifact& a, Report* r) {
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

void tell_verdict(const Diagnosis& d, const std::string& path, const std::string& base, bool adapter, Report* r) {
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
    r->row("ship", "nothing speaks against it so far; with --base DIR it is tried on its base:");
    r->command = {"ingot", "doctor", shell_word(path), "--base", "DIR"};
    return;
  }
  const Totals totals = totals_of(*d.made);
  r->row("ship", fmt::format("would convert it: {}, {}, {}", kUsualType, format_bytes(totals.bytes), many(totals.tensors, "tensor")));
  r->command = {"ingot", "ship", shell_word(adapter ? base : path)};
  if (adapter) r->command.insert(r->command.end(), {"--adapter", shell_word(path)});
  r->command.insert(r->command.end(), {"--type", kUsualType, "--out", shell_word(fmt::format("{}-{}.gguf", file_name(path), kUsualType))});
  r->json["ship"].update({{"type", kUsualType}, {"bytes", totals.bytes}});
}

}  // namespace

Status command_doctor(Context& c) {
  std::string given, base;
  c.args.usage("doctor DIR [--base DIR]");
  c.args.detail(
      "DIR holds a model or an adapter. Says what is in it, what is odd, and what 'ingot ship' would make of it: by going the same way up to "
      "the first byte of output. Headers are read, no weights. Exit code 0: ship would work; 3: it would be refused; 1: "
      "something could not be read.");
  c.args.positional("DIR", &given, "a model's directory or file, or an adapter's directory");
  c.args.section("Options");
  c.args.text("--base", "DIR", &base, "the base model that an adapter is tried on");
  c.args.example("ingot doctor base/");
  c.args.example("ingot doctor lora/ --base base/");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  warn_unused(c, {"--threads", "--memory", "--dry-run", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify",
                  "--rank-timeout", "--provenance"});
  INGOT_ASSIGN(const Located at, input_path(given));
  const auto opened = open_model(*at.store, at.path);
  const bool adapter = opened.ok() && opened->naming == "peft";
  if (!base.empty() && opened.ok() && !adapter) return usage("--base is for an adapter; '{}' is a model", at.path);
  Diagnosis d;
  if (!opened.ok()) {
    d.verdict = opened.error();
  } else if (adapter && base.empty()) {
    d.verdict = check_adapter(*opened, &d.odd);
  } else {
    INGOT_ASSIGN(d, adapter ? diagnose(c, base, {{at.path}}) : diagnose(c, *opened));
  }

  Report r;
  r.json = {{"path", at.path}, {"kind", !opened.ok() ? "unknown" : adapter ? "adapter" : "model"}};
  if (adapter) tell_adapter(*opened, &r);
  else if (opened.ok()) tell_architecture(*opened, &r);
  if (opened.ok()) tell_weights(*opened, &r);
  if (d.opened) tell_tokenizer(d.opened->artifact, d.gguf ? &*d.gguf : nullptr, &r);
  tell_verdict(d, at.path, base, adapter, &r);
  const std::string head = fmt::format("{}: {}\n", printable(at.path), adapter ? "an adapter" : opened.ok() ? "a model" : "cannot be opened");
  if (d.verdict.ok()) return c.report.result(r.json, head + r.text());
  const ErrorKind kind = d.verdict.error().kind == ErrorKind::kUsage ? ErrorKind::kBadInput : d.verdict.error().kind;
  if (c.report.json()) {
    c.report.keep_in_result(r.json);
    return Error{kind, d.verdict.error().message};
  }
  INGOT_TRY(print(head + r.text()));
  return Error{kind, fmt::format("'ingot ship' would refuse '{}', for the reason above", at.path)};
}

}  // namespace ingot::cli
