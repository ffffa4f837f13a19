// The importance matrices that llama-imatrix wrote before it wrote GGUF (imatrix.cc reads them).
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "formats/json.h"
#include "formats/outputs.h"

namespace ingot {

Output imatrix_output(Artifact artifact, Store& store, const std::string& path, std::function<Result<std::vector<int32_t>>()> calls) {
  Output o;
  o.layout = [values = artifact.values, calls = std::move(calls), path](const std::vector<NamedSpec>& specs) -> Result<Layout> {
    std::vector<int32_t> known(specs.size());
    if (!calls) {
      const auto it = values.find("calls");
      INGOT_ASSIGN(const Json j, parse_json(it == values.end() ? "[]" : it->second, path));
      if (!j.is_array() || j.size() != specs.size()) return bad_input("writing {}: there are {} entries and {} counts of calls", path, specs.size(), j.size());
      for (size_t i = 0; i < known.size(); ++i) known[i] = j[i].is_number_integer() ? j[i].get<int32_t>() : 0;
    }
    Layout l;
    FileLayout f;
    ByteWriter w;  // what stands before the next tensor
    const auto end_extent = [&](uint64_t at) {
      if (w.size()) f.extents.push_back({at - w.size(), std::exchange(w.str(), {})});
    };
    uint64_t at = sizeof(int32_t);
    w.write(static_cast<int32_t>(specs.size()));
    for (size_t i = 0; i < specs.size(); ++i) {
      const auto& [name, spec] = specs[i];
      if (spec.type != DType::kF32 || spec.shape.elements() > INT32_MAX)
        return bad_input("writing {}: '{}' has {} values of {}, but the format has F32 and at most {}", path, name, spec.shape.elements(), info(spec.type).name, INT32_MAX);
      w.text(name);
      at += sizeof(int32_t) + name.size();
      if (calls) {
        end_extent(at);
        f.extents.push_back({at, std::string(sizeof(int32_t), '\0'), [calls, i](const Digests&) -> Result<std::string> {
                               INGOT_ASSIGN(const std::vector<int32_t> all, calls());
                               std::string bytes(sizeof(int32_t), '\0');
                               std::memcpy(bytes.data(), &all[i], sizeof(int32_t));
                               return bytes;
                             }});
      } else {
        w.write(known[i]);
      }
      w.write(static_cast<int32_t>(spec.shape.elements()));
      at += 2 * sizeof(int32_t);
      end_extent(at);
      l.tensors.push_back({0, at});
      at += bytes_of(spec);
    }
    const auto chunks = values.find("chunks"), dataset = values.find("dataset");
    w.write(static_cast<int32_t>(chunks == values.end() ? 0 : std::strtol(chunks->second.c_str(), nullptr, 10)));
    INGOT_ASSIGN(const Json text, parse_json(dataset == values.end() ? "\"\"" : dataset->second, path));
    w.text(text.is_string() ? text.get<std::string>() : "");
    f.size = at + w.size();
    end_extent(f.size);
    l.files.push_back(std::move(f));
    return l;
  };
  o.artifact = std::move(artifact);
  o.store = &store;
  o.path = path;
  return o;
}

}  // namespace ingot
