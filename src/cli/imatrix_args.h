// What 'ingot imatrix' is asked for; llama-imatrix's spellings too.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/model_args.h"
#include "infer/model.h"

namespace ingot::cli {

struct ImatrixArgs {
  std::string model, out, format, svg;
  std::vector<std::string> texts, in_files;
  AdapterArgs adapters;
  int64_t length = 512, chunks = 0, skip = 0;
  Arithmetic arithmetic = Arithmetic::kExact;
  bool process_output = false, parse_special = false, statistics = false;

  void declare(Args& args);
  Status check(const Args& args);
  bool older() const;  // a .dat file is written
  bool looks() const { return statistics || !svg.empty(); }

 private:
  std::string how_;
};

}  // namespace ingot::cli
