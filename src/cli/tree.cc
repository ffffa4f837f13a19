#include "cli/tree.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "cli/text.h"

namespace ingot::cli {

namespace {

constexpr size_t kMaxDepth = 40;  // a name of more parts keeps the rest as one

struct Module {
  std::string name;
  std::vector<Module> parts;  // in their order
  std::map<std::string, size_t> index;
  const LazyTensor* tensor = nullptr;
  uint64_t tensors = 0, bytes = 0;
  std::string form;  // what it holds, whatever its own name
};

Module* part(Module* m, const std::string& name) {
  const auto [it, fresh] = m->index.emplace(name, m->parts.size());
  if (fresh) m->parts.emplace_back().name = name;
  return &m->parts[it->second];
}

void finish(Module* m) {
  if (m->tensor) {
    const TensorSpec s = m->tensor->spec();
    m->tensors = 1, m->bytes = bytes_of(s);
    m->form = fmt::format("{} {};", info(s.type).name, to_string(s.shape));
  }
  for (Module& below : m->parts) {
    finish(&below);
    m->tensors += below.tensors, m->bytes += below.bytes;
    m->form += fmt::format("{}({})", below.name, below.form);
  }
}

bool number_of(const std::string& name, int64_t* n) {
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), *n);
  return error == std::errc() && end == name.data() + name.size();
}

// Numbered modules of one form: "0-3, 5".
std::string numbers(std::vector<int64_t> v) {
  std::sort(v.begin(), v.end());
  std::string out;
  for (size_t i = 0; i < v.size();) {
    size_t last = i;
    while (last + 1 < v.size() && v[last + 1] == v[last] + 1) ++last;
    out += fmt::format("{}{}", out.empty() ? "" : ", ", v[i]);
    if (last > i) out += fmt::format("-{}", v[last]);
    i = last + 1;
  }
  return out;
}

class Printer {
 public:
  void put(const std::string& name, const Module& m, size_t depth, size_t times) {
    const std::string indent(2 * depth, ' ');
    if (m.tensor && m.parts.empty()) {
      const TensorSpec s = m.tensor->spec();
      table_.row({indent + shown(name, 60), std::string(info(s.type).name), times > 1 ? fmt::format("{} x {}", times, to_string(s.shape)) : to_string(s.shape), format_bytes(bytes_of(s) * times)});
      return;
    }
    // A module of one part is a line with it.
    if (m.parts.size() == 1 && !m.tensor) {
      int64_t n = 0;
      if (!number_of(m.parts[0].name, &n)) return put(name.empty() ? m.parts[0].name : name + "." + m.parts[0].name, m.parts[0], depth, times);
    }
    const auto groups = groups_of(m);
    if (groups.size() == 1 && groups[0].size() > 1 && !m.tensor) {
      const std::string all = numbers_of(m, groups[0]);
      return put(name.empty() ? all : name + "." + all, m.parts[groups[0][0]], depth, times * groups[0].size());
    }
    if (!name.empty()) table_.row({indent + shown(name, 60), "", format_count(m.tensors * times) + (m.tensors * times == 1 ? " tensor" : " tensors"), format_bytes(m.bytes * times)});
    const size_t below = name.empty() ? depth : depth + 1;
    if (m.tensor) put("(itself)", leaf(m), below, times);
    for (const auto& g : groups) put(g.size() > 1 ? numbers_of(m, g) : m.parts[g[0]].name, m.parts[g[0]], below, times * g.size());
  }
  std::string str() const { return table_.str(); }

 private:
  // Parts that are one line: numbered modules of one form together.
  static std::vector<std::vector<size_t>> groups_of(const Module& m) {
    std::vector<std::vector<size_t>> groups;
    std::map<std::string_view, size_t> by_form;
    for (size_t i = 0; i < m.parts.size(); ++i) {
      const Module& one = m.parts[i];
      int64_t n = 0;
      const bool folds = number_of(one.name, &n) && !(one.tensor && one.parts.empty());
      const auto [it, fresh] = folds ? by_form.emplace(one.form, groups.size()) : std::pair(by_form.end(), true);
      if (fresh) groups.emplace_back();
      groups[folds ? it->second : groups.size() - 1].push_back(i);
    }
    return groups;
  }
  static std::string numbers_of(const Module& m, const std::vector<size_t>& group) {
    std::vector<int64_t> v;
    for (const size_t i : group) number_of(m.parts[i].name, &v.emplace_back());
    return numbers(std::move(v));
  }
  static Module leaf(const Module& m) {
    Module l;
    l.tensor = m.tensor;
    return l;
  }
  Table table_{{"tensor", "type", "shape", ">size"}};
};

}  // namespace

std::string tensor_tree(const Artifact& a) {
  Module root;
  // States of training are named by paths.
  const char separator = a.values.empty() ? '.' : '/';
  for (const LazyTensor& t : a.tensors) {
    Module* m = &root;
    size_t from = 0, depth = 0;
    for (size_t to; ++depth < kMaxDepth && (to = t.name.find_first_of(separator == '/' ? "/." : ".", from)) != std::string::npos; from = to + 1)
      m = part(m, t.name.substr(from, to - from));
    part(m, t.name.substr(from))->tensor = &t;
  }
  finish(&root);
  Printer p;
  p.put("", root, 0, 1);
  return p.str();
}

}  // namespace ingot::cli
