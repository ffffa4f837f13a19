// ingot PATH, without a command: what lies there, and the commands that fit, ready to paste.
#include <algorithm>

#include "cli/findings.h"
#include "cli/paths.h"
#include "cli/target_args.h"
#include "cli/text.h"
#include "formats/json.h"
#include "storage/hub.h"

namespace ingot::cli {

namespace {

struct Fitting {
  std::string command, about;
};

std::vector<Fitting> fitting(const Context& c, const Findings& f) {
  const std::string path = shell_word(f.given), ship = join(f.ship_command(), " ");
  std::vector<Fitting> out;
  const auto add = [&out](std::string command, std::string about) { out.push_back({std::move(command), std::move(about)}); };
  if (f.can_ship() && !f.quantized) {
    const std::string made = fmt::format("{}-{}.gguf", output_name(c, *f.diagnosis.opened), kUsualType);
    add(f.kind == "gguf" ? "ingot quantize " + path : ship + " --test 'Hello'", "makes " + made);
  }
  if (f.kind == "adapter" && !f.diagnosis.opened) {
    if (!f.download.empty()) add(f.download, f.original.empty() ? "fetches its base; then" : "fetches what its base was quantized from, by the name; then");
    if (!f.original.empty()) add(fmt::format("ingot ship {} --adapter {}", f.original, path), "with the model that its base was quantized from");
    else add(f.download.empty() ? fmt::format("ingot ship BASE --adapter {}", path) : ship + " --test 'Hello'", "with the model that it was trained on");
  }
  if (f.can_ship() || f.kind == "gguf") add(fmt::format("ingot run {} --prompt 'Hello'", path), "text from it");
  if (f.can_ship() && f.kind == "adapter") {
    const std::string& base = f.diagnosis.opened->path;  // a snapshot's is long: the name that the adapter has for it does too
    add(fmt::format("ingot lora merge {} {} OUT", shell_word(hub_snapshot(base) ? f.json["base"].get<std::string>() : base), path),
        "a Hugging Face directory with it folded in");
  }
  if (f.can_ship() && f.kind == "model") add(fmt::format("ingot convert {}", path), "a GGUF file of the type that it has");
  if (f.kind == "gguf") add("ingot verify " + path, "whether it is what was written");
  if (f.kind == "gguf adapter") add("ingot convert " + path + " --to peft --out DIR", "the adapter as PEFT has it");
  if (f.kind == "imatrix") {
    add("ingot imatrix " + path + " --stats", "figures for each tensor");
    add("ingot convert " + path + " --out imatrix.npz", "its sums, for NumPy");
  }
  add("ingot inspect " + path, "all its tensors and metadata");
  return out;
}

std::string what_it_is(const Findings& f) {
  if (const std::string beside = kind_text(f.kind); !beside.empty()) return beside + "; no model itself";
  return f.kind == "adapter" ? "an adapter" : f.kind == "gguf" ? f.quantized ? "a GGUF model, quantized" : "a GGUF model" : "a model";
}

// Models in a directory that is none: files of GGUF, and subdirectories whose files look like a model's. Each is given to this command again.
Result<std::vector<std::string>> models_in(const Located& at) {
  std::vector<std::string> out;
  INGOT_ASSIGN(const auto entries, at.store->list(at.path));
  constexpr size_t kLooked = 1000;
  for (size_t i = 0; i < std::min(entries.size(), kLooked); ++i) {
    const Entry& e = entries[i];
    const std::string path = join_path(at.path, e.name);
    if (e.name[0] == '.') continue;
    if (e.directory ? is_there(*at.store, join_path(path, "config.json")) || is_there(*at.store, join_path(path, "adapter_config.json"))
                    : e.name.ends_with(".gguf"))
      out.push_back(path);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Whether a model's or an adapter's own files lie in it, be they whole or not.
bool is_of_a_model(const Located& at) {
  const auto entries = at.store->list(at.path);
  return entries.ok() && std::any_of(entries->begin(), entries->end(), [](const Entry& e) {
           return !e.directory && (e.name == "config.json" || e.name == "adapter_config.json" || e.name.ends_with(".safetensors") ||
                                   e.name.ends_with(".safetensors.index.json"));
         });
}

// A directory that is no model may hold some; `why` it is none.
Status tell_folder(const Context& c, const std::string& given, const Error& why) {
  INGOT_ASSIGN(const std::string path, expand_variables(given));
  const auto at = locate(path);
  const auto models = at.ok() ? models_in(*at) : Result<std::vector<std::string>>(at.error());
  if (!models.ok() || models->empty()) return why;
  if (is_of_a_model(*at)) return Error{why.kind, fmt::format("{}. In it there are also: {}", why.message, join(*models, ", "))};
  std::string text = fmt::format("{}: no model itself, but in it\n", printable(given));
  for (const std::string& m : *models)
    text += fmt::format("  ingot {}\n", printable(shell_word(m.find('/') == std::string::npos ? "./" + m : m)));
  return c.report.result({{"path", at->path}, {"kind", "directory"}, {"models", *models}}, text);
}

}  // namespace

Status command_path(Context& c) {
  std::string given;
  c.args.summary("what lies there, and which commands fit");
  c.args.usage("PATH");
  c.args.positional("PATH", &given, "a model, an adapter, or a directory of them; a name like org/model");
  c.args.example("ingot lora/");
  c.args.unused(kForWriters);
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  const auto input = input_path(given);
  if (!input.ok()) return tell_folder(c, given, input.error());
  INGOT_ASSIGN(Findings f, find_out(c, given, *input, ""));
  if (f.kind == "unknown") return tell_folder(c, given, f.diagnosis.verdict.error());
  if (f.quantized) std::erase_if(f.rows, [](const auto& row) { return row.first == "ship"; }), f.command.clear();
  std::string text = fmt::format("{}: {}\n{}\n", printable(given), what_it_is(f), f.text());
  for (const Fitting& fit : fitting(c, f)) {
    text += fmt::format("  # {}\n  {}\n", fit.about, printable(fit.command));
    f.json["commands"].push_back(fit.command);
  }
  return c.report.result(f.json, text);
}

}  // namespace ingot::cli
