// A model in its source's form: what makes two files of one model comparable, whatever format and float type each is in.
#pragma once

#include <string>

#include "tensor/artifact.h"

namespace ingot::transform {

// The tensors under the names that transformers gives them and in its order of rows, float types of up to 32 bits that ingot can read
// widened to F32, all else as it is. What the source has not (the converter made it), what its architecture drops and the second copy of a
// tied embedding are left out. No metadata and no files.
//
// `as_it_is`: why the names and rows of `a` stay what they are, where they cannot be brought into that form; else empty.
Result<Artifact> source_form(const Artifact& a, std::string* as_it_is = nullptr);

}  // namespace ingot::transform
