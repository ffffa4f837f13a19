#include "transform/key_names.h"

#include <algorithm>
#include <map>
#include <optional>

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
constexpr size_t kMaxName = 1000;  // longer ones are no wrapper's work, and stay as they are
// A prefix with one of these words in it is that of another model beside the text's: an adapter for that one would fit by its names.
constexpr std::string_view kOtherModels[] = {"vision", "visual", "vis", "image", "audio", "speech", "encoder", "talker", "draft", "teacher", "critic", "reward", "value", "ref", "reference"};

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
  std::string out;
  size_t from = 0;
  for (size_t at = 0; (at = name->find(part, at)) != std::string::npos;) {
    const size_t end = at + part.size();
    const bool whole = (at == 0 || (*name)[at - 1] == '.') && end < name->size() && (*name)[end] == '.';
    if (whole) out.append(*name, from, at - from), from = end + 1;
    at = end;
  }
  if (from == 0) return false;
  *name = out.append(*name, from);
  return true;
}

void take_wrappers_out(Candidate* c, bool certain) {
  for (const Wrapper& w : kWrappers)
    if (w.certain == certain && take_out(&c->name, w.part)) c->changes.push_back(taken_off(std::string(w.part) + ".", w.origin));
}

// The name without what no model has.
Candidate without_certain(const std::string& given) {
  Candidate c{given, {}};
  if (given.size() <= kMaxName) take_wrappers_out(&c, true);
  return c;
}

// What a name may stand for, the likeliest first.
std::vector<Candidate> candidates(Candidate c, const KnownName& known) {
  std::vector<Candidate> out = {c};
  if (known(c.name) || c.name.size() > kMaxName) return out;
  take_wrappers_out(&c, true);
  out.push_back(c);
  take_wrappers_out(&c, false);
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
      // How transformers names what it stores as "language_model.model.".
      add("language_model.model." + rest, fmt::format("'{}' taken for 'language_model.model.' ({})", text, kTextOrigin));
    }
  std::string rest = c.name;
  for (int i = 0; i < 2 && strip_prefix(&rest, "model."); ++i) add(rest, "'model.' taken off (a model within a model)");
  for (std::string_view base : {"model.", "transformer.", "gpt_neox."})
    add(std::string(base) + c.name, fmt::format("'{}' put before (saved from the bare model, without its head)", base));
  return out;
}

// Between dots and underscores.
bool has_word(std::string_view text, std::string_view word) {
  const auto ends = [&](size_t at) { return at >= text.size() || text[at] == '.' || text[at] == '_'; };
  for (size_t at = 0; (at = text.find(word, at)) != std::string_view::npos; ++at)
    if ((at == 0 || ends(at - 1)) && ends(at + word.size())) return true;
  return false;
}

// The first part of a name and the first two, with their dots.
std::vector<std::string> prefixes(const std::string& name) {
  std::vector<std::string> out;
  size_t dot = 0;
  for (int i = 0; i < 2 && (dot = name.find('.', dot)) != std::string::npos; ++i) {
    const std::string prefix = name.substr(0, ++dot);
    const auto in_it = [&](std::string_view word) { return has_word(prefix, word); };
    if (std::none_of(std::begin(kOtherModels), std::end(kOtherModels), in_it)) out.push_back(prefix);
  }
  return out;
}

// What a name may stand for whose prefix is not the model's; nothing where it has another.
std::vector<Candidate> candidates_within(const std::string& prefix, const std::string& given, const KnownName& known) {
  Candidate c = without_certain(given);
  if (given.size() > kMaxName || !strip_prefix(&c.name, prefix)) return {};
  c.changes.push_back(taken_off(brief_name(prefix), "a wrapper's"));
  return candidates(std::move(c), known);
}

const Candidate* first_known(const std::vector<Candidate>& all, const KnownName& known) {
  const auto it = std::find_if(all.begin(), all.end(), [&](const Candidate& c) { return known(c.name); });
  return it == all.end() ? nullptr : &*it;
}

// Each name by the first known of what it may stand for.
PlainNames fit(const std::vector<std::string>& names, const std::function<std::vector<Candidate>(const std::string&)>& candidates_of, const KnownName& known) {
  PlainNames out;
  std::map<std::string, size_t> changed;
  std::map<std::string, const std::string*> taken;
  for (const auto& name : names) {
    const auto all = candidates_of(name);
    const Candidate* found = first_known(all, known);
    if (!found) {
      out.fits = false, out.unknown = name;
      return out;
    }
    if (const auto [other, added] = taken.emplace(found->name, &name); !added) {
      out.fits = false, out.first = *other->second, out.second = name;
      return out;
    }
    for (const auto& change : found->changes) ++changed[change];
    out.names.push_back(found->name);
  }
  for (const auto& [change, n] : changed) out.changes += fmt::format("{}{}, {} name{}", out.changes.empty() ? "" : "; ", change, n, n == 1 ? "" : "s");
  return out;
}

// Of an architecture that is not known only what no model has is taken off.
bool has_no_wrapper(const std::string& name) {
  std::string rest = name;
  return std::none_of(std::begin(kWrappers), std::end(kWrappers), [&](const Wrapper& w) { return w.certain && take_out(&rest, w.part); });
}

// What PEFT's methods put beside a model's weights, by what stands in the name.
constexpr std::string_view kMethods[] = {".lora_A.",        ".lora_B.", ".lora_embedding_", ".lora_magnitude_vector", ".modules_to_save.",
                                         ".token_adapter.", ".ia3_l",   ".hada_",           ".lokr_",                 ".oft_", ".vera_lambda_"};
bool is_method(const std::string& name) {
  return std::any_of(std::begin(kMethods), std::end(kMethods), [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

}  // namespace

PlainNames plain_names(const std::vector<std::string>& names, const KnownName& known) {
  PlainNames out = fit(names, [&](const std::string& n) { return candidates({n, {}}, known); }, known);
  if (out.ok()) return out;
  std::optional<PlainNames> within;
  for (const auto& prefix : prefixes(without_certain(names[0]).name)) {
    PlainNames p = fit(names, [&](const std::string& n) { return candidates_within(prefix, n, known); }, known);
    if (!p.ok()) continue;
    if (!within) within = std::move(p);
    else if (within->names != p.names) within->fits = false;  // it may mean the one or the other
  }
  if (within && within->ok()) return *within;
  PlainNames bare = fit(names, [](const std::string& n) { return std::vector{without_certain(n)}; }, [](const std::string&) { return true; });
  out.names = bare.ok() ? std::move(bare.names) : names;
  out.changes = bare.ok() ? bare.changes : "";
  return out;
}

std::string likely_origin(const std::string& name, const KnownName& known) {
  std::string rest = name;
  for (const Wrapper& w : kWrappers)
    if (take_out(&rest, w.part)) return fmt::format(" ('{}.' in it is {}'s)", w.part, w.origin);
  for (std::string_view part : {".modules_to_save.", ".original_module.", ".default."})
    if (rest.find(part) != std::string::npos) return fmt::format(" ('{}' in it is that of {}, not merged: merge it, merge_and_unload, and save it anew)", part, kPeftOrigin);
  if (rest.starts_with(kPeft) || is_method(rest)) return fmt::format(" ({})", kPeftOrigin);
  if (rest.find("unembed_tokens") != std::string::npos)
    return " ('unembed_tokens' is Tinker's name for 'lm_head': have its cookbook export the adapter for PEFT)";
  if (rest.ends_with(".weight._data") || rest.ends_with(".weight._scale"))
    return " (it is optimum-quanto's, quantized: save the model that it was made from, or its dequantize())";
  if (rest == "tok_embeddings.weight" || (rest.starts_with("layers.") && (rest.find(".attention.w") != std::string::npos || rest.find(".feed_forward.w") != std::string::npos)))
    return " (Meta's names, of its consolidated.00.pth: convert all of these with transformers' convert_llama_weights_to_hf.py)";
  if (rest.find("language_model.") != std::string::npos) return fmt::format(" ('language_model.' is {})", kTextOrigin);
  for (const auto& prefix : prefixes(name))
    if (const auto all = candidates_within(prefix, name, known); const Candidate* c = first_known(all, known))
      return fmt::format(" (without the prefix '{}' it would be '{}', but not every name has that prefix and is known without it)", prefix, brief_name(c->name));
  for (size_t dot = name.find('.'), i = 0; dot != std::string::npos && i < 8; dot = name.find('.', dot + 1), ++i)
    if (known(name.substr(dot + 1)))
      return fmt::format(" (without the prefix '{}', of another model or a wrapper, it would be '{}': take it off if it is this model's)",
                         brief_name(name.substr(0, dot + 1)), brief_name(name.substr(dot + 1)));
  return "";
}

std::string brief_name(const std::string& name) { return name.size() > 100 ? name.substr(0, 100) + ".." : name; }

Result<Artifact> with_plain_names(Artifact model, const std::function<void(const std::string&)>& on_notice) {
  if (model.naming != "hf") return model;
  std::vector<std::string> names;
  for (const auto& t : model.tensors) names.push_back(t.name);
  if (model.path.ends_with(".safetensors") && (file_name(model.path).starts_with("adapter_model") || (!names.empty() && std::all_of(names.begin(), names.end(), is_method))))
    return bad_input("opening {}: it holds the weights of an adapter, not of a model; give the directory that it lies in beside "
                     "adapter_config.json, '{}', as the adapter", model.path, parent_path(model.path));
  if (const auto method = std::find_if(names.begin(), names.end(), is_method); method != names.end())
    return bad_input("opening {}: it has '{}', which is PEFT's, among its weights: a PEFT model that was saved whole, not merged. Save the adapter alone "
                     "(model.save_pretrained) and give it with --adapter, or merge it first (merge_and_unload)", model.path, brief_name(*method));
  KnownName known = has_no_wrapper;
  bool known_class = false;
  if (const auto config = model.files.find("config.json"); config != model.files.end()) {
    // The text part of a model of several parts keeps the names that it has among them.
    if (const auto json = parse_json(config->second, "reading " + join_path(model.path, "config.json")); json.ok() && !json_member(*json, "text_config"))
      if (const auto arch = find_architecture(*json, ""); arch.ok())
        known_class = true, known = [a = *arch](const std::string& name) { return map_to_gguf(*a, name) || is_dropped(*a, name); };
  }
  const PlainNames plain = plain_names(names, known);
  std::string why, told = plain.changes;
  if (!plain.first.empty()) {
    why = fmt::format("'{}' and '{}' would be the same tensor of the model", brief_name(plain.first), brief_name(plain.second));
  } else if (!plain.ok()) {
    const std::string& left = plain.names[std::find(names.begin(), names.end(), plain.unknown) - names.begin()];
    if (const std::string origin = likely_origin(left, known); !origin.empty()) why = fmt::format("'{}' is no tensor of the model{}", brief_name(left), origin);
  }
  for (std::string_view prefix : {std::string_view("module."), kPeft})
    if (!known_class && !names.empty() && std::all_of(names.begin(), names.end(), [&](const std::string& n) { return n.starts_with(prefix); }))
      why = fmt::format("every name begins with '{}', which DataParallel, DeepSpeed or PEFT puts there; it stays, since the model's class is not known", prefix);
  if (!why.empty()) told += (told.empty() ? "" : "; ") + why;
  if (!plain.changes.empty())
    model.tensors.edit([&](std::vector<LazyTensor>& all) {
      for (size_t i = 0; i < all.size(); ++i) all[i].name = plain.names[i];
    });
  if (on_notice && !told.empty()) on_notice(fmt::format("'{}': {}", model.path, told));
  return model;
}

}  // namespace ingot::transform
