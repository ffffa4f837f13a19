// Fuzzes the machine that reads pickles, and what goes through its values.
#include <cstdlib>

#include "formats/json.h"
#include "formats/pickle_numpy.h"
#include "formats/pickle_values.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto p = ingot::Pickle::run(std::string(reinterpret_cast<const char*>(data), size), "f");
  if (!p.ok()) return 0;
  if (p->values() > size) std::abort();
  const auto json = ingot::pickle_json(*p, p->root(), "f");
  // What is written is JSON for whoever reads it as Python does.
  if (json.ok() && !ingot::parse_json(*json, "f").ok()) std::abort();
  (void)ingot::pickle_key(p->root());
  std::map<std::string, std::string> values;
  const auto take = [](const std::string&, const ingot::PickleValue& v) { return ingot::Result<bool>(ingot::numpy_array(v).has_value()); };
  if (ingot::flatten_pickle(*p, p->root(), "", "f", take, &values).ok())
    for (const auto& [name, text] : values)
      if (!ingot::parse_json(text, "f").ok()) std::abort();
  return 0;
}
