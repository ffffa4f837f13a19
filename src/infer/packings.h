// The packed forms: what a strip of sixteen rows holds of each block type. A value is d * scale * level - dmin * min, where a level is a code less an offset, or what a table of sixteen has for the code.
// A new form is a line here.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/types.h"

namespace ingot {

// Levels by their codes, for types whose levels are not one step apart (quant/levels.h): sixteen at most.
enum class Table { kNone, kIq4, kE2m1, kIq1, kIq2, kIq3Xxs, kOdd };
constexpr std::array<int8_t, 16> table_of(Table t) {
  switch (t) {
    case Table::kIq4: return {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    case Table::kE2m1: return {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    case Table::kIq1: return {-9, -7, -1, 1, 7, 9};
    case Table::kIq2: return {-43, -25, -8, 8, 25, 43};
    case Table::kIq3Xxs: return {-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62};
    case Table::kOdd: return {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};
    case Table::kNone: break;
  }
  return {};
}

struct Form {
  int columns;          // that share d: 256, or 32 where there are no scales beside it
  int bits;             // of a code
  int offset;           // what the byte that is multiplied is above its level
  bool scaled = false;  // a byte of scale for each 32 columns ..
  bool halves = false;  // .. or for each 16; without `scaled` d itself is of 16
  bool min = false;
  bool wide = false;    // d is f32, else f16
  float unit = 1;       // scales are multiples of d * unit
  Table table = Table::kNone;
};

template <DType type, Form form>
struct Packing {
  static constexpr DType kType = type;
  static constexpr int kColumns = form.columns, kBits = form.bits, kOffset = form.offset;
  static constexpr bool kScaled = form.scaled, kHalves = form.halves, kMin = form.min, kWide = form.wide;
  static constexpr float kUnit = form.unit;
  static constexpr bool kTabled = form.table != Table::kNone;
  static constexpr std::array<int8_t, 16> kLevels = table_of(form.table);
  static constexpr int level(int code) { return kTabled ? kLevels[static_cast<size_t>(code)] : code - kOffset; }
  // The greatest byte that is multiplied.
  static constexpr int kRange = [] {
    if (!kTabled) return (1 << kBits) - 1;
    int most = 0;
    for (const int8_t l : kLevels) most = l + kOffset > most ? l + kOffset : most;
    return most;
  }();

  // Offsets within a strip: a header of d [16] (two where it is of 16 columns) and dmin [16], then for every 32 columns scales [16] (or two of them) and minima alike, codes, high bits of codes.
  static constexpr int kNumber = kWide ? 64 : 32;
  static constexpr int kOfMin = (!kScaled && kHalves ? 2 : 1) * kNumber;
  static constexpr int kHeaderBytes = kOfMin + (kMin ? kNumber : 0);
  static constexpr int kScaleBytes = kScaled ? (kHalves ? 32 : 16) : 0;
  static constexpr int kMinBytes = kScaled && kMin ? (kHalves ? 32 : 16) : 0;
  static constexpr int kCodeBytes = kBits == 8 ? 512 : kBits >= 4 ? 256 : 128;
  static constexpr int kHighBytes = kBits == 8 || kBits == 4 || kBits == 2 ? 0 : kBits == 3 ? 64 : (kBits - 4) * 64;
  static constexpr int kBlockBytes = kScaleBytes + kMinBytes + kCodeBytes + kHighBytes;
  static constexpr int kBlocks = kColumns / 32;
  static constexpr int kSuperBytes = kHeaderBytes + kBlocks * kBlockBytes;
};

namespace packings {
using Q8_0 = Packing<DType::kQ8_0, Form{32, 8, 128}>;
using Q8_1 = Packing<DType::kQ8_1, Form{32, 8, 128}>;
using Q8_K = Packing<DType::kQ8_K, Form{.columns = 32, .bits = 8, .offset = 128, .wide = true}>;
using Q1_0 = Packing<DType::kQ1_0, Form{32, 2, 1}>;
using Q2_0 = Packing<DType::kQ2_0, Form{32, 2, 1}>;
using TQ1_0 = Packing<DType::kTQ1_0, Form{32, 2, 1}>;
using TQ2_0 = Packing<DType::kTQ2_0, Form{32, 2, 1}>;
using Q4_0 = Packing<DType::kQ4_0, Form{32, 4, 8}>;
using Q4_1 = Packing<DType::kQ4_1, Form{.columns = 32, .bits = 4, .offset = 0, .min = true}>;
using Q5_0 = Packing<DType::kQ5_0, Form{32, 5, 16}>;
using Q5_1 = Packing<DType::kQ5_1, Form{.columns = 32, .bits = 5, .offset = 0, .min = true}>;
using Q2_K = Packing<DType::kQ2_K, Form{.columns = 256, .bits = 2, .offset = 0, .scaled = true, .halves = true, .min = true}>;
using Q3_K = Packing<DType::kQ3_K, Form{.columns = 256, .bits = 3, .offset = 4, .scaled = true, .halves = true}>;
using Q4_K = Packing<DType::kQ4_K, Form{.columns = 256, .bits = 4, .offset = 0, .scaled = true, .min = true}>;
using Q5_K = Packing<DType::kQ5_K, Form{.columns = 256, .bits = 5, .offset = 0, .scaled = true, .min = true}>;
using Q6_K = Packing<DType::kQ6_K, Form{.columns = 256, .bits = 6, .offset = 32, .scaled = true, .halves = true}>;
using IQ4_NL = Packing<DType::kIQ4_NL, Form{.columns = 32, .bits = 4, .offset = 128, .table = Table::kIq4}>;
using IQ4_XS = Packing<DType::kIQ4_XS, Form{.columns = 256, .bits = 4, .offset = 128, .scaled = true, .table = Table::kIq4}>;
using MXFP4 = Packing<DType::kMXFP4, Form{.columns = 32, .bits = 4, .offset = 12, .wide = true, .table = Table::kE2m1}>;
using NVFP4 = Packing<DType::kNVFP4, Form{.columns = 32, .bits = 4, .offset = 12, .halves = true, .wide = true, .table = Table::kE2m1}>;
// d times an eighth or a fourth may be less than f16 has.
using IQ1_S = Packing<DType::kIQ1_S, Form{.columns = 256, .bits = 3, .offset = 9, .scaled = true, .wide = true, .unit = 0.125f, .table = Table::kIq1}>;
using IQ1_M = Packing<DType::kIQ1_M, Form{.columns = 256, .bits = 3, .offset = 9, .scaled = true, .halves = true, .wide = true, .unit = 0.125f, .table = Table::kIq1}>;
using IQ2_XXS = Packing<DType::kIQ2_XXS, Form{.columns = 256, .bits = 3, .offset = 43, .scaled = true, .wide = true, .unit = 0.125f, .table = Table::kIq2}>;
using IQ2_XS = Packing<DType::kIQ2_XS, Form{.columns = 256, .bits = 3, .offset = 43, .scaled = true, .halves = true, .wide = true, .unit = 0.125f, .table = Table::kIq2}>;
using IQ2_S = Packing<DType::kIQ2_S, Form{.columns = 256, .bits = 3, .offset = 43, .scaled = true, .halves = true, .wide = true, .unit = 0.125f, .table = Table::kIq2}>;
using IQ3_XXS = Packing<DType::kIQ3_XXS, Form{.columns = 256, .bits = 4, .offset = 62, .scaled = true, .wide = true, .unit = 0.25f, .table = Table::kIq3Xxs}>;
using IQ3_S = Packing<DType::kIQ3_S, Form{.columns = 256, .bits = 4, .offset = 15, .scaled = true, .table = Table::kOdd}>;
}  // namespace packings

template <class... Fs, class Fn>
bool with_one_of(DType type, Fn& f) {
  return ((type == Fs::kType && (f(Fs()), true)) || ...);
}

// Calls f(packing) for the type; false when it has none.
template <class Fn>
bool with_packing(DType type, Fn f) {
  using namespace packings;
  return with_one_of<Q8_0, Q8_1, Q8_K, Q1_0, Q2_0, TQ1_0, TQ2_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, NVFP4, IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S>(
      type, f);
}

}  // namespace ingot
