// Marks and numbers of ZIP archives that reader and writer share (PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5).
#pragma once

#include <cstdint>

namespace ingot {

constexpr uint32_t kLocalMark = 0x04034b50, kDescriptorMark = 0x08074b50, kCentralMark = 0x02014b50, kEndMark = 0x06054b50, kEnd64Mark = 0x06064b50, kLocator64Mark = 0x07064b50;
constexpr uint16_t kZip64 = 1;  // the extra field that holds what 32 bits cannot

}  // namespace ingot
