#include "formats/torch_write.h"

#include <algorithm>

#include "formats/output_formats.h"
#include "formats/outputs.h"
#include "formats/pickle_write.h"
#include "formats/shards.h"
#include "formats/torch_types.h"
#include "formats/zip_write.h"
#include "kernels/hash.h"

namespace ingot {

Result<const TorchType*> torch_type_to_write(const NamedSpec& t) {
  if (const TorchType* type = torch_type_of(t.second.type)) return type;
  return usage("writing a torch file: tensor '{}' has the type {}, which torch does not have; {}", t.first, info(t.second.type).name,
               another_type(t.second.type, "a float type"));
}

void put_torch_tensor(PickleWriter* w, const TensorSpec& spec, const TorchType& type, size_t key) {
  const int64_t elements = spec.shape.elements();
  const bool untyped = type.storage.empty();
  w->global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
  w->open_tuple();
  w->open_tuple();
  w->text("storage");
  untyped ? w->global("torch.storage", "UntypedStorage") : w->global("torch", type.storage);
  w->text(std::to_string(key));
  w->text("cpu");
  w->integer(untyped ? static_cast<int64_t>(bytes_of(spec)) : elements);
  w->close_tuple();
  w->persistent();
  w->integer(0);  // offset
  w->open_tuple();
  for (int i = 0; i < spec.shape.rank; ++i) w->integer(spec.shape[i]);
  w->close_tuple();
  w->open_tuple();
  for (int i = 0; i < spec.shape.rank; ++i) w->integer(std::max<int64_t>(spec.shape.stride(i), 1));
  w->close_tuple();
  w->boolean(false);  // requires_grad
  w->global("collections", "OrderedDict");
  w->empty_tuple();
  w->call();
  if (untyped) w->global("torch", type.dtype);
  w->close_tuple();
  w->call();
}

void begin_torch_archive(ZipLayout* zip, const std::string& folder, std::string pickle) {
  zip->add(folder + "/data.pkl", std::move(pickle));
  zip->add(folder + "/.format_version", "1");
  zip->add(folder + "/.storage_alignment", "64");
  zip->add(folder + "/byteorder", "little");
}

void end_torch_archive(ZipLayout* zip, const std::string& folder, const std::string& id) {
  zip->add(folder + "/version", "3\n");
  zip->add(folder + "/.data/serialization_id", id);
  zip->finish();
}

Result<FileLayout> place_torch_archive(const std::vector<NamedSpec>& specs, const TorchWriteState& state, const std::string& folder, const std::vector<int>& which, int file,
                                       std::vector<Placement>* placements) {
  std::vector<size_t> storages(specs.size(), SIZE_MAX);
  for (size_t i = 0; i < which.size(); ++i) storages[static_cast<size_t>(which[i])] = i;
  StateTree tree(state.kinds, !state.values.empty(), "writing a torch file");
  for (const auto& [name, tensor] : state.tensors)
    if (storages[tensor] != SIZE_MAX) INGOT_TRY(tree.add(name, static_cast<int64_t>(tensor)));
  for (const auto& [name, value] : state.values) INGOT_TRY(tree.add(name, value));
  PickleWriter w;
  INGOT_TRY(put_state(&w, tree.finish(), [&](size_t tensor) -> Status {
    INGOT_ASSIGN(const TorchType* type, torch_type_to_write(specs[tensor]));
    put_torch_tensor(&w, specs[tensor].second, *type, storages[tensor]);
    return {};
  }));
  std::string pickle = w.finish();
  const Hash128 id = hash128(as_bytes(pickle));
  FileLayout out;
  ZipLayout zip(&out, 0, 64);
  begin_torch_archive(&zip, folder, std::move(pickle));
  for (size_t i = 0; i < which.size(); ++i) {
    const auto& spec = specs[static_cast<size_t>(which[i])].second;
    (*placements)[static_cast<size_t>(which[i])] = {file, zip.reserve(fmt::format("{}/data/{}", folder, i), bytes_of(spec))};
  }
  end_torch_archive(&zip, folder, fmt::format("{:020}{:020}", id.hi, id.lo));
  return out;
}

namespace {

// The artifact without what shares a tensor with an earlier name, and all its names.
Result<TorchWriteState> take_state(Artifact* a) {
  TorchWriteState s;
  INGOT_ASSIGN(s.kinds, kinds_of(*a));
  std::map<const Node*, size_t> first;
  std::vector<LazyTensor> kept;
  for (const auto& t : a->tensors) {
    const auto [it, fresh] = first.emplace(t.node.get(), kept.size());
    if (fresh) kept.push_back(t);
    s.tensors.emplace_back(t.name, it->second);
  }
  a->tensors = TensorList(std::move(kept));
  for (const auto& [name, text] : a->values) {
    INGOT_ASSIGN(auto value, parse_json_ordered(text, "writing a torch file: the value " + name));
    s.values.emplace_back(name, std::move(value));
  }
  return s;
}

std::vector<int> all_of(const std::vector<NamedSpec>& specs) {
  std::vector<int> v(specs.size());
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<int>(i);
  return v;
}

}  // namespace

Output torch_output(Artifact artifact, Store& store, const std::string& path) {
  Output o;
  // torch names the folder of a file's records by the file.
  const std::string file = file_name(path), folder = file.substr(0, file.rfind('.'));
  o.layout = [state = take_state(&artifact), folder = folder.empty() ? "archive" : folder](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    if (!state.ok()) return state.error();
    Layout l;
    l.tensors.resize(specs.size());
    INGOT_ASSIGN(auto placed, place_torch_archive(specs, *state, folder, all_of(specs), 0, &l.tensors));
    l.files.push_back(std::move(placed));
    return l;
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  return o;
}

Output torch_directory_output(Artifact artifact, Store& store, const std::string& path, uint64_t max_shard) {
  Output o = hf_directory_output(std::move(artifact), store, path, max_shard);
  o.layout = [state = take_state(&o.artifact), files = o.artifact.files, max_shard](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    if (!state.ok()) return state.error();
    return layout_shards(specs, side_files_of(files, specs), max_shard, "pytorch_model", ".bin", state->tensors,
                         [&](const std::vector<int>& which, int file, std::vector<Placement>* placements) {
                           return place_torch_archive(specs, *state, "archive", which, file, placements);
                         });
  };
  return o;
}

extern const OutputFormat kOutput_torch = {"torch", "pt pth bin ckpt", "torch.save's zip files: a state dict, or a directory with pytorch_model.bin", torch_output, torch_directory_output};

}  // namespace ingot
