// Reading GGUF: what the header tells of must lie in the file, and nothing else; a set of splits is one model.
#include <algorithm>
#include <span>

#include "formats/formats.h"
#include "formats/gguf.h"
#include "formats/gguf_endian.h"
#include "formats/gguf_header.h"
#include "formats/gguf_scales.h"

namespace ingot {
namespace {

constexpr size_t kMaxFaults = 20;  // that are told of one file

// A contradiction of the file with itself: an error, or told to whoever only looks.
Status fault(Faults* faults, Error e) {
  if (!faults) return e;
  if (faults->size() < kMaxFaults) faults->push_back(std::move(e.message));
  return {};
}

// Where tensors and data must be: everything within the file, aligned, each byte of the data in one tensor or in the
// padding up to the alignment. llama.cpp loads nothing else.
struct DataPart {
  uint64_t begin, size, alignment;
};
Status check_placement(const std::vector<GgufInfo>& infos, DataPart data, const ReadFile& file, const std::string& path, Faults* faults) {
  std::vector<const GgufInfo*> by_offset;
  for (const auto& t : infos) {
    const uint64_t size = bytes_of(t.spec);
    uint64_t end = 0;
    if (!checked_add(t.offset, size, &end) || !checked_add(data.begin, end, &end))
      return bad_input("reading {}: tensor '{}' starts at offset {}, beyond what a file can hold; the header is damaged", path, t.name,
                       t.offset);
    if (t.offset % data.alignment != 0)
      INGOT_TRY(fault(faults, bad_input("reading {}: tensor '{}' starts at offset {}, expected a multiple of {}; the header is damaged",
                                        path, t.name, t.offset, data.alignment)));
    if (t.offset + size > data.size)
      INGOT_TRY(fault(faults, bad_input("reading {}: tensor '{}' needs bytes {} to {} of the data, but the file holds only {}; it is "
                                        "truncated, copy it again",
                                        path, t.name, t.offset, t.offset + size, data.size)));
    if (size) by_offset.push_back(&t);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
  uint64_t end = 0;  // of the data that belongs to tensors so far
  for (size_t i = 0; i < by_offset.size(); ++i) {
    const GgufInfo& t = *by_offset[i];
    if (i && t.offset < end)
      INGOT_TRY(fault(faults, bad_input("reading {}: tensors '{}' and '{}' overlap; the header is damaged", path, by_offset[i - 1]->name,
                                        t.name)));
    else if (t.offset > align_up(end, data.alignment))
      INGOT_TRY(fault(faults, bad_input("reading {}: bytes {} to {} of the data, before tensor '{}', belong to no tensor; expected it to "
                                        "start at {}: the header is damaged, or another program left a hole",
                                        path, end, t.offset, t.name, align_up(end, data.alignment))));
    end = std::max(end, t.offset + bytes_of(t.spec));
  }
  // Writers pad the last tensor to the alignment or to the format's 32, or not at all.
  const uint64_t last = std::max(align_up(end, data.alignment), align_up(end, 32));
  char next[4] = {};  // of what follows
  if (data.size > last && data.size - last >= sizeof next) INGOT_TRY(file.read(data.begin + last, std::as_writable_bytes(std::span(next))));
  if (std::string_view(next, sizeof next) == "GGUF")
    INGOT_TRY(fault(faults, bad_input("reading {}: after its {} bytes another GGUF file begins: files were joined by their bytes, as cat does. Splits are no parts of a file's "
                                      "bytes: give the first of the originals (...-00001-of-0000N.gguf), or make one file of them: ingot gguf merge", path, data.begin + last)));
  else if (data.size > last)
    INGOT_TRY(fault(faults, bad_input("reading {}: it has {} bytes, but what its header tells of ends at byte {}: bytes were added, or the "
                                      "header is damaged; copy it again",
                                      path, data.begin + data.size, data.begin + end)));
  return {};
}

// Adds one file's metadata and tensors.
Status read_file(const OpenedFile& opened, Artifact* a, Faults* faults) {
  INGOT_ASSIGN(GgufHeader h, read_gguf_header(opened));
  auto source = std::make_shared<SourceFile>();
  source->path = opened.path;
  source->file = opened.file;
  source->header_hash = std::move(h.hash);
  const uint64_t size = opened.file->size();
  if (!h.tensors.empty() && h.data > size)
    INGOT_TRY(fault(faults, bad_input("reading {}: the file ends at byte {}, before the data at {}; it is truncated, copy it again", opened.path, size, h.data)));
  INGOT_TRY(check_placement(h.tensors, {h.data, size > h.data ? size - h.data : 0, h.alignment}, *opened.file, opened.path, faults));
  a->metadata = std::move(h.metadata);
  for (auto& t : h.tensors) {
    NodePtr node = make_file_tensor(source, t.name, h.data + t.offset, t.spec);
    a->tensors.push_back({t.name, h.big_endian ? little_endian(std::move(node)) : std::move(node)});
  }
  return {};
}

std::optional<int64_t> small_int(const Artifact& a, std::string_view key) {
  const MetaValue* m = a.meta(key);
  if (!m) return std::nullopt;
  if (auto* v = std::get_if<uint16_t>(&m->v)) return *v;
  if (auto* v = std::get_if<uint32_t>(&m->v)) return *v;
  if (auto* v = std::get_if<int32_t>(&m->v)) return *v;
  return std::nullopt;
}

struct Part {
  bool there = true;
  Status status;  // of reading it
  Artifact piece;
  Faults faults;
};

Part read_part(Store& store, const std::string& path, bool look_only) {
  Part p;
  auto opened = open_head(store, path);
  if (opened.ok()) {
    p.status = read_file(*opened, &p.piece, look_only ? &p.faults : nullptr);
    return p;
  }
  const auto stat = store.stat(path);
  p.there = !stat.ok() || *stat;
  p.status = stat.ok() ? opened.take_error() : stat.error();
  return p;
}

// model-00001-of-00003.gguf and its siblings; the first one carries the metadata.
Status read_splits(Store& store, const std::string& path, int64_t count, Artifact* a, Faults* faults) {
  if (count > static_cast<int64_t>(kMaxGgufSplits))
    return fault(faults, bad_input("opening {}: split.count is {}, expected at most {}", path, count, kMaxGgufSplits));
  const std::string tail = fmt::format("-00001-of-{:05}.gguf", count);
  if (path.size() < tail.size() || path.substr(path.size() - tail.size()) != tail)
    return fault(faults, small_int(*a, "split.no") == 0
                             ? bad_input("opening {0}: it is the first of a set of {1} files, but has not the name of one, by which the others are found: give it the name that "
                                         "they have, ...{2}", path, count, tail)
                             : bad_input("opening {}: it is part of a set of {} files; give the first one, named ...{}", path, count, tail));
  const std::string stem = path.substr(0, path.size() - tail.size());
  // Not all at once: of a set that claims thousands of parts and has none, a few are looked for.
  constexpr int64_t kTogether = 64;
  std::vector<Part> parts;
  for (int64_t i = 2; i <= count && (!faults || faults->size() < kMaxFaults); ++i) {
    const auto path_of = [&](int64_t n) { return fmt::format("{}-{:05}-of-{:05}.gguf", stem, n, count); };
    const size_t at = static_cast<size_t>(i - 2) % kTogether;
    if (at == 0) {
      parts = std::vector<Part>(static_cast<size_t>(std::min(kTogether, count - i + 1)));
      Calls calls;
      for (size_t k = 0; k < parts.size(); ++k)
        calls.push_back([&, k] { parts[k] = read_part(store, path_of(i + static_cast<int64_t>(k)), faults != nullptr); });
      INGOT_TRY(call_together(store, "opening " + path, calls));
    }
    Part& part = parts[at];
    if (!part.there) {
      INGOT_TRY(fault(faults, bad_input("opening {}: its part {} is not there; download it", path, path_of(i))));
      continue;
    }
    INGOT_TRY(std::move(part.status));
    for (auto& f : part.faults) INGOT_TRY(fault(faults, Error{ErrorKind::kBadInput, std::move(f)}));
    if (small_int(part.piece, "split.no") != i - 1 || small_int(part.piece, "split.count") != count)
      INGOT_TRY(fault(faults, bad_input("opening {}: {} says that it is another part; the set is mixed up", path, path_of(i))));
    for (const auto& t : part.piece.tensors) {
      if (!a->find(t.name))
        a->tensors.push_back(t);
      else
        INGOT_TRY(fault(faults, bad_input("opening {}: the tensor '{}' is in two parts", path, t.name)));
    }
  }
  if (auto n = small_int(*a, "split.tensors.count"); n && *n != static_cast<int64_t>(a->tensors.size()))
    INGOT_TRY(fault(faults, bad_input("opening {}: the parts hold {} tensors, expected {}", path, a->tensors.size(), *n)));
  std::erase_if(a->metadata, [](const auto& kv) { return kv.first.starts_with("split."); });
  return {};
}

// llama-imatrix's: sums and counts of a model's weights, under names of their own.
void tell_imatrix(Artifact* a) {
  if (const auto* type = meta_string(*a, "general.type"); type && *type == "imatrix") a->naming = "imatrix";
}

}  // namespace

int probe_gguf(const Probe& p) {
  if (p.directory) return 0;
  if (p.file.head.starts_with("GGUF")) return 100;
  return p.path.size() > 5 && p.path.ends_with(".gguf") ? 30 : 0;
}

Result<Artifact> open_gguf_file(Store& store, const std::string& path) {
  INGOT_ASSIGN(const OpenedFile file, open_head(store, path));
  Artifact a;
  a.path = path;
  a.format = a.naming = "gguf";
  INGOT_TRY(read_file(file, &a, nullptr));
  return a;
}

Result<Artifact> open_gguf(Store& store, const Probe& p, Faults* faults) {
  Artifact a;
  a.path = p.path;
  a.format = a.naming = "gguf";
  INGOT_TRY(read_file(p.file, &a, faults));
  if (auto n = small_int(a, "split.count"); n && *n > 1) INGOT_TRY(read_splits(store, p.path, *n, &a, faults));
  tell_imatrix(&a);
  if (Status bound = bind_gguf_scales(&a); !bound.ok()) INGOT_TRY(fault(faults, bound.take_error()));
  return a;
}

}  // namespace ingot
