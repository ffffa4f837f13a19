// What DeepSpeed's engine.save_checkpoint and ds_to_universal leave. Tensors are called model/NAME as the module holds them, master/NAME the float32 copies that the
// optimizer steps, exp_avg/NAME and so on its state, step/NAME where that is a tensor.
#pragma once

#include "formats/formats.h"
#include "formats/torch_archive.h"

namespace ingot {

// "zero_pp_rank_3_mp_rank_00_optim_states.pt": whose file it is.
struct DeepspeedFile {
  std::string name;
  int64_t dp = -1, mp = 0;  // dp -1: of all data-parallel ranks
  bool optimizer = false;
};
std::optional<DeepspeedFile> deepspeed_file(std::string_view name);
// Of the directory of a tag those files, by ranks; what ingot does not join is an error.
Result<std::vector<DeepspeedFile>> deepspeed_files(const Probe& tag);

// The parameters of param_shapes or frozen_param_shapes, in their order and group.
struct DeepspeedParam {
  std::string name;
  Shape shape;
  size_t group = 0;
};
Result<std::vector<DeepspeedParam>> deepspeed_params(const PickleValue* shapes, const std::string& path);

// The plain values of a dict below `prefix`, tensors aside, without those whose names begin with one of `but`.
Status deepspeed_values(const Pickle& pickle, const PickleValue& from, const std::string& prefix, const std::string& path,
                        const std::vector<std::string>& but, Artifact* a);

Result<Artifact> read_deepspeed_zero(Store& store, const Probe& tag);
Result<Artifact> read_deepspeed_universal(Store& store, const Probe& tag);

}  // namespace ingot
