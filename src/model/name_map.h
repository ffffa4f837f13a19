// How another framework names the tensors of a model that transformers has a class for, what it fuses, and what it calls the numbers of config.json. All of it is
// data (data/names/*.json); transform/hf_names.h applies it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/json.h"

namespace ingot {

// Values of the framework's own configuration by name, each one of a list, null for absent; an empty list: any value but null.
using NameConditions = std::map<std::string, std::vector<Json>>;

// One tensor of the framework, of several spellings, and those of Hugging Face whose rows it has, one below another. {i} is the layer, {e} an expert; without {e}
// in `from` the experts are stacked along a first dimension.
struct NameRule {
  std::vector<std::string> from, hf;
  std::string groups;   // the param of the architecture that counts groups, each of which has rows of every one in `hf`
  bool padded = false;  // may have more rows than the class has, at its end
};

struct NamedConfig {
  std::string key, also;           // of config.json: where it is written, and where it may stand besides
  std::vector<std::string> from;   // the first that the framework's configuration has
  std::string rows_of;             // else the rows of this tensor
  Json value;                      // else this
  NameConditions when;
  std::vector<std::string> classes;  // of these only; empty: of all
  bool optional = false;
  bool unchecked = false;          // a config.json that is given may say another
};

struct NamedClass {
  std::string name;
  NameConditions when;
};

struct NameMap {
  std::string name, about;
  std::vector<std::string> prefixes;   // taken off as often as they stand there
  std::vector<std::string> leave_out;  // ends of names: no weights
  std::vector<NamedClass> classes;     // the first that has all of the tensors is taken
  std::vector<NameRule> tensors;
  std::string values;                  // where among a checkpoint's plain values its configuration lies; a name that begins with '/' lies at the top
  NameConditions require;
  std::vector<NamedConfig> config;
};

Result<NameMap> parse_name_map(std::string_view json, const std::string& what);
// All that are built in.
Result<const std::vector<NameMap>*> name_maps();

}  // namespace ingot
