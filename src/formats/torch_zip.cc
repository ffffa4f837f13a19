// Files of torch.save as they open: found by their content, with all their tensors and values.
#include <algorithm>

#include "base/memory.h"
#include "formats/formats.h"
#include "formats/fsdp_ranks.h"
#include "formats/torch_archive.h"
#include "formats/torch_file.h"
#include "formats/zip_read.h"
#include "kernels/hash.h"

namespace ingot {
namespace {

// The name of the first record, which is all that a file's first bytes show.
std::string_view first_record(std::string_view head) {
  if (!head.starts_with("PK\3\4") || head.size() < 30) return "";
  const size_t n = static_cast<unsigned char>(head[26]) | static_cast<size_t>(static_cast<unsigned char>(head[27])) << 8;
  return head.substr(30, n);
}

// Of torch's older form yet, a tar archive of three pickles.
bool is_tar(std::string_view head) { return head.size() > 262 && head.substr(257, 5) == "ustar" && (head.starts_with("sys_info") || head.starts_with("storages") || head.starts_with("pickle") || head.starts_with("tensors")); }

std::string misnamed(const std::string& path) { return fmt::format("{}: it is called a safetensors file, but is one of torch.save; it is read as what it is", path); }

}  // namespace

std::string torch_stem(const std::string& path) {
  const std::string name = file_name(path);
  const size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

int torch_score(std::string_view head, std::string_view name) {
  if (is_torch_legacy(head) || is_tar(head)) return 100;
  if (!ZipFile::is_zip(head)) return 0;
  if (first_record(head).ends_with("/data.pkl")) return 100;
  // Packed again, or by TorchScript, it begins otherwise.
  for (const char* end : {".pt", ".pth", ".bin", ".ckpt", ".safetensors"})
    if (name.ends_with(end)) return 60;
  return head.find("/data.pkl") != std::string_view::npos ? 50 : 5;
}

Result<TorchState> read_torch_zip(const OpenedFile& file) {
  const std::string& path = file.path;
  INGOT_ASSIGN(TorchArchive a, open_torch_archive(file));
  INGOT_ASSIGN(TorchState s, torch_state(a.pickle, std::move(a.tensors), path, torch_stem(path)));
  if (a.script)
    s.notices.push_back(fmt::format("{}: it is a TorchScript archive; of it the parameters are read by the names of their attributes, the code is not", path));
  return s;
}

Result<TorchState> read_torch(const OpenedFile& file) {
  return within_memory("reading " + file.path, [&]() -> Result<TorchState> {
    if (is_tar(file.head))
      return bad_input("reading {}: it is a tar archive, as torch wrote before version 0.2, which torch itself reads only with weights_only=False; save it again with torch",
                       file.path);
    return is_torch_legacy(file.head) ? read_torch_legacy(file) : read_torch_zip(file);
  });
}

Result<std::vector<Result<TorchState>>> read_torch_together(Store& store, const std::string& doing, const std::vector<std::string>& paths) {
  Calls calls;
  std::vector<Result<TorchState>> states(paths.size(), Result<TorchState>(TorchState()));
  for (size_t i = 0; i < paths.size(); ++i)
    calls.push_back([&, i] {
      const auto file = open_head(store, paths[i]);
      states[i] = file.ok() ? read_torch(*file) : Result<TorchState>(file.error());
    });
  INGOT_TRY(call_together(store, doing, calls));
  return states;
}

Result<TorchWeights> read_torch_weights(const OpenedFile& file) {
  const std::string& path = file.path;
  if (torch_score(file.head, path) == 0)
    return bad_input("reading {}: it begins neither as a ZIP archive nor as an older file of torch.save; is the file whole?", path);
  INGOT_ASSIGN(TorchState s, read_torch(file));
  TorchWeights w{{}, std::move(s.notices)};
  if (path.ends_with(".safetensors")) w.notices.push_back(misnamed(path));
  std::string below;
  for (const char* key : {"state_dict/", "model/", "module/", "model_state_dict/"})
    if (below.empty() && std::any_of(s.tensors.begin(), s.tensors.end(), [&](const LazyTensor& t) { return t.name.starts_with(key); })) below = key;
  for (auto& t : s.tensors) {
    if (!t.name.starts_with(below)) continue;
    t.name.erase(0, below.size());
    w.tensors.push_back(std::move(t));
  }
  if (w.tensors.empty()) return bad_input("reading {}: it holds no weights of a model, but {} tensors and {} values of another kind", path, s.tensors.size(), s.values.size());
  if (!below.empty()) w.notices.push_back(fmt::format("{}: of it the tensors below '{}' are the weights", path, below.substr(0, below.size() - 1)));
  return w;
}

namespace {

// A pickle by itself, of NumPy's arrays (detectron2's): by its name, and that it begins as one.
bool is_bare_pickle(const Probe& p) {
  const std::string_view head = p.file.head;
  return (p.path.ends_with(".pkl") || p.path.ends_with(".pickle")) && head.size() > 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5;
}

Result<TorchState> read_bare_pickle(const Probe& p) {
  const uint64_t size = p.file.file->size();
  if (size > Pickle::kMaxBytes) return bad_input("reading {}: it is a pickle of {} bytes, more than the {} that are accepted", p.path, size, Pickle::kMaxBytes);
  std::string bytes(size, '\0');
  INGOT_TRY(p.file.file->read(0, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}));
  auto source = std::make_shared<SourceFile>();
  source->file = p.file.file, source->path = p.path, source->header_hash = to_hex(hash128(as_bytes(bytes)));
  INGOT_ASSIGN(const Pickle pickle, Pickle::run(std::move(bytes), "reading " + p.path));
  INGOT_ASSIGN(TorchState s, torch_state(pickle, TorchTensors(std::move(source), {}), p.path, torch_stem(p.path)));
  if (s.tensors.empty()) return bad_input("reading {}: it is a pickle that holds no arrays of numbers; weights are expected", p.path);
  return s;
}

}  // namespace

int probe_torch(const Probe& p) {
  if (p.directory) return is_fsdp_ranks(p) ? kStrayScore + 10 : 0;
  const int score = torch_score(p.file.head, p.path);
  return score ? score : is_bare_pickle(p) ? 60 : 0;
}

Result<Artifact> open_torch(Store& store, const Probe& p, Faults*) {
  if (p.directory) return read_fsdp_ranks(store, p);
  const bool bare = torch_score(p.file.head, p.path) == 0;
  INGOT_ASSIGN(TorchState s, bare ? read_bare_pickle(p) : read_torch(p.file));
  Artifact a;
  a.path = p.path, a.format = "torch";
  // The names of a nested state are nobody's: they are where its tensors lie.
  if (s.flat) a.naming = "hf";
  a.tensors = std::move(s.tensors), a.values = std::move(s.values), a.notices = std::move(s.notices);
  set_kinds(s.kinds, &a);
  if (p.path.ends_with(".safetensors")) a.notices.push_back(misnamed(p.path));
  return a;
}

}  // namespace ingot
