// Fuzzes directories of a run: lines of names, of which one that ends with / is a directory; after an empty line the text of every `latest` among them and the content of the files.
#include <algorithm>

#include "formats/checkpoints_in.h"
#include "formats/formats.h"
#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all = ingot::fuzzing::text(data, size);
  const size_t end = std::min(all.find("\n\n"), all.size());
  const std::string_view content = end == all.size() ? "" : all.substr(end + 2);
  auto store = ingot::make_memory_store();
  if (!store->make_directory("d").ok()) std::abort();
  size_t files = 0;
  for (size_t from = 0; from < end && files < 32; ++files) {
    const size_t to = std::min(all.find('\n', from), end);
    std::string name(all.substr(from, to - from));
    from = to + 1;
    const bool directory = name.ends_with('/');
    if (directory) name.pop_back();
    // One level, of any name that a directory may have.
    if (name.empty() || name.size() > 200 || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos) continue;
    const std::string path = "d/" + name;
    const auto there = store->stat(path);
    if (!there.ok() || *there) continue;
    if (directory && !store->make_directory(path).ok()) std::abort();
    ingot::fuzzing::put(*store, directory ? path + "/model.safetensors" : path, content);
  }
  const auto there = ingot::look_at(*store, "d");
  if (!there.ok()) std::abort();
  (void)ingot::latest_name(*store, *there);
  for (const bool strays : {false, true})
    if (const auto meant = ingot::checkpoint_meant(*store, *there, strays); meant.ok() && *meant && !(*meant)->path.starts_with("d/")) std::abort();
  if (const auto a = ingot::open_model(*store, "d"); a.ok()) ingot::fuzzing::read_all(*a);
  return 0;
}
