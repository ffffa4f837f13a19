#include "exec/key.h"

#include <fmt/format.h>

#include <set>

#include "exec/plan.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

void describe(const MetaValue& v, std::string& out) {
  std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<T, MetaArray>) {
          for (const auto& e : x) describe(e, out);
        } else if constexpr (std::is_same_v<T, std::string>) {
          out += x + ";";
        } else if constexpr (requires { x.size(); }) {
          for (const auto& e : x) out += fmt::format("{};", e);
        } else {
          out += fmt::format("{};", x);
        }
      },
      v.v);
}

// Every file that the outputs are read from.
void collect_sources(const Node& node, std::set<const void*>& seen, std::vector<const ReadFile*>& files) {
  if (!seen.insert(&node).second) return;
  if (const auto* source = dynamic_cast<const Source*>(&node))
    if (const ReadFile* f = source->file(); f && seen.insert(f).second) files.push_back(f);
  for (const auto& in : node.inputs()) collect_sources(*in, seen, files);
}

}  // namespace

Result<std::string> job_key(const std::vector<Output>& outputs, const ExecOptions& o) {
  std::string text = fmt::format("ingot job 2|{}|{}", o.seed, o.leaf_bytes);
  for (const auto& out : outputs) {
    text += fmt::format("|{}", out.directory);
    for (const auto& t : out.artifact.tensors) text += "|" + t.name + graph_identity(*t.node);
    INGOT_ASSIGN(const Layout layout, layout_of(out));
    for (const auto& f : layout.files) {
      text += fmt::format("|{}:{}", f.name, f.size);
      for (const auto& b : f.extents) text += fmt::format(":{}:{}", b.offset, to_hex(hash128(as_bytes(b.bytes))));
      for (const auto& c : f.checksums) text += fmt::format(":{}={}-{}", c.at, c.begin, c.end);
    }
    for (const auto& p : layout.tensors) text += fmt::format("|{}@{}", p.file, p.offset);
    for (const auto& [k, v] : out.artifact.metadata) {
      text += "|" + k + "=";
      describe(v, text);
    }
  }
  return to_hex(hash128(as_bytes(text)));
}

std::vector<const ReadFile*> sources_of(const std::vector<Output>& outputs) {
  std::set<const void*> seen;
  std::vector<const ReadFile*> files;
  for (const auto& o : outputs)
    for (const auto& t : o.artifact.tensors) collect_sources(*t.node, seen, files);
  return files;
}

std::string sources_stamp(const std::vector<const ReadFile*>& sources) {
  std::string text;
  for (const ReadFile* f : sources) text += f->stamp() + "|";
  return to_hex(hash128(as_bytes(text)));
}

}  // namespace ingot
