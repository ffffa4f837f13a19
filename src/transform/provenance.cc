#include "transform/provenance.h"

#include "formats/manifest.h"

namespace ingot::transform {
namespace {

// Stands for a hash and is as long: this and five digits, the number of the hash twice, plus one for its value.
constexpr std::string_view kPlace = "ingot-manifest-placeholder-";
constexpr size_t kPlaceSize = kPlace.size() + 5;
static_assert(kPlaceSize == 32);

using Hashes = std::shared_ptr<const std::vector<ContentHash>>;

// The places in a file's fixed bytes become late extents. `found` counts them.
void make_late(FileLayout* file, const Hashes& hashes, size_t first_output, size_t* found) {
  std::vector<Extent> out;
  for (const Extent& e : file->extents) {
    size_t done = 0;
    for (size_t at; !e.late && (at = e.bytes.find(kPlace, done)) != std::string::npos; done = at + kPlaceSize, ++*found) {
      const std::string place = e.bytes.substr(at, kPlaceSize);
      const size_t n = std::strtoul(place.c_str() + kPlace.size(), nullptr, 10);
      if (at > done) out.push_back({e.offset + done, e.bytes.substr(done, at - done), nullptr});
      out.push_back({e.offset + at, place, [hashes, n, first_output](const Digests& digests) -> Result<std::string> {
                       if (n / 2 >= hashes->size()) return failed("filling in a manifest: there is no hash number {}", n);
                       const ContentHash& h = (*hashes)[n / 2];
                       return hash_of(n % 2 ? h.value : h.exact, [&](size_t f) { return digests(first_output + n / 2, f); });
                     }});
    }
    if (done < e.bytes.size()) out.push_back({e.offset + done, e.bytes.substr(done), e.late});
  }
  file->extents = std::move(out);
}

}  // namespace

void Operations::collect(const NodePtr& node, std::set<std::string>* steps) {
  if (!seen_.insert(node).second) return;
  if (!dynamic_cast<const Source*>(node.get())) steps->insert(node->describe());
  for (const auto& in : node->inputs()) collect(in, steps);
}

void Operations::add(const char* operation, OrderedJson options, const Artifact& made) {
  std::set<std::string> steps;
  for (const auto& t : made.tensors) collect(t.node, &steps);
  OrderedJson j = {{"operation", operation}};
  j.update(options);
  if (!steps.empty()) j["steps"] = steps;
  list_.push_back(std::move(j));
}

OrderedJson Provenance::places(size_t hash) const {
  return {{"exact", fmt::format("{}{:05}", kPlace, 2 * hash)}, {"value", fmt::format("{}{:05}", kPlace, 2 * hash + 1)}};
}

Status Provenance::add_input(const Artifact& opened, const std::string& manifest) {
  OrderedJson j = {{"format", opened.format}};
  j.update(places(hashes_.size()));
  claimed_.emplace_back();
  if (!manifest.empty()) {
    INGOT_ASSIGN(const Manifest own, parse_manifest(manifest, opened.path));
    claimed_.back() = own.content.exact;
    for (const auto& m : own.inputs) j["inputs"].push_back({{"format", m.format}, {"exact", m.exact}, {"value", m.value}});
  }
  inputs_.push_back(std::move(j));
  INGOT_ASSIGN(ContentHash hash, content_hash(opened));
  hashes_.push_back(std::move(hash));
  return {};
}

std::vector<std::string> Provenance::contradictions(const ExecReport& report) const {
  std::vector<std::string> out;
  for (size_t i = 0; i < claimed_.size() && report.digests.size() >= hashes_.size(); ++i) {
    const auto& roots = report.digests[report.digests.size() - hashes_.size() + i];
    const std::string exact = hash_of(hashes_[i].exact, [&](size_t f) { return roots[f]; });
    if (!claimed_[i].empty() && claimed_[i] != exact)
      out.push_back(fmt::format("the tensors of {} are not those that its manifest tells of (exact hash {}, in the manifest {}): something else "
                                "changed or made it, and the inputs named in the manifest may not be what it comes from",
                                hashes_[i].output.artifact.path, exact, claimed_[i]));
  }
  return out;
}

Result<Artifact> Provenance::tell(Artifact made, const Operations& operations, bool directory) {
  const OrderedJson j = {{"format", kManifestFormat}, {"ingot", version_}, {"inputs", inputs_}, {"operations", operations.list()},
                         {"seed", seed_}, {"content", places(hashes_.size())}};
  // As whoever opens the file finds it: a file of weights alone has no configuration.
  Artifact opened = made;
  if (!directory) opened.files.clear();
  INGOT_ASSIGN(ContentHash hash, content_hash(opened));
  hashes_.push_back(std::move(hash));
  put_manifest(&made, directory ? json_text(j) : j.dump(-1, ' ', true, OrderedJson::error_handler_t::replace), directory);
  return made;
}

std::vector<Output> Provenance::complete(std::vector<Output> outputs) const {
  const size_t first = outputs.size(), places = 2 * (inputs_.size() + 1);
  const Hashes hashes = std::make_shared<const std::vector<ContentHash>>(hashes_);
  for (Output& o : outputs)
    o.layout = [=, made = std::move(o.layout)](const std::vector<NamedSpec>& specs) -> Result<Layout> {
      INGOT_ASSIGN(Layout l, made(specs));
      size_t found = 0;
      for (FileLayout& f : l.files) make_late(&f, hashes, first, &found);
      // Of the files of one GGUF model only the first has the manifest.
      if (found && found != places)
        return bad_input("its metadata or a file beside its weights has the text '{}', which --provenance uses itself; leave --provenance out",
                         kPlace);
      return l;
    };
  for (const auto& h : *hashes) outputs.push_back(h.output);
  return outputs;
}

uint64_t Provenance::hash_bytes() const {
  uint64_t bytes = 0;
  for (const auto& h : hashes_) bytes += h.bytes();
  return bytes;
}

size_t Provenance::hash_files() const {
  size_t files = 0;
  for (const auto& h : hashes_) files += h.output.artifact.tensors.size();
  return files;
}

}  // namespace ingot::transform
