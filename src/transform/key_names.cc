#include "transform/key_names.h"

#include <algorithm>
#include <map>
#include <set>

#include "formats/json.h"
#include "model/architecture.h"
#include "storage/store.h"

namespace ingot::transform {
namespace {

// Parts that a wrapper puts between dots, wherever it sits in the tree.
struct Wrapper {
  std::string_view part;
  const char* origin;
  bool certain;  // no model has a module of that name
};
constexpr Wrapper kWrappers[] = {
    {"_orig_mod", "torch.compile", true},
    {"_fsdp_wrapped_module", "FSDP", true},
    {"_checkpoint_wrapped_module", "activation checkpointing", true},
    {"_forward_module", "DeepSpeed", true},
    {"module", "DataParallel or DeepSpeed", false},
};
constexpr std::string_view kPeft = "base_model.model.";
constexpr const char kPeftOrigin[] = "a PEFT model saved whole";
constexpr const char kTextOrigin[] = "the text part of a vision model";

struct Candidate {
  std::string name;
  std::vector<std::string> changes;
};

std::string taken_off(std::string_view what, const char* origin) { return fmt::format("'{}' taken off ({})", what, origin); }

bool strip_prefix(std::string* s, std::string_view prefix) {
  if (!s->starts_with(prefix)) return false;
  s->erase(0, prefix.size());
  return true;
}

// Takes the part out wherever it stands between dots, or first.
bool take_out(std::string* name, std::string_view part) {
  bool any = false;
  for (size_t at = 0; (at = name->find(part, at)) != std::string::npos;) {
    const size_t end = at + part.size();
    const bool whole = (at == 0 || (*name)[at - 1] == '.') && end < name->size() && (*name)[end] == '.';
    if (whole) name->erase(at, part.size() + 1), any = true;
    else at = end;
  }
  return any;
}

// What a name may stand for, the likeliest first.
std::vector<Candidate> candidates(const std::string& given, const KnownName& known) {
  std::vector<Candidate> out = {{given, {}}};
  if (known(given)) return out;
  Candidate c = out[0];
  for (const Wrapper& w : kWrappers)
    if (take_out(&c.name, w.part)) c.changes.push_back(taken_off(std::string(w.part) + ".", w.origin));
  bool peft = false;
  while (strip_prefix(&c.name, kPeft)) peft = true;
  if (peft) c.changes.push_back(taken_off(kPeft, kPeftOrigin));
  if (take_out(&c.name, "base_layer")) c.changes.push_back(taken_off("base_layer.", kPeftOrigin));
  out.push_back(c);
  const auto add = [&](std::string name, std::string change) {
    Candidate next = c;
    next.name = std::move(name);
    next.changes.push_back(std::move(change));
    out.push_back(std::move(next));
  };
  for (std::string_view text : {"language_model.", "model.language_model."})
    if (std::string rest = c.name; strip_prefix(&rest, text)) {
      add(rest, taken_off(text, kTextOrigin));
      add("model." + rest, fmt::format("'{}' taken for 'model.' ({})", text, kTextOrigin));
    }
  for (std::string rest = c.name; strip_prefix(&rest, "model.");) add(rest, "'model.' taken off (a model within a model)");
  add("model." + c.name, "'model.' put before (saved from the bare model, without its head)");
  return out;
}

// Of an architecture that is not known only what no model has is taken off.
KnownName without_wrappers() {
  return [](const std::string& name) {
    std::string rest = name;
    return std::none_of(std::begin(kWrappers), std::end(kWrappers), [&](const Wrapper& w) { return w.certain && take_out(&rest, w.part); });
  };
}

bool is_factor(const std::string& name) {
  return name.find(".lora_A.") != std::string::npos || name.find(".lora_B.") != std::string::npos ||
         name.find(".lora_embedding_") != std::string::npos;
}

}  // namespace

std::optional<PlainNames> plain_names(const std::vector<std::string>& names, const KnownName& known) {
  PlainNames out;
  std::map<std::string, size_t> changed;
  std::set<std::string> taken;
  for (const auto& name : names) {
    const auto all = candidates(name, known);
    const auto it = std::find_if(all.begin(), all.end(), [&](const Candidate& c) { return known(c.name); });
    if (it == all.end() || !taken.insert(it->name).second) return std::nullopt;
    for (const auto& change : it->changes) ++changed[change];
    out.names.push_back(it->name);
  }
  for (const auto& [change, n] : changed) out.changes += fmt::format("{}{}, {} name{}", out.changes.empty() ? "" : "; ", change, n, n == 1 ? "" : "s");
  return out;
}

std::string likely_origin(const std::string& name) {
  std::string rest = name;
  for (const Wrapper& w : kWrappers)
    if (take_out(&rest, w.part)) return fmt::format(" ('{}.' in it is {}'s)", w.part, w.origin);
  if (rest.starts_with(kPeft) || is_factor(rest)) return fmt::format(" ({})", kPeftOrigin);
  if (rest.find("language_model.") != std::string::npos) return fmt::format(" ('language_model.' is {})", kTextOrigin);
  return "";
}

Result<Artifact> with_plain_names(Artifact model, const std::function<void(const std::string&)>& on_notice) {
  if (model.naming != "hf") return model;
  std::vector<std::string> names;
  for (const auto& t : model.tensors) names.push_back(t.name);
  if (const auto factor = std::find_if(names.begin(), names.end(), is_factor); factor != names.end())
    return bad_input("opening {}: it has the factor '{}' among its weights: a PEFT model that was saved whole, not merged. Save the adapter alone "
                     "(model.save_pretrained) and give it with --adapter, or merge it first (merge_and_unload)", model.path, *factor);
  KnownName known = without_wrappers();
  if (const auto config = model.files.find("config.json"); config != model.files.end()) {
    if (const auto json = parse_json(config->second, "reading " + join_path(model.path, "config.json")); json.ok())
      if (const auto arch = find_architecture(*json, ""); arch.ok())
        known = [a = *arch](const std::string& name) { return map_to_gguf(*a, name) || is_dropped(*a, name); };
  }
  const auto plain = plain_names(names, known);
  if (!plain || plain->changes.empty()) return model;
  model.tensors.edit([&](std::vector<LazyTensor>& all) {
    for (size_t i = 0; i < all.size(); ++i) all[i].name = plain->names[i];
  });
  if (on_notice) on_notice(fmt::format("'{}': {}", model.path, plain->changes));
  return model;
}

}  // namespace ingot::transform
