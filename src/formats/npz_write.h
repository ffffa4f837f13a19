// NumPy's .npz: a ZIP archive with one .npy file a tensor (NEP 1: format version 1.0). np.load reads it.
#pragma once

#include <string>

#include "exec/executor.h"

namespace ingot {

Output npz_output(Artifact artifact, Store& store, const std::string& path);

}  // namespace ingot
