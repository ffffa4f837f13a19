// The nodes that a LoRA merge puts between the base's tensors and what follows.
#pragma once

#include <string>
#include <vector>

#include "tensor/node.h"

namespace ingot::transform {

struct LoraFactors {
  NodePtr a, b;  // Linear: A [r, in], B [out, r]; embedding: A [r, vocabulary], B [width, r]
  std::string a_name, b_name;
  double scale = 1;
  // The base is [in, out] (fan_in_fan_out, embeddings): W += s (B A)^T.
  bool transposed = false;
};

// W + s B A in f32, F32 out. Shapes and types were checked by the caller. `tensor` is for messages.
NodePtr lora_delta(std::string tensor, NodePtr base, LoraFactors factors);

// base + s x, elementwise in f32, F32 out (lora_bias). Same shapes.
NodePtr add_scaled(NodePtr base, NodePtr x, double scale);

// PEFT's trainable_token_indices: base [rows, width] with row indices[i] taken from row i of `trained` [n, width]; of an index that is
// there twice the last counts. In f32, F32 out. Shapes, types and indices were checked by the caller.
NodePtr with_rows(NodePtr base, NodePtr trained, std::vector<int64_t> indices);

// The words of same_as's error: "{doing}: element [3, 5] of {copy} is 1, of {base} 2; {why}". The tensors are named as their
// files call them; `copy` where the copy stands in none.
struct SameAsText {
  std::string doing, copy, why;
};
// `base` as it is; computing fails where `copy`, of the same shape and in any float type, holds another value. For
// a head that is tied to the embedding and stored all the same.
NodePtr same_as(NodePtr base, NodePtr copy, SameAsText text);

// A matrix of any float type turned, in F32.
NodePtr turned(NodePtr matrix);
// F64, which no codec reads, as F32: each value rounded once.
NodePtr narrowed(NodePtr f64);
// `tensor` as it is; computing fails where it holds NaN or infinity. What an adapter brings as a whole, under the name that its file has for it.
NodePtr finite(NodePtr tensor, std::string name);

}  // namespace ingot::transform
