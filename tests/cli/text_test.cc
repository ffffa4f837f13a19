// Sizes, widths, wrapping, suggestions, the bar's line.
#include "cli/text.h"

#include <gtest/gtest.h>

#include "cli/generation.h"
#include "cli/progress.h"
#include "process.h"

namespace ingot::cli {
namespace {

TEST(Text, SizesAreParsedAsTheContractWritesThem) {
  EXPECT_EQ(*parse_size("512M"), 512u << 20);
  EXPECT_EQ(*parse_size("5GB"), 5'000'000'000u);
  EXPECT_EQ(*parse_size("4.5GiB"), (4608ull << 20));
  EXPECT_EQ(*parse_size("4.5gib"), (4608ull << 20));
  EXPECT_EQ(*parse_size("64k"), 65536u);
  EXPECT_EQ(*parse_size("1000"), 1000u);
  EXPECT_EQ(*parse_size("1 GB"), 1'000'000'000u);
  // Of files a letter alone means what it means to llama-gguf-split and on a disk's label.
  EXPECT_EQ(*parse_size("2G", 1000), 2'000'000'000u);
  EXPECT_EQ(*parse_size("2GB", 1000), 2'000'000'000u);
  EXPECT_EQ(*parse_size("2GiB", 1000), 2ull << 30);
  for (const char* bad : {"", "M", "5B", "12X", "-1M", "nan", "inf", "1e30G", "5GBB", "5 5", "99999999999T"})
    EXPECT_FALSE(parse_size(bad).ok()) << bad;
}

TEST(Text, TimesAreParsedAsTheContractWritesThem) {
  EXPECT_EQ(*parse_duration("30"), 30);
  EXPECT_EQ(*parse_duration("30s"), 30);
  EXPECT_EQ(*parse_duration("10m"), 600);
  EXPECT_EQ(*parse_duration("1.5H"), 5400);
  EXPECT_EQ(*parse_duration("0"), 0);
  for (const char* bad : {"", "m", "-1", "1d", "1 m", "10ms", "nan", "inf", "1e3", "9999999h"}) EXPECT_FALSE(parse_duration(bad).ok()) << bad;
}

TEST(Text, BytesHaveThreeFigures) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(9'999), "10.0 kB");
  EXPECT_EQ(format_bytes(99'960), "100 kB");
  EXPECT_EQ(format_bytes(999'600), "1.00 MB");
  EXPECT_EQ(format_bytes(2'250'000'000), "2.25 GB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "18.4 EB");
}

TEST(Text, Durations) {
  EXPECT_EQ(format_duration(0.04), "40 ms");
  EXPECT_EQ(format_duration(0), "0 ms");
  EXPECT_EQ(format_duration(0.0996), "0.1 s");
  EXPECT_EQ(format_duration(9.96), "10 s");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(3599.7), "1:00:00");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(1e300), "?");
}

TEST(Text, ShorteningCountsColumnsNotBytes) {
  EXPECT_EQ(shorten_middle("model.layers.12.mlp.down_proj.weight", 20), "model.lay..oj.weight");
  EXPECT_EQ(shorten_middle("short", 20), "short");
  EXPECT_EQ(shorten_middle("日本語のテンソル名です", 10), "日本..です");
  for (int w = 0; w < 30; ++w)
    EXPECT_LE(display_width(shorten_middle("日本語 a very mixed 名前 name", w)), w);
}

TEST(Text, ATableFitsTheTerminalAndIsWholeElsewhere) {
  Table t({"~tensor", "type", "?shape", ">max", "=about"});
  t.row({"model.layers.12.mlp.down_proj.weight", "F32", "[4096, 11008]", "0.5", "a text that goes on for longer than a line has room"});
  t.row({"a", "BF16", "[1]", "12.25", ""});
  EXPECT_EQ(t.str(),
            "tensor                                type  shape            max  about\n"
            "model.layers.12.mlp.down_proj.weight  F32   [4096, 11008]    0.5  a text that goes on for longer than a line has room\n"
            "a                                     BF16  [1]            12.25\n");
  EXPECT_EQ(t.str(0, 200), t.str());
  EXPECT_EQ(t.str(0, 60),
            "tensor        type    max  about\n"
            "model..eight  F32     0.5  a text that goes on for longer\n"
            "                           than a line has room\n"
            "a             BF16  12.25\n");
  for (int width : {45, 60, 79, 80, 100})
    for (const std::string& line : split(t.str(2, width), '\n')) EXPECT_LE(display_width(line), width) << line;
}

TEST(Text, Plurals) {
  EXPECT_EQ(count_of(1, "tensor"), "1 tensor");
  EXPECT_EQ(count_of(0, "tensor"), "0 tensors");
  EXPECT_EQ(count_of(4096, "tensor"), "4,096 tensors");
}

TEST(Text, IncompleteUtf8IsHeldBack) {
  EXPECT_EQ(complete_utf8("abc"), 3u);
  EXPECT_EQ(complete_utf8("ab\xc3"), 2u);
  EXPECT_EQ(complete_utf8("ab\xc3\xa9"), 4u);
  EXPECT_EQ(complete_utf8("\xf0\x9f\x98"), 0u);
  EXPECT_EQ(complete_utf8("\xf0\x9f\x98\x80"), 4u);
  EXPECT_EQ(complete_utf8("\x80\x80\x80\x80"), 4u);  // broken: never held back for ever
  EXPECT_EQ(complete_utf8(""), 0u);
}

TEST(Text, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(printable("a\x1b[31mb\r\n"), "a\\x1b[31mb\\r\\n");
  EXPECT_EQ(printable("\xff\xc3\xa9"), "\\xff\xc3\xa9");
  EXPECT_EQ(printable("\xc2\x9b"), "\\x9b");  // C1: CSI in one character
  EXPECT_EQ(printable("a\nb", true), "a\nb");
  EXPECT_EQ(printable("a\u202eb\u2066\u200f\u2028", true), "a\\u202eb\\u2066\\u200f\\u2028");  // what turns text
}

TEST(Text, WhatIsShownIsShortAndPrintable) {
  EXPECT_EQ(shown("a\tb", 10), "a\\tb");
  EXPECT_EQ(shown(std::string(100, 'x') + "\n", 10), "xxxx..xx\\n");
  const std::string wide = shown(std::string(1000, 'a') + "\u00e9\u00e9" + std::string(1000, 'b'), 20);
  EXPECT_EQ(wide, "aaaaaaaaa..bbbbbbbbb");
  std::string accents;
  for (int i = 0; i < 1000; ++i) accents += "\u00e9";
  EXPECT_EQ(shown(accents, 9), "\u00e9\u00e9\u00e9..\u00e9\u00e9\u00e9\u00e9");  // cut between characters
}

TEST(Text, AShellReadsAWordAsItIs) {
  EXPECT_EQ(shell_word("/a/b-c_1.2+x"), "/a/b-c_1.2+x");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("a b"), "'a b'");
  EXPECT_EQ(shell_word("~/$x`y`\u00e9"), "'~/$x`y`\u00e9'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_word("a\nb'\\\x1b"), "$'a\\x0ab\\'\\\\\\x1b'");
}

TEST(Text, WrapBreaksBetweenWordsNeverInPaths) {
  EXPECT_EQ(wrap("one two three", 8, 2), "one two\n  three");
  EXPECT_EQ(wrap("see '/a path/with spaces/file' now", 12, 0), "see\n'/a path/with spaces/file'\nnow");
  EXPECT_EQ(wrap("it isn't so", 6, 0), "it\nisn't\nso");
  EXPECT_EQ(wrap("/a/very/long/path/indeed", 5, 0), "/a/very/long/path/indeed");
}

TEST(Text, NearestFindsTyposAndNothingFarAway) {
  const std::vector<std::string> commands = {"ship", "convert",  "quantize", "lora",
                                             "run",  "tokenize", "inspect",  "list"};
  EXPECT_EQ(nearest("shpi", commands), "ship");
  EXPECT_EQ(nearest("quantise", commands), "quantize");
  EXPECT_EQ(nearest("inspct", commands), "inspect");
  EXPECT_EQ(nearest("tok", commands), "tokenize");
  EXPECT_EQ(nearest("publish-everything", commands), "");
  EXPECT_EQ(nearest("", {}), "");
}

TEST(Text, TableAligns) {
  Table t({"type", ">size"});
  t.row({"F16", "17 MB"});
  t.row({"Q4_K_M", "4 MB"});
  EXPECT_EQ(t.str(), "type     size\nF16     17 MB\nQ4_K_M   4 MB\n");
}

TEST(Bar, NeverWiderThanTheTerminal) {
  Progress p;
  p.phase = Phase::kWrite;
  p.total = 2'250'000'000;
  p.tensor = "model.layers.12.mlp.down_proj.weight.日本語";
  for (const bool utf8 : {true, false}) {
    for (int width = 1; width < 220; ++width) {
      for (const uint64_t done : {uint64_t{0}, uint64_t{1}, p.total / 3, p.total, p.total + 5}) {
        p.done = done;
        const std::string line = bar_line(p, 812e6, 125, BarStyle{width, utf8, false});
        EXPECT_LE(display_width(line), width - 1) << line;
        EXPECT_EQ(line.find('\n'), std::string::npos);
      }
    }
  }
}

TEST(Bar, ShowsWhatMatters) {
  Progress p;
  p.phase = Phase::kWrite;
  p.done = 1'000'000'000, p.total = 2'250'000'000;
  p.tensor = "blk.3.ffn_down.weight";
  const std::string line = bar_line(p, 812e6, 2.4, BarStyle{110, false, false});
  for (const char* part :
       {"writing", " 44%", "1.00 GB/2.25 GB", "812 MB/s", "2.4 s left", "blk.3.ffn_down.weight", "####"})
    EXPECT_NE(line.find(part), std::string::npos) << part << " in: " << line;
  // A hostile tensor name stays on its line.
  p.tensor = "x\ny\x1b[2J";
  const std::string hostile = bar_line(p, 0, -1, BarStyle{110, false, false});
  EXPECT_EQ(hostile.find_first_of("\n\x1b"), std::string::npos) << hostile;
}

TEST(Bar, HundredPercentMeansAll) {
  Progress p;
  p.phase = Phase::kWrite;
  p.done = 999, p.total = 1000;
  EXPECT_NE(bar_line(p, 0, -1, {}).find(" 99%"), std::string::npos);
}

TEST(Rate, SmoothAndHonestAboutResumedBytes) {
  RateMeter m;
  m.start(100, 1'000'000);  // resumed: no work of this run
  m.update(101, 1'000'000 + 500);
  EXPECT_NEAR(m.rate(), 500, 1e-6);
  for (int i = 2; i < 60; ++i) m.update(100 + i, 1'000'000 + 500 * static_cast<uint64_t>(i));
  EXPECT_NEAR(m.rate(), 500, 1);
  m.update(160, 1'000'000 + 500 * 59 + 50'000);  // a burst moves it, but not all the way
  EXPECT_GT(m.rate(), 1000);
  EXPECT_LT(m.rate(), 40'000);
}

TEST(StopFilter, HoldsBackWhatMayBecomeAStopString) {
  StopFilter f({"</s>", "\n\n"});
  EXPECT_EQ(f.add("hello <"), "hello ");
  EXPECT_EQ(f.add("/"), "");
  EXPECT_EQ(f.add("b> x\n"), "</b> x");
  EXPECT_EQ(f.add("y"), "\ny");
  EXPECT_FALSE(f.stopped());
  EXPECT_EQ(f.add("end</s> never shown"), "end");
  EXPECT_TRUE(f.stopped());
  EXPECT_EQ(f.add("more"), "");
  EXPECT_EQ(f.finish(), "");
}

TEST(StopFilter, GivesBackWhatWasHeldAtTheEnd) {
  StopFilter f({"STOP"});
  EXPECT_EQ(f.add("a STO"), "a ");
  EXPECT_EQ(f.finish(), "STO");
  StopFilter none({});
  EXPECT_EQ(none.add("x"), "x");
}

TEST(StopFilter, TheEarliestOfSeveralWins) {
  StopFilter f({"bb", "ab"});
  EXPECT_EQ(f.add("xabb"), "x");
  EXPECT_TRUE(f.stopped());
}

TEST(Screen, RendersRedrawsAndSeesWrapping) {
  using ingot::testing::render;
  const auto a = render("\rlong line here\x1b[K\rshort\x1b[K\ndone", 40);
  ASSERT_EQ(a.lines.size(), 2u);
  EXPECT_EQ(a.lines[0], "short");
  EXPECT_EQ(a.lines[1], "done");
  EXPECT_FALSE(a.wrapped);
  EXPECT_TRUE(render(std::string(50, 'x'), 40).wrapped);
  EXPECT_FALSE(render("\x1b[36m" + std::string(40, 'x') + "\x1b[0m", 40).wrapped);
}

}  // namespace
}  // namespace ingot::cli
