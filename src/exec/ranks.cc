#include "exec/ranks.h"

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace ingot {
namespace {

struct Pair {
  const char *rank, *world;
};
constexpr Pair kPairs[] = {
    {"RANK", "WORLD_SIZE"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
};

std::optional<int> number(std::string_view text) {
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < 0) return std::nullopt;
  return n;
}

}  // namespace

Result<ProcessRank> process_rank(const std::function<const char*(const char*)>& get) {
  for (const Pair& p : kPairs) {
    const char *rank_text = get(p.rank), *world_text = get(p.world);
    if (!rank_text || !world_text || !*rank_text || !*world_text) continue;
    const auto rank = number(rank_text), world = number(world_text);
    if (!rank || !world || *rank >= *world)
      return usage("{}={} and {}={} in the environment name no rank of a world of processes; unset both to work as one process",
                   p.rank, rank_text, p.world, world_text);
    if (*world > 1) return ProcessRank{*rank, *world, std::string(p.rank) + " and " + p.world};
  }
  return ProcessRank{};
}

Result<ProcessRank> process_rank() {
  return process_rank([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace ingot
