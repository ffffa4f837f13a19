// What 'ingot imatrix' is asked for; llama-imatrix's spellings too.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/model_args.h"

namespace ingot::cli {

struct ImatrixArgs {
  std::string model, out, format, svg;
  std::vector<std::string> texts, in_files;
  AdapterArgs adapters;
  int64_t length = 512, chunks = 0, skip = 0;
  bool process_output = false, parse_special = false, statistics = false;

  void declare(Args& args);
  Status check(const Args& args) const;
  bool older() const;  // a .dat file is written
  bool looks() const { return statistics || !svg.empty(); }
};

}  // namespace ingot::cli
