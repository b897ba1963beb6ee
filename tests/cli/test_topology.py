"""`ringweave topology decompose`, its output proved again without its code."""

import os
import subprocess
import unittest

import cli


class Help(cli.CliTest):
    def test_lists_the_commands_in_order(self):
        done = cli.run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        places = [done.stdout.index(f"\n  {command} ")
                  for command in ("train", "bench", "topology", "plan")]
        self.assertEqual(places, sorted(places))

    def test_every_command_has_help(self):
        for command in (["topology"], ["topology", "decompose"]):
            done = cli.run(*command, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("Usage: ringweave " + " ".join(command), done.stdout)

    def test_version(self):
        versions = self.results("--version", "--json")
        text = cli.run("--version").stdout
        self.assertEqual(text, f"ringweave {versions['ringweave']}\n")
        self.assertRegex(versions["ringweave"], r"^\d+\.\d+\.\d+$")

    def test_no_command(self):
        self.assert_fault(cli.run(), "--help")

    def test_unknown_command_and_option(self):
        self.assert_fault(cli.run("weave"), "weave")
        for arguments, *words in (
                (("topologi", "list"), "topologi", "did you mean topology?"),
                (("topology", "lst"), "lst", "did you mean list?"),
                (("topology", "list", "--jsn"), "--jsn", "mean --json?"),
                # Before what is missing for it.
                (("plan", "--topolgy", "mesh"), "--topolgy",
                 "mean --topology?", "`ringweave plan --help`"),
                (("plan", "--topolgy=mesh"), "got --topolgy,")):
            with self.subTest(arguments=arguments):
                self.assert_fault(cli.run(*arguments), *words)
        self.assert_fault(cli.run("topology", "decompose", "--ranks", "5",
                                  "--rings"), "--rings")


class Values(cli.CliTest):
    """What holds for all options of a type."""

    def test_numbers_and_empty_values(self):
        plan = ("plan", "--topology", "mesh:ranks=4", "--heads", 8)
        for arguments, *words in (
                (("--seq-len", 2 ** 63), "--seq-len", f"got \"{2 ** 63}\"",
                 "below 2^63"),
                (("--seq-len", ""), "--seq-len", "got \"\"", "whole number"),
                (("--seq-len", "1e3"), "--seq-len", "whole number"),
                (("--seq-len", 64, "--memory-limit", "80GB"),
                 "--memory-limit", "got \"80GB\"", "a number of bytes", "80e9"),
                (("--seq-len", 64, "--message-overhead", "1us"),
                 "--message-overhead", "a number of seconds"),
                (("--seq-len", 64, "--mask", ""), "--mask", "got \"\""),
                (("--seq-len", 64, "--save", ""), "--save", "got \"\"",
                 "FILE")):
            with self.subTest(arguments=arguments):
                self.assert_fault(cli.run(*plan, *arguments), *words)


    def test_an_error_is_one_line_without_control_characters(self):
        for arguments in (("topology", "show", "me\nsh\x1b[31m"),
                          ("topology", "show", "mesh:ranks=2\n\x07"),
                          ("plan", "--topology", "mesh", "--heads", 8,
                           "--seq-len", 64, "--device-table", "h\n100\x1b[2J")):
            with self.subTest(arguments=arguments):
                done = cli.run(*arguments)
                self.assert_fault(done, "\\x0a")
                self.assertNotRegex(done.stderr, r"[\x00-\x09\x0b-\x1f]")


class Output(cli.CliTest):
    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_what_can_not_be_written(self):
        for arguments in (("--help",), ("--version",), ("topology", "list"),
                          # More than the buffer of stdout.
                          ("topology", "decompose", "--ranks", "101")):
            with self.subTest(arguments=arguments), \
                    open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([cli.BINARY, *arguments], text=True,
                                      stdout=full, stderr=subprocess.PIPE,
                                      timeout=cli.SECONDS)
                self.assertEqual(
                    (done.returncode, done.stderr),
                    (1, "ringweave: could not write to standard output: "
                        "No space left on device\n"))


class Decompose(cli.CliTest):
    def decompose(self, ranks):
        return self.results("topology", "decompose", "--ranks", ranks, "--json")

    def check(self, ranks):
        got = self.decompose(ranks)
        self.assertEqual(list(got), ["ranks", "kind", "cycles", "walks"])
        self.assertEqual(got["ranks"], ranks)
        everyone = set(range(ranks))
        links = {(a, b) for a in everyone for b in everyone if a != b}

        if ranks in (4, 6):
            self.assertEqual((got["kind"], got["cycles"]), ("walks", []))
        else:
            self.assertEqual(got["kind"], "cycles")
            self.assertEqual(len(got["cycles"]), ranks - 1)
            used = []
            for order in got["cycles"]:
                self.assertEqual(len(order), ranks)
                used += zip(order, order[1:] + order[:1])
            self.assertEqual(len(used), len(links))
            self.assertEqual(set(used), links)

        walks = got["walks"]
        self.assertEqual(len(walks), ranks - 1)
        for strand in walks:
            self.assertEqual([walk[0] for walk in strand], list(range(ranks)))
            for walk in strand:
                self.assertEqual(len(walk), ranks)
                self.assertEqual(set(walk), everyone)
        for step in range(1, ranks):
            used = [(walk[step - 1], walk[step])
                    for strand in walks for walk in strand]
            self.assertEqual(len(used), len(links))
            self.assertEqual(set(used), links)
        if got["kind"] == "cycles":
            for order, strand in zip(got["cycles"], walks):
                after = dict(zip(order, order[1:] + order[:1]))
                for walk in strand:
                    self.assertEqual([after[rank] for rank in walk[:-1]],
                                     walk[1:])

    def test_2_to_64_ranks(self):
        for ranks in range(2, 65):
            with self.subTest(ranks=ranks):
                self.check(ranks)

    def test_is_the_same_every_time(self):
        self.assertEqual(self.decompose(24), self.decompose(24))

    def test_table(self):
        done = cli.run("topology", "decompose", "--ranks", "5")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("5 ranks, 20 directed links", done.stdout)
        self.assertEqual(done.stdout.count("\ncycle"), 4)
        self.assertIn("each of the 4 steps every directed link carries 1 block "
                      "strand\n", done.stdout)
        self.assertIn("walks", cli.run("topology", "decompose", "--ranks",
                                       "6").stdout)

    def test_bad_ranks(self):
        for ranks in (1, 0, -3, 129, 10**6):
            self.assert_fault(
                cli.run("topology", "decompose", "--ranks", ranks),
                f"got {ranks} ranks", "2 to 128")
        self.assert_fault(cli.run("topology", "decompose", "--ranks", "many"),
                          "--ranks")
        self.assert_fault(cli.run("topology", "decompose"), "--ranks")


if __name__ == "__main__":
    unittest.main()
