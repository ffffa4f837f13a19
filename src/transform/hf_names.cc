#include "transform/hf_names.h"

#include <algorithm>
#include <set>

#include "formats/hf_weights.h"
#include "formats/json.h"
#include "formats/state_tree.h"
#include "model/model_config.h"
#include "model/name_map.h"
#include "storage/store.h"
#include "transform/rearrange.h"

namespace ingot::transform {
namespace {

constexpr char kConfig[] = "config.json";

bool is_left_out(const NameMap& map, std::string_view name) {
  return std::any_of(map.leave_out.begin(), map.leave_out.end(), [&](const std::string& end) { return name.ends_with(end) || name.find(end + "/") != std::string_view::npos; });
}

std::string plain_name(const NameMap& map, std::string name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string& p : map.prefixes)
      if (name.starts_with(p)) name.erase(0, p.size()), again = true;
  }
  return name;
}

// A rule that the name is of, all of whose tensors the class has.
struct Named {
  const NameRule* rule = nullptr;
  Holes holes;
  bool stacked = false;  // of experts
};
std::optional<Named> named(const NameMap& map, const Architecture* arch, std::string_view name) {
  for (const NameRule& r : map.tensors) {
    const auto has = [&](const std::string& t) {
      const auto m = map_to_gguf(*arch, expand(t, 0, 0));
      return m && !m->rule->alternative;
    };
    for (const std::string& t : r.from)
      if (const auto h = match_template(t, name); h && (!arch || std::all_of(r.hf.begin(), r.hf.end(), has))) return Named{&r, *h, h->expert < 0 && r.hf[0].find("{e}") != std::string::npos};
  }
  return std::nullopt;
}

// The map that names of layers are of.
const NameMap* map_of(const std::vector<NameMap>& all, const Artifact& model) {
  for (const NameMap& m : all)
    for (const LazyTensor& t : model.tensors)
      if (const auto n = named(m, nullptr, plain_name(m, t.name)); n && n->holes.layer >= 0) return &m;
  return nullptr;
}

void put(OrderedJson* to, std::string_view key, const Json& value) {
  for (size_t dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.')) {
    to = &(*to)[std::string(key.substr(0, dot))];
    key.remove_prefix(dot + 1);
  }
  (*to)[std::string(key)] = OrderedJson::parse(value.dump());
}

class Namer {
 public:
  Namer(const NameMap& map, Artifact model, const std::map<std::string, std::string>& values, const std::function<void(const std::string&)>& on_notice)
      : map_(map), in_(std::move(model)), values_(values), on_notice_(on_notice) {}

  Result<Artifact> run() {
    for (const LazyTensor& t : in_.tensors) {
      if (is_left_out(map_, t.name)) ++left_out_;
      else tensors_.push_back({plain_name(map_, t.name), t.node});
    }
    left_out_ += static_cast<size_t>(std::count_if(values_.begin(), values_.end(), [&](const auto& v) { return is_left_out(map_, v.first); }));
    INGOT_TRY(check_whole());
    const bool given = in_.files.contains(kConfig);
    INGOT_TRY(given ? read_config() : choose_class());
    INGOT_TRY(check_required());
    INGOT_TRY(given ? compare_config() : make_config());
    INGOT_ASSIGN(params_, config_params(*arch_, with_defaults(*arch_, config_), what_));
    for (const LazyTensor& t : tensors_) INGOT_TRY(map_tensor(t));
    INGOT_TRY(check_complete());
    tell(given);
    in_.tensors = std::move(out_), in_.naming = "hf", in_.values.clear();
    set_kinds({}, &in_);
    return std::move(in_);
  }

 private:
  // Of the framework's own configuration; null where it has none of that name.
  Json value(const std::string& name) const {
    const auto it = values_.find(name.starts_with('/') ? name.substr(1) : map_.values + name);
    if (it == values_.end()) {
      // A list, each of whose items is one.
      return values_.lower_bound(map_.values + name + "/") != values_.end() && values_.lower_bound(map_.values + name + "/")->first.starts_with(map_.values + name + "/")
                 ? Json(true) : Json();
    }
    const auto parsed = parse_json(it->second, name);
    return parsed.ok() ? *parsed : Json();
  }
  bool holds(const NameConditions& when) const {
    return std::all_of(when.begin(), when.end(), [&](const auto& c) {
      const Json v = value(c.first);
      return c.second.empty() ? !v.is_null() : std::find(c.second.begin(), c.second.end(), v) != c.second.end();
    });
  }
  bool applies(const NamedConfig& c) const {
    return holds(c.when) && (c.classes.empty() || std::find(c.classes.begin(), c.classes.end(), arch_->classes[0]) != c.classes.end());
  }
  // What the framework's configuration makes of a key; null: nothing.
  Json made(const NamedConfig& c) const {
    for (const std::string& name : c.from)
      if (Json v = value(name); !v.is_null()) return v;
    return c.value;
  }

  // A file of one rank among several holds parts of tensors.
  Status check_whole() const {
    if (in_.format != "torch") return {};
    for (const char* key : {"tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size"})
      if (const auto n = finite_number(value(key)); n && *n > 1)
        return bad_input("{}: it is the file of one rank: by its arguments '{}' is {}, and the others hold the rest of the weights; have Megatron save one directory "
                         "of all (--ckpt-convert-format torch_dist) and give that", what_, key, *n);
    return {};
  }

  // What stands against the tensors being a class's, by their names alone; empty: nothing.
  std::string misfit(const Architecture& a, size_t* fits) const {
    std::set<const TensorRule*> seen;
    *fits = 0;
    std::string unknown;
    for (const LazyTensor& t : tensors_) {
      const auto n = named(map_, &a, t.name);
      if (!n) {
        if (unknown.empty()) unknown = t.name;
        continue;
      }
      ++*fits;
      for (const std::string& hf : n->rule->hf) seen.insert(map_to_gguf(a, expand(hf, 0, 0))->rule);
    }
    if (!unknown.empty()) return fmt::format("the tensor '{}' has no place in {} that data/names/{}.json knows", unknown.substr(0, 200), a.classes[0], map_.name);
    for (const TensorRule& r : a.tensors)
      if (!r.optional && r.role != "output" && !seen.count(&r)) return fmt::format("there is no tensor that '{}' of {} is made of", r.hf[0], a.classes[0]);
    return "";
  }

  Status choose_class() {
    std::string nearest;
    size_t most = 0;
    for (const NamedClass& c : map_.classes) {
      if (!holds(c.when)) continue;
      const Architecture* a = architecture_of_class(c.name);
      size_t fits = 0;
      std::string why = misfit(*a, &fits);
      if (why.empty()) {
        arch_ = a;
        return {};
      }
      if (nearest.empty() || fits > most) most = fits, nearest = std::move(why);
    }
    return bad_input("{}: its names are {}'s, and {}; {} are known, each with all of its tensors", what_, map_.name, nearest, class_names());
  }
  std::string class_names() const {
    std::vector<std::string> names;
    for (const NamedClass& c : map_.classes) names.push_back(c.name);
    return fmt::format("{}", fmt::join(names, ", "));
  }

  Status read_config() {
    INGOT_ASSIGN(const Json whole, parse_json(in_.files.at(kConfig), "reading the config.json that is to be used"));
    config_ = language_config(whole);
    INGOT_ASSIGN(arch_, find_architecture(config_, "reading the config.json that is to be used"));
    if (std::none_of(map_.classes.begin(), map_.classes.end(), [&](const NamedClass& c) { return architecture_of_class(c.name) == arch_; }))
      return bad_input("{}: its names are {}'s, which are known of {}; config.json says {}", what_, map_.name, class_names(), arch_->classes[0]);
    size_t fits = 0;
    if (const std::string why = misfit(*arch_, &fits); !why.empty()) return bad_input("{}: {}; give the config.json of this model", what_, why);
    return {};
  }

  Status check_required() const {
    for (const auto& [name, accepted] : map_.require) {
      const Json v = value(name);
      if (v.is_null() || std::find(accepted.begin(), accepted.end(), v) != accepted.end()) continue;
      return bad_input("{}: by its own configuration '{}' is {}; of {} ingot converts {} only", what_, name, json_brief(v), arch_->classes[0], accepted[0].dump());
    }
    return {};
  }

  Status compare_config() const {
    for (const NamedConfig& c : map_.config) {
      if (c.unchecked || c.from.empty() || !applies(c)) continue;
      const auto own = finite_number(made(c));
      for (const std::string& key : {c.key, c.also}) {
        const auto theirs = key.empty() ? std::nullopt : config_number(config_, key);
        if (own && theirs && *own != *theirs)
          return bad_input("{}: its own configuration says '{}' {}, the config.json that is to be used '{}' {}; give the config.json of this model",
                           what_, c.from[0], json_brief(Json(*own)), key, json_brief(Json(*theirs)));
      }
    }
    return {};
  }

  Status make_config() {
    OrderedJson out = {{"architectures", {arch_->classes[0]}}, {"model_type", arch_->model_types[0]}};
    std::vector<std::string> missing;
    for (const NamedConfig& c : map_.config) {
      if (!applies(c)) continue;
      Json v = made(c);
      if (v.is_null() && !c.rows_of.empty())
        for (const LazyTensor& t : tensors_)
          if (const auto n = named(map_, arch_, t.name); n && n->rule->hf[0] == c.rows_of && t.spec().shape.rank) v = t.spec().shape[0];
      if (!v.is_null()) put(&out, c.key, v);
      else if (!c.optional) missing.push_back(fmt::format("'{}' ({})", c.from[0], c.key));
    }
    if (!missing.empty() || map_.config.empty())
      return bad_input("{}: its names are {}'s, and the checkpoint does not say {}; give the directory of the model's config.json and tokenizer: --config-from DIR", what_,
                       map_.name, missing.empty() ? "what the model is" : some_of(missing, missing.size()));
    std::set<const TensorRule*> seen;
    for (const LazyTensor& t : tensors_)
      for (const std::string& hf : named(map_, arch_, t.name)->rule->hf) seen.insert(map_to_gguf(*arch_, expand(hf, 0, 0))->rule);
    for (const TensorRule& r : arch_->tensors) {
      if (!r.announced.empty() && !r.alternative) out[r.announced] = seen.count(&r) > 0 || out.value(r.announced, false);
      if (r.role == "output") out["tie_word_embeddings"] = !seen.count(&r);
    }
    out["dtype"] = "float32";  // that of the weights, once they are laid out
    in_.files[kConfig] = json_text(out);
    INGOT_ASSIGN(config_, parse_json(in_.files[kConfig], what_));
    return {};
  }

  Status map_tensor(const LazyTensor& t) {
    const Named n = *named(map_, arch_, t.name);
    const int64_t experts = n.stacked ? params_["experts"] : 1;
    const Shape shape = t.spec().shape;
    if (n.holes.layer >= params_["layers"] || (n.holes.expert >= 0 && n.holes.expert >= params_["experts"]))
      return bad_input("{}: there is a tensor '{}', but by the configuration there are {} {}", what_, t.name, params_[n.holes.layer >= params_["layers"] ? "layers" : "experts"],
                       n.holes.layer >= params_["layers"] ? "layers" : "experts");
    std::vector<Shape> parts;
    Shape expected;
    for (const std::string& hf : n.rule->hf) {
      const auto m = map_to_gguf(*arch_, expand(hf, std::max(n.holes.layer, 0), std::max(n.holes.expert, 0)));
      INGOT_ASSIGN(const Shape part, shape_of(m->rule->hf_shape(m->part), params_, hf));
      if (parts.empty()) expected = part;
      else expected[0] += part[0];
      parts.push_back(part);
    }
    Shape of_one = shape;
    if (n.stacked && shape.rank == expected.rank + 1 && shape[0] == experts)
      for (int d = 1; d < shape.rank; ++d) of_one[d - 1] = shape[d], of_one.rank = shape.rank - 1;
    const bool padded = n.rule->padded && of_one.rank == expected.rank && of_one.rank && of_one[0] > expected[0];
    if (padded) {
      if (!cut_) cut_ = {of_one[0], expected[0]};
      of_one[0] = expected[0];
    }
    const int64_t groups = n.rule->groups.empty() ? 1 : params_[n.rule->groups];
    if (!(of_one == expected) || groups < 1 || (n.rule->hf.size() > 1 && std::any_of(parts.begin(), parts.end(), [&](const Shape& p) { return p[0] % groups; })))
      return bad_input("{}: the tensor '{}' is {}, by the configuration it would be {}{}; {} and the weights are of two models", what_, t.name, to_string(shape),
                       n.stacked ? fmt::format("{} x ", experts) : "", to_string(expected), in_.files.contains(kConfig) ? kConfig : "the checkpoint's configuration");
    for (int64_t e = 0; e < experts; ++e) {
      NodePtr one = t.node;
      if (n.stacked) {
        INGOT_ASSIGN(one, select(std::move(one), e));
      }
      int64_t at = 0;
      for (size_t k = 0; k < parts.size(); ++k) {
        NodePtr node = one;
        const int64_t rows = parts[k].rank ? parts[k][0] : 0;
        if (groups > 1 && parts.size() > 1) {
          INGOT_ASSIGN(node, rows_of_groups(std::move(node), groups, at, rows / groups));
          at += rows / groups;
        } else if (parts.size() > 1 || padded) {
          INGOT_ASSIGN(node, slice(std::move(node), 0, at, rows));
          at += rows;
        }
        out_.push_back({expand(n.rule->hf[k], n.holes.layer, n.stacked ? static_cast<int>(e) : n.holes.expert), std::move(node)});
      }
    }
    return {};
  }

  // Each tensor of the class in each layer, and none twice.
  Status check_complete() const {
    std::set<std::string> names;
    for (const LazyTensor& t : out_)
      if (!names.insert(t.name).second) return bad_input("{}: two of its tensors are '{}' of {}", what_, t.name, arch_->classes[0]);
    std::map<const TensorRule*, std::string> from;  // what is there of a rule at all
    for (const LazyTensor& t : out_) from.emplace(map_to_gguf(*arch_, t.name)->rule, t.name);
    for (const TensorRule& r : arch_->tensors) {
      const bool some = from.contains(&r);
      if (!some && (r.optional || r.role == "output")) continue;
      for (int64_t i = 0; i < (r.per_layer() ? params_.at("layers") : 1); ++i)
        for (int64_t e = 0; e < (r.per_expert() ? params_.at("experts") : 1); ++e)
          for (const std::string& hf : r.hf)
            if (const std::string name = expand(hf, static_cast<int>(i), static_cast<int>(e)); !names.contains(name))
              return bad_input("{}: there is nothing that '{}' of {} is made of; a part of the checkpoint is missing, or the configuration is another model's", what_, name,
                               arch_->classes[0]);
    }
    const TensorRule* head = arch_->by_role("output");
    if (head && !from.contains(head) && !json_bool(config_, "tie_word_embeddings").value_or(arch_->tied_by_default))
      return bad_input("{}: there is no output layer, but config.json does not say 'tie_word_embeddings': true", what_);
    for (const TensorRule& r : arch_->tensors)
      if (!r.announced.empty() && !r.alternative && from.contains(&r) && !json_bool(config_, r.announced).value_or(r.assumed))
        return bad_input("{}: the checkpoint has '{}', which {} has only where config.json says '{}': true", what_, from.at(&r), arch_->classes[0], r.announced);
    return {};
  }

  void tell(bool given) const {
    if (!on_notice_) return;
    on_notice_(fmt::format("{}: names of {}, taken as {}{}", in_.path, map_.name, arch_->classes[0], given ? "" : "; config.json is made of the checkpoint's own configuration"));
    if (!given)
      for (const NamedConfig& c : map_.config)
        if (!c.rows_of.empty() && value(c.from[0]).is_null())
          on_notice_(fmt::format("{}: '{}' is that of the stored tensors, padding included: what is the model's own, a config.json says (--config-from DIR)", in_.path, c.key));
    if (cut_) on_notice_(fmt::format("{}: the vocabulary is padded: of {} rows the first {} are the model's", in_.path, cut_->first, cut_->second));
    if (left_out_) on_notice_(fmt::format("{}: {} entries that are no weights are left out ({})", in_.path, left_out_, fmt::join(map_.leave_out, ", ")));
  }

  const NameMap& map_;
  Artifact in_;
  const std::map<std::string, std::string>& values_;
  const std::function<void(const std::string&)>& on_notice_;
  const std::string what_ = "converting " + in_.path;
  std::vector<LazyTensor> tensors_, out_;  // under plain names; under Hugging Face's
  size_t left_out_ = 0;
  const Architecture* arch_ = nullptr;
  Json config_;
  Params params_;
  std::optional<std::pair<int64_t, int64_t>> cut_;
};

}  // namespace

Result<Artifact> with_hf_names(Artifact model, const std::map<std::string, std::string>& values, const std::function<void(const std::string&)>& on_notice) {
  if (model.naming != "hf") return model;
  INGOT_ASSIGN(const auto* maps, name_maps());
  const NameMap* map = map_of(*maps, model);
  return map ? Namer(*map, std::move(model), values, on_notice).run() : model;
}

}  // namespace ingot::transform
