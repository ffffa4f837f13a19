#include "formats/pickle_numpy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "formats/json.h"

namespace ingot {
namespace {

bool is_numpy(const PickleValue& v, std::string_view part, std::string_view name) {
  if (v.kind() != PickleKind::kGlobal || v.name() != name) return false;
  const std::string_view m = v.module();
  return m.starts_with("numpy") && (part.empty() ? m == "numpy" : m.ends_with(part));
}

// numpy.dtype('f8', ..) with the state (3, '<', ..).
bool read_dtype(const PickleValue* v, NumpyArray* a) {
  if (!v || !v->is_object() || !is_numpy(*v->object()->callable, "", "dtype")) return false;
  const PickleValue* text = v->object()->args->at(0);
  if (!text || text->text().size() < 2) return false;
  std::string_view s = text->text();
  if (s[0] == '<' || s[0] == '>' || s[0] == '|') a->big_endian = s[0] == '>', s.remove_prefix(1);
  a->kind = s.empty() ? '\0' : s[0];
  const auto r = std::from_chars(s.data() + 1, s.data() + s.size(), a->item);
  if (r.ec != std::errc() || r.ptr != s.data() + s.size() || a->item < 1 || a->item > 1 << 20) return false;
  if (const PickleValue* state = v->state(); state && state->at(1)) a->big_endian = state->at(1)->text() == ">";
  return true;
}

bool read_shape(const PickleValue* v, NumpyArray* a) {
  if (!v || !v->is_sequence() || v->size() > 8) return false;
  uint64_t n = 1;
  for (const PickleValue* d : v->items()) {
    const auto i = d->as_int();
    if (!i || *i < 0 || !checked_mul(n, static_cast<uint64_t>(*i), &n) || n > INT64_MAX) return false;
    a->shape.push_back(*i);
  }
  a->elements = static_cast<int64_t>(n);
  return true;
}

bool read_bytes(const PickleValue* v, bool content, NumpyArray* a) {
  uint64_t want = 0;
  if (!v || (v->kind() != PickleKind::kBytes && !v->is_text()) || !checked_mul(static_cast<uint64_t>(a->elements), static_cast<uint64_t>(a->item), &want)) return false;
  if (want > v->stored() || !content) return want <= v->stored();
  a->bytes = v->bytes();
  return want == a->bytes.size();
}

double half(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double v = exponent == 31 ? (mantissa ? NAN : INFINITY) : exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  return h >> 15 ? -v : v;
}

}  // namespace

bool is_numpy_array(const PickleValue& v) {
  if (!v.is_object()) return false;
  const PickleValue& f = *v.object()->callable;
  return is_numpy(f, "multiarray", "_reconstruct") || is_numpy(f, "numeric", "_frombuffer");
}

std::optional<NumpyArray> numpy_array(const PickleValue& v, bool content) {
  if (!v.is_object()) return std::nullopt;
  const PickleValue &f = *v.object()->callable, &args = *v.object()->args;
  NumpyArray a;
  bool ok = false;
  if (is_numpy(f, "multiarray", "scalar")) {
    a.scalar = true;
    ok = read_dtype(args.at(0), &a) && read_bytes(args.at(1), content, &a);
  } else if (is_numpy(f, "multiarray", "_reconstruct") && v.state()) {  // (version, shape, dtype, fortran, bytes)
    const PickleValue& s = *v.state();
    ok = read_shape(s.at(1), &a) && read_dtype(s.at(2), &a) && read_bytes(s.at(4), content, &a);
    if (ok && s.at(3)) a.fortran = s.at(3)->as_bool().value_or(false);
  } else if (is_numpy(f, "numeric", "_frombuffer")) {  // (bytes, dtype, shape, order)
    ok = read_dtype(args.at(1), &a) && read_shape(args.at(2), &a) && read_bytes(args.at(0), content, &a);
    if (ok && args.at(3)) a.fortran = args.at(3)->text() == "F";
  }
  return ok ? std::optional(std::move(a)) : std::nullopt;
}

std::string numpy_in_order(const NumpyArray& a) {
  std::string out = a.bytes;
  const auto item = static_cast<size_t>(a.item), unit = a.kind == 'c' ? item / 2 : item;
  if (a.fortran && a.shape.size() > 1) {
    std::vector<int64_t> index(a.shape.size(), 0);
    for (size_t to = 0; to < out.size(); to += item) {
      int64_t at = 0;
      for (size_t d = index.size(); d-- > 0;) at = at * a.shape[d] + index[d];
      std::memcpy(out.data() + to, a.bytes.data() + static_cast<size_t>(at) * item, item);
      for (size_t d = index.size(); d > 0 && ++index[d - 1] == a.shape[d - 1];) index[--d] = 0;
    }
  }
  if (a.big_endian && unit > 1)
    for (auto at = out.begin(); at != out.end(); at += static_cast<ptrdiff_t>(unit)) std::reverse(at, at + static_cast<ptrdiff_t>(unit));
  return out;
}

std::string numpy_element(const NumpyArray& a, int64_t i) {
  char b[8] = {};
  if (a.item > 8 || (a.item & (a.item - 1)) || i < 0 || i >= a.elements) return "";
  std::memcpy(b, a.bytes.data() + i * a.item, static_cast<size_t>(a.item));
  if (a.big_endian) std::reverse(b, b + a.item);
  uint64_t u = 0;
  std::memcpy(&u, b, sizeof u);
  switch (a.kind) {
    case 'b': return a.item == 1 ? (u ? "true" : "false") : "";
    case 'u': return fmt::format("{}", u);
    case 'i': {
      const int unused = 64 - 8 * static_cast<int>(a.item);
      return fmt::format("{}", static_cast<int64_t>(u << unused) >> unused);
    }
    case 'f': {
      if (a.item == 1) return "";
      double d = a.item == 8 ? std::bit_cast<double>(u) : a.item == 4 ? double{std::bit_cast<float>(static_cast<uint32_t>(u))} : half(static_cast<uint16_t>(u));
      return json_double(d);
    }
    default: return "";
  }
}

}  // namespace ingot
