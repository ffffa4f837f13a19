#!/usr/bin/env python3
"""What against.py makes of figures: which rows it names, and that the verifying re-read is not among them. No program runs."""
import argparse
import unittest
from pathlib import Path

from against import Row, quietest, report, verdict
from bench import told

LIMITS = {"disk_write": 1e9, "disk_read": 1e9, "direct_io": True, "memory_copy_1_thread": 1e9, "memory_copy_2_threads": 1e9}


def row(name, old, new, verify=(0, 0)):
    """A row whose times without the re-read are these; the re-read comes on top."""
    runs = [[{"seconds": t + v, "verify": v, "peak_rss": 1 << 20} for t in times] for times, v in zip((old, new), verify)]
    return Row(name, [(*pair, 0.02) for pair in zip(*runs)], 4, True)


class Verdict(unittest.TestCase):
    def test_a_slower_row_is_named_and_fails(self):
        text, code = verdict([row("fast", [1, 1, 1], [1.04] * 3), row("slow", [1, 2, 1], [1.06, 2.12, 1.2])], "abc")
        self.assertEqual(code, 1)
        self.assertIn("slow (1.060)", text)
        self.assertNotIn("fast", text)

    def test_the_median_of_pairs_judges_not_the_ratio_of_medians(self):
        # Medians 2 and 2.4 alone would say 1.2; pair by pair, as the machine's pace changed, two of three are equal.
        self.assertEqual(verdict([row("paced", [1, 2, 2.4], [1, 2.4, 2.4])], "abc")[1], 0)

    def test_a_longer_verifying_read_is_apart(self):
        self.assertEqual(verdict([row("read back from the medium", [1, 1, 1], [1, 1, 1], verify=(0.1, 3))], "abc")[1], 0)

    def test_a_disturbed_pair_is_left_out_whatever_its_ratio(self):
        pairs = [("old", "new", 0.5), ("a", "b", 0.0), ("c", "d", 0.01), ("e", "f", 0.3)]
        self.assertEqual(quietest(pairs, 2), ([("a", "b", 0.0), ("c", "d", 0.01)], 2))

    def test_a_verdict_on_a_busy_machine_says_so(self):
        busy = row("slow", [1, 1, 1], [2, 2, 2])
        busy.pairs[0] = (*busy.pairs[0][:2], 0.5)
        self.assertIn("measure again on a quiet machine", verdict([busy], "abc")[0])
        self.assertNotIn("measure again", verdict([row("slow", [1, 1, 1], [2, 2, 2])], "abc")[0])

    def test_the_report_shows_both_sides_and_ends_with_the_verdict(self):
        args = argparse.Namespace(reps=3, threads=2, small=False)
        text = report([row("slow", [1, 1, 1], [2, 1.9, 2.1], verify=(0.25, 0.75))], "abc", args, LIMITS, "./run bench --against abc")
        self.assertIn("| slow | 1.00 | 2.00 | **2.000** (1.900 to 2.100) | 0.25 | 0.75 | 1 | 1 | yes |", text)
        self.assertIn("Other processes had up to 2% of the processors during a run that counts; left out, as disturbed by others: 4 pairs", text)
        self.assertTrue(text.rstrip().endswith("slower than abc: slow (2.000)."))

    def test_a_command_is_told_without_the_paths_of_this_machine(self):
        self.assertEqual(told("./run bench", ["--dir", str(Path.home() / "x" / "bench"), "--ingot=../y/ingot", "--reps", "3"]),
                         "./run bench --dir bench --ingot=ingot --reps 3")


if __name__ == "__main__":
    unittest.main()
