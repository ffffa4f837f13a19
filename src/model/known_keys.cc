#include "model/known_keys.h"

#include <algorithm>

namespace ingot {

Status known_keys(const Json& j, std::initializer_list<std::string_view> keys, const std::string& what) {
  if (!j.is_object()) return bad_input("{}: expected an object, found {}", what, json_brief(j));
  for (auto it = j.begin(); it != j.end(); ++it)
    if (std::find(keys.begin(), keys.end(), it.key()) == keys.end()) return bad_input("{}: unknown key '{}'", what, it.key());
  return {};
}

}  // namespace ingot
