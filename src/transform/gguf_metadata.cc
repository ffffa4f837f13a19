#include "transform/gguf_metadata.h"

#include <algorithm>
#include <cmath>

#include "storage/hub.h"
#include "transform/gguf_rope.h"
#include "transform/quantize.h"

namespace ingot::transform {
namespace {

class Writer {
 public:
  Writer(const GgufMetadata& m, Artifact* out) : m_(m), out_(*out), what_("reading " + m.config_path) {}

  Status run() {
    put("general.architecture", m_.arch.name);
    put("general.type", std::string("model"));
    std::string id = json_string(m_.config, "_name_or_path").value_or("");
    if (id.empty() || std::count(id.begin(), id.end(), '/') > 1) id = model_name(out_.path);
    if (const auto slash = id.rfind('/'); slash != std::string::npos) id = id.substr(slash + 1);
    if (id.empty() || id == "." || id == "..") id = "model";
    put("general.name", m_.name.empty() ? title_of(id) : m_.name);
    put("general.size_label", whole_size_label());
    for (const auto& r : m_.arch.metadata) INGOT_TRY(add(r));
    INGOT_TRY(attention_scale());
    INGOT_TRY(bases());
    INGOT_TRY(rope_layers());
    for (auto& [key, value] : out_.metadata)
      if (key == "general.file_type") value.v = float_file_type(out_);
    return {};
  }

 private:
  void put(std::string key, auto value) { out_.metadata.emplace_back(std::move(key), MetaValue{std::move(value)}); }
  std::string own(const char* key) const { return m_.arch.name + "." + key; }
  bool has(const std::string& key) const {
    return std::any_of(out_.metadata.begin(), out_.metadata.end(), [&](const auto& m) { return m.first == key; });
  }

  // Of a mixture: one expert's share, times their number.
  std::string whole_size_label() const {
    uint64_t shared = 0, experts = 0, counts = 0, stacks = 0;
    for (const auto& t : out_.tensors) {
      const Shape s = t.spec().shape;
      const auto n = static_cast<uint64_t>(s.elements());
      const bool stack = t.name.find("_exps.") != std::string::npos && s.rank >= 3 && s[0] > 0;
      (stack ? experts : shared) += stack ? n / static_cast<uint64_t>(s[0]) : n;
      if (stack) counts += static_cast<uint64_t>(s[0]), ++stacks;
    }
    return (stacks ? fmt::format("{}x", counts / stacks) : "") + size_label(shared + experts);
  }

  Status add(const MetadataRule& r) {
    if (r.special == "rope_scaling") return rope_scaling();
    if (r.special == "sliding_window") return sliding_window();
    if (r.special == "file_type") put("general.file_type", uint32_t{0});  // by the type that most of the weights have, when the rest is written
    if (r.special == "quantization_version") put("general.quantization_version", kQuantizationVersion);
    if (!r.special.empty() || has(r.key)) return {};
    if (r.type == "string") put(r.key, r.value.get<std::string>());
    return r.type == "string" ? Status() : r.type == "bool" ? add_flag(r) : add_number(r);
  }

  Status add_flag(const MetadataRule& r) {
    const Json* m = nullptr;
    for (const auto& key : r.from)
      if (!m) m = json_member(m_.config, key);
    if (m && !m->is_boolean()) return bad_input("{}: '{}' is {}, expected true or false", what_, r.from[0], json_brief(*m));
    if (m || !r.value.is_null()) put(r.key, (m ? *m : r.value).get<bool>());
    return {};
  }

  Status add_number(const MetadataRule& r) {
    std::optional<double> v;
    for (const auto& path : r.from)
      if (!v) {
        INGOT_ASSIGN(v, read_config_number(m_.config, path, what_));
      }
    if (r.from.empty()) v = r.value.get<double>();
    if (!v && r.off && m_.config.contains(r.from[0])) v = r.off;
    if (!v && r.optional) return {};
    if (!v) return bad_input("{}: '{}' is {}, expected a number", what_, r.from[0], m_.config.contains(r.from[0]) ? "null" : "missing");
    // Whoever loads the file refuses what is not above zero.
    if (!(*v > 0)) return bad_input("{}: '{}' is {}, expected a number above zero", what_, r.from[0], *v);
    if (r.type == "f32") {
      if (const auto f = static_cast<float>(*v); !std::isnormal(f))
        return bad_input("{}: '{}' is {}, which is beyond the 32-bit float of the file", what_, r.from[0], *v);
      put(r.key, static_cast<float>(*v));
    } else {
      if (*v > 4294967295.0 || *v != std::floor(*v)) return bad_input("{}: '{}' is {}, expected a whole number", what_, r.from[0], *v);
      put(r.key, static_cast<uint32_t>(*v));
    }
    return {};
  }

  Status rope_scaling() {
    const auto part = m_.params.find("rope_dim");
    if (part != m_.params.end() && part->second % 2)
      return bad_input("{}: of each head {} elements would be rotated, an odd number, which are not rotated in pairs (by 'partial_rotary_factor' or 'rotary_pct')", what_,
                       part->second);
    INGOT_ASSIGN(GgufRope rope, gguf_rope(m_.config, m_.arch, part == m_.params.end() ? m_.params.at("head_dim") : part->second, what_));
    for (auto& [key, value] : rope.metadata) out_.metadata.emplace_back(key, std::move(value));
    out_.tensors.edit([&](auto& all) { all.insert(all.begin(), rope.tensors.begin(), rope.tensors.end()); });
    if (!rope.notice.empty() && m_.on_notice) m_.on_notice(m_.config_path + ": " + rope.notice);
    return {};
  }

  Status sliding_window() {
    INGOT_ASSIGN(const Windows w, attention_windows(m_.arch, m_.config, m_.params.at("layers"), what_));
    if (!w.rule) return {};
    const auto key = own("attention.sliding_window");
    const auto put_pattern = [&](const std::vector<bool>& layers) {
      MetaArray list;
      for (const bool b : layers) list.push_back({b});
      put(own("attention.sliding_window_pattern"), std::move(list));
    };
    if (!w.window) {
      if (w.rule->always) put(key, uint32_t{0});
      if (!w.rule->read || w.rule->period == 0 || w.rule->absent) return {};
      // llama.cpp takes some layers to have a window, and stops where the file says that none has. One as long as the context is none, where such layers are
      // like the others but for it.
      const LayerKinds& k = m_.arch.layer;
      if (k.rope_layers == "all" && k.sliding_rope == "same") {
        put(key, static_cast<uint32_t>(config_number(m_.config, "max_position_embeddings").value_or(static_cast<double>(w.rule->missing))));
        return {};
      }
      put(key, static_cast<uint32_t>(w.rule->missing));
      put_pattern(std::vector<bool>(static_cast<size_t>(m_.params.at("layers")), false));
      return m_.cannot_say(fmt::format("{}: no layer has a window, which the file says, but llama.cpp runs no {} model without one", m_.config_path, m_.arch.name));
    }
    put(key, static_cast<uint32_t>(*w.window));
    if (!w.usual || w.rule->told) put_pattern(w.layers);
    if (w.rule->read) return {};
    const bool all = std::all_of(w.layers.begin(), w.layers.end(), [](bool b) { return b; });
    return m_.cannot_say(fmt::format("{}: attention sees the last {} tokens only (sliding_window){}, which llama.cpp does not read of {} models: in "
                                     "texts longer than that it runs another model", m_.config_path, *w.window, all ? "" : " in some of the layers", m_.arch.name));
  }

  Status bases() const {
    const MetaValue *all = out_.meta(own("rope.freq_base")), *sliding = out_.meta(own("rope.freq_base_swa"));
    if (!m_.arch.llama_cpp.one_base || !all || !sliding || std::get<float>(all->v) == std::get<float>(sliding->v)) return {};
    return m_.cannot_say(fmt::format("{}: layers with a window rotate by a base of {} and the others of {}, which the file says, but of {} models llama.cpp takes the latter for all",
                                     m_.config_path, std::get<float>(sliding->v), std::get<float>(all->v), m_.arch.name));
  }

  // What the query is divided by the root of, where it is not what whoever reads the file takes.
  Status attention_scale() {
    const LayerKinds& k = m_.arch.layer;
    if (k.attention_key.empty()) return {};
    INGOT_ASSIGN(const auto said, read_config_number(m_.config, k.attention_key, what_));
    if (!said) return {};
    if (!(*said > 0)) return bad_input("{}: '{}' is {}, expected a number above zero", what_, k.attention_key, *said);
    const double usual = usual_attention_divisor(k, m_.params);
    if (*said == usual) return {};
    put(own("attention.scale"), static_cast<float>(1 / std::sqrt(*said)));
    return m_.cannot_say(fmt::format("{}: '{}' is {}: the file says so, but of {} models of {} layers llama.cpp takes {}", m_.config_path, k.attention_key, *said, m_.arch.name,
                                     m_.params.at("layers"), usual));
  }

  // config.json may say of each layer whether it rotates; here it is the architecture that does.
  Status rope_layers() const {
    const LayerKinds& k = m_.arch.layer;
    const Json* list = k.rope_key.empty() ? nullptr : json_member(m_.config, k.rope_key);
    const Json* period = list || k.rope_period_key.empty() ? nullptr : json_member(m_.config, k.rope_period_key);
    const int64_t layers = m_.params.at("layers");
    bool agrees = true;
    if (list) agrees = list->is_array() && static_cast<int64_t>(list->size()) == layers;
    for (int64_t i = 0; agrees && i < layers; ++i) {
      const bool rotated = has_rope(k, i, false);
      if (list) agrees = finite_number((*list)[static_cast<size_t>(i)]) == std::optional<double>(rotated ? 1 : 0);
      else if (period) agrees = period->is_number_integer() && *period > 0 && but_every(period->get<int64_t>(), i) == rotated;
    }
    if (agrees) return {};
    return bad_input("{}: '{}' is {}, but which layers of {} models rotate their heads llama.cpp knows by their number alone (all but one in {}); GGUF cannot say "
                     "otherwise", what_, list ? k.rope_key : k.rope_period_key, json_brief(list ? *list : *period), m_.arch.name, k.rope_layers.substr(k.rope_layers.find(' ') + 1));
  }

  const GgufMetadata& m_;
  Artifact& out_;
  std::string what_;
};

}  // namespace

std::string title_of(const std::string& id) {
  std::string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    bool lower = false, upper = false, version = false;
    for (char c : word) lower = lower || (c >= 'a' && c <= 'z'), upper = upper || (c >= 'A' && c <= 'Z');
    if (word[0] >= '0' && word[0] <= '9') version = true;
    if (word.size() > 1 && word[0] == 'v' && word.find_first_not_of("0123456789.", 1) == std::string::npos) version = true;
    if (lower && !upper && !version) {
      bool start = true;
      for (char& c : word) {
        const bool letter = c >= 'a' && c <= 'z';
        if (letter && start) c = static_cast<char>(c - 'a' + 'A');
        start = !letter && static_cast<unsigned char>(c) < 0x80;
      }
    }
    if (!out.empty()) out += ' ';
    out += word;
    word.clear();
  };
  for (char c : id) {
    if (c == '-' || c == ' ') flush();
    else word += c;
  }
  flush();
  return out;
}

std::string size_label(uint64_t n) {
  const auto x = static_cast<double>(n);
  const auto [scale, suffix] = x > 1e12 ? std::pair{1e-12, "T"} : x > 1e9 ? std::pair{1e-9, "B"}
                               : x > 1e6 ? std::pair{1e-6, "M"} : std::pair{1e-3, "K"};
  const double scaled = x * scale;
  const std::string whole = std::to_string(static_cast<int64_t>(std::nearbyint(scaled)));
  const int digits = whole == "0" ? 0 : static_cast<int>(whole.size());
  return fmt::format("{:.{}f}{}", scaled, std::max(2 - digits, 0), suffix);
}

Status add_gguf_metadata(const GgufMetadata& m, Artifact* out) { return Writer(m, out).run(); }

}  // namespace ingot::transform
