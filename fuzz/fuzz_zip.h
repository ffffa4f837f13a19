// Zip files of stored records, for fuzzers of what lies in them.
#pragma once

#include <zlib.h>

#include <initializer_list>
#include <utility>

#include "fuzzing.h"

namespace ingot::fuzzing {

inline std::string archive(std::initializer_list<std::pair<std::string, std::string_view>> records) {
  ByteWriter out, directory;
  for (const auto& [name, bytes] : records) {
    const auto crc = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
    const auto at = static_cast<uint32_t>(out.size()), n = static_cast<uint32_t>(bytes.size());
    for (auto* w : {&out, &directory}) {
      w->write<uint32_t>(w == &out ? 0x04034b50 : 0x02014b50);
      if (w == &directory) w->write<uint16_t>(20);
      w->write<uint16_t>(20), w->write<uint32_t>(0), w->write<uint32_t>(0), w->write<uint32_t>(crc), w->write<uint32_t>(n), w->write<uint32_t>(n);
      w->write<uint16_t>(static_cast<uint16_t>(name.size())), w->write<uint16_t>(0);
      if (w == &directory) w->write<uint32_t>(0), w->write<uint16_t>(0), w->write<uint32_t>(0), w->write<uint32_t>(at);
      w->append(name);
    }
    out.append(bytes);
  }
  const auto at = static_cast<uint32_t>(out.size());
  out.append(directory.str());
  out.write<uint32_t>(0x06054b50), out.write<uint32_t>(0);
  for (int i = 0; i < 2; ++i) out.write<uint16_t>(static_cast<uint16_t>(records.size()));
  out.write<uint32_t>(static_cast<uint32_t>(directory.size())), out.write<uint32_t>(at), out.write<uint16_t>(0);
  return out.str();
}

}  // namespace ingot::fuzzing
