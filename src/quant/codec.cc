// The table of codecs.
#include "quant/codec.h"

namespace ingot {

#define CODEC(x) extern const Codec kCodec##x;
#include "quant/codecs.def"
#undef CODEC

const Codec* find_codec(DType t) {
  switch (t) {
#define CODEC(x)    \
  case DType::k##x: \
    return &kCodec##x;
#include "quant/codecs.def"
#undef CODEC
    default:
      return nullptr;
  }
}

}  // namespace ingot
