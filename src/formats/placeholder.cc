#include "formats/placeholder.h"

#include <algorithm>

namespace ingot {
namespace {

constexpr std::string_view kPointer =
    "is a git-lfs pointer, which only names the file: run 'git lfs pull' in the repository, or download the file itself (hf download)";
constexpr std::string_view kXet = "is a pointer of the Hub's Xet storage, which only names the file: download the file itself (hf download)";
constexpr std::string_view kPage =
    "is a web page, which a server sent in place of the file: download it again (a gated model needs a token; of a page of the Hub take "
    "'resolve' instead of 'blob')";
constexpr std::string_view kAnswer =
    "is a server's refusal, saved in place of the file: download it again, with a token where the model is gated";

struct Beginning {
  std::string_view text;  // in lower case
  std::string_view what;
};
constexpr Beginning kBeginnings[] = {
    {"version https://git-lfs.github.com/spec/", kPointer},
    {"version https://hawser.github.com/spec/", kPointer},  // its first name
    {"# xet version ", kXet},
    {"<!doctype html", kPage},
    {"<html", kPage},
    {"<?xml", kPage},
    {"entry not found", kAnswer},
    {"repository not found", kAnswer},
    {"invalid username or password", kAnswer},
    {"invalid credentials", kAnswer},
    {"access to model ", kAnswer},
};

}  // namespace

std::string_view placeholder(std::string_view head) {
  if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  const auto begins = [&](std::string_view text) {
    return head.size() >= text.size() && std::equal(text.begin(), text.end(), head.begin(), [](char t, char c) {
             return t == (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
           });
  };
  for (const auto& b : kBeginnings)
    if (begins(b.text)) return b.what;
  return "";
}

}  // namespace ingot
