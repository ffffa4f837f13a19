// A sparse tensor of torch, read as the dense one that it stands for.
#pragma once

#include "tensor/node.h"

namespace ingot {

// COO: `indices` is I64 [n, values], `values` [values, rest..], without a place twice; the shape has n dimensions more than the rest.
NodePtr make_dense_of_coo(std::string name, NodePtr indices, NodePtr values, const Shape& shape);
// CSR of a matrix: `rows` is I64 [rows + 1], `columns` I64 [values]. `turned`: CSC, of which rows are columns.
NodePtr make_dense_of_csr(std::string name, NodePtr rows, NodePtr columns, NodePtr values, const Shape& shape, bool turned);

}  // namespace ingot
