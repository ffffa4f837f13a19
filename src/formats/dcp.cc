#include "formats/dcp.h"

#include <algorithm>

#include "formats/chunked_tensor.h"
#include "formats/dcp_files.h"
#include "formats/dcp_shards.h"
#include "formats/safetensors.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxMetadata = 256u << 20;

bool is_data(const Entry& e) { return !e.directory && e.name.ends_with(".distcp"); }

}  // namespace

Result<Artifact> read_dcp(Store& store, const Probe& p, const DcpName& name, StateKinds* kinds) {
  const std::string path = join_path(p.path, kDcpMetadata);
  INGOT_ASSIGN(std::string bytes, read_side_file(store, path, kMaxMetadata));
  if (bytes.empty()) return bad_input("reading {}: it is empty: the save did not end; take an older checkpoint", path);
  INGOT_ASSIGN(const DcpMetadata m, parse_dcp_metadata(std::move(bytes), path));
  INGOT_ASSIGN(const DcpFiles files, DcpFiles::open(store, p.path, m));
  Artifact a;
  a.path = p.path, a.format = "dcp";
  std::vector<LazyTensor> tensors;
  std::vector<std::pair<const DcpEntry*, std::string>> values;
  for (const DcpEntry& e : m.entries) {
    const std::string own = name(e);
    if (!e.tensor) {
      values.emplace_back(&e, own);
      continue;
    }
    std::vector<TensorChunk> chunks;
    for (const DcpChunk& c : e.chunks) {
      INGOT_ASSIGN(auto source, files.chunk(e, c));
      chunks.push_back({c.region, std::move(source)});
    }
    tensors.push_back({own, make_chunked_tensor(own, e.spec, std::move(chunks), files.all())});
  }
  a.tensors = std::move(tensors);
  if (kinds) *kinds = m.kinds;
  INGOT_TRY(files.values(values, &a, kinds));
  return a;
}

int probe_dcp(const Probe& p) {
  if (!p.directory) return p.path.ends_with(".distcp") ? 101 : 0;  // an archive for each of its tensors, one after another
  if (p.find(kDcpMetadata)) return 94;
  if (is_dcp_shards(p)) return 94;
  return std::any_of(p.entries.begin(), p.entries.end(), is_data) ? 50 : 0;
}

Result<Artifact> open_dcp(Store& store, const Probe& p, Faults*) {
  if (!p.directory) return bad_input("opening {}: it is what one rank wrote of a distributed checkpoint; give the directory: {}", p.path, parent_path(p.path));
  if (!p.find(kDcpMetadata)) {
    if (is_dcp_shards(p)) return read_dcp_shards(store, p);
    return bad_input("opening {}: it has data of ranks (*.distcp), but no {}{}: the save did not end, or the file was not copied (its name begins "
                     "with a dot). Copy it, or take an "
                     "older checkpoint", p.path, kDcpMetadata, p.find(".metadata.tmp") ? ", only .metadata.tmp" : "");
  }
  StateKinds kinds;
  INGOT_ASSIGN(Artifact a, read_dcp(store, p, [](const DcpEntry& e) { return e.path; }, &kinds));
  set_kinds(kinds, &a);
  // What a writer put beside the weights travels with them.
  Calls calls;
  SideFiles side;
  std::vector<std::string> names = tokenizer_side_files();
  names.push_back("config.json");
  INGOT_TRY(ask_side_files(store, p, names, &side, &calls));
  INGOT_TRY(call_together(store, "opening " + p.path, calls));
  INGOT_TRY(take_side_files(store, p, std::move(side), &a));
  // A model's state dict alone has its module's names.
  const auto nested = [](const LazyTensor& t) { return t.name.find('/') != std::string::npos; };
  if (a.values.empty() && std::none_of(a.tensors.begin(), a.tensors.end(), nested)) a.naming = "hf";
  return a;
}

}  // namespace ingot
