#include "transform/content_hash.h"

#include <algorithm>
#include <map>

#include "transform/source_form.h"

namespace ingot::transform {
namespace {

Result<Layout> file_for_each(const std::vector<NamedSpec>& specs) {
  Layout l;
  for (size_t i = 0; i < specs.size(); ++i) {
    l.files.push_back({std::to_string(i), bytes_of(specs[i].second), {}});
    l.tensors.push_back({static_cast<int>(i), 0});
  }
  return l;
}

std::string hash_text(const std::string& text) { return to_hex(hash128(as_bytes(text))); }

}  // namespace

std::string ContentHash::Tensor::hash(const Roots& roots) const {
  // GGUF has no tensors without a dimension; the same one must have the same hash there.
  return hash_text(fmt::format("{} {} {}", info(spec.type).name, to_string(spec.shape.rank ? spec.shape : Shape{1}), roots(file)));
}

std::string hash_of(const std::vector<ContentHash::Tensor>& tensors, const ContentHash::Roots& roots) {
  std::string lines;
  for (const auto& t : tensors) lines += fmt::format("{} {}\n", t.name, t.hash(roots));
  return hash_text(lines);
}

uint64_t ContentHash::bytes() const {
  uint64_t bytes = 0;
  for (const auto& t : output.artifact.tensors) bytes += bytes_of(t.spec());
  return bytes;
}

Result<ContentHash> content_hash(const Artifact& a) {
  ContentHash h;
  INGOT_ASSIGN(const Artifact source, source_form(a, &h.as_it_is));
  std::map<NodePtr, size_t> files;  // what is the same in both forms passes once
  const auto add = [&](const Artifact& form, std::vector<ContentHash::Tensor>* to) {
    for (const LazyTensor& t : form.tensors) {
      const auto [file, fresh] = files.emplace(t.node, files.size());
      if (fresh) h.output.artifact.tensors.push_back(t);
      to->push_back({t.name, t.spec(), file->second});
    }
    std::sort(to->begin(), to->end(), [](const auto& x, const auto& y) { return x.name < y.name; });
  };
  add(a, &h.exact);
  add(source, &h.value);
  h.store = make_digest_store();
  h.output.artifact.path = a.path;
  h.output.layout = file_for_each;
  h.output.store = h.store.get();
  h.output.path = "the hashes of " + a.path;
  h.output.directory = true;
  return h;
}

}  // namespace ingot::transform
