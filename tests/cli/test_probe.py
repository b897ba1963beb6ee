"""`ringweave topology probe`: local ranks, emulated machines, torchrun."""

import json
import pathlib
import tempfile
import unittest

import cli
import test_torchrun

TABLES = pathlib.Path(__file__).resolve().parent.parent / "tables"
SMALL = ("--sizes", "1000,20000", "--repeat", 3)


class ProbeTest(cli.CliTest):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "machine.json"

    def probe(self, *arguments, **options):
        return cli.run("topology", "probe", *arguments, **options)

    def check_file(self, ranks):
        """The saved file, which `topology show` takes."""
        saved = json.loads(self.file.read_text())
        shown = cli.run("topology", "show", self.file)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn(f"{ranks} ranks", shown.stdout)
        measured = saved["measured"]
        self.assertIn(measured["kind"],
                      ("mesh", "switch", "two_level", "matrix"))
        self.assertEqual(saved["name"], "measured " + measured["kind"])
        self.assertTrue(measured["reason"])
        self.assertEqual(measured["rounds"], 3)
        self.assertEqual(measured["sizes"], [1000, 20000])
        self.assertRegex(measured["date"], r"^\d{4}-\d\d-\d\dT[\d:]{8}Z$")
        self.assertEqual(len(measured["latency_seconds"]), ranks * (ranks - 1))
        alone = [pattern for pattern in measured["patterns"]
                 if pattern["kind"] == "alone"]
        self.assertEqual(len(alone), ranks * (ranks - 1))
        for pattern in measured["patterns"]:
            self.assertEqual(len(pattern["seconds"]), 2)
            for figure in pattern["seconds"]:
                self.assertLessEqual(0, figure["low"])
                self.assertLessEqual(figure["low"], figure["median"])
                self.assertLessEqual(figure["median"], figure["high"])
        return saved


class LocalRanks(ProbeTest):
    def test_writes_a_file_that_others_take(self):
        for ranks in (2, 3):
            done = self.probe("--ranks", ranks, "--save", self.file, *SMALL)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("round 3 of 3", done.stderr)
            saved = self.check_file(ranks)
            kind = saved["measured"]["kind"]
            self.assertIn(f"\nmeasured {kind}: ", done.stdout)

    def test_json_is_the_file(self):
        done = self.probe("--ranks", 2, "--json", "--save", self.file, *SMALL)
        self.assertEqual(done.stdout, self.file.read_text())

    def emulated(self, topology):
        return json.loads(self.probe("--emulate", topology, "--json",
                                     *SMALL).stdout)

    def test_tells_machines_apart(self):
        for name in ("mesh", "switch"):
            got = self.emulated(f"{name}:ranks=4,rate=20e6,latency=1e-6")
            self.assertEqual(got["fabric"]["kind"], name)
            rate = got["fabric"]["link_bytes_per_second"]
            self.assertAlmostEqual(rate / 20e6, 1, places=2)
        got = self.emulated("two_level:ranks=6,nodes=2,rate=20e6,nic=4e6,"
                            "latency=1e-6,nic_latency=2e-6,nics=1")
        self.assertEqual((got["fabric"]["kind"], got["fabric"]["nodes"],
                          got["fabric"]["nics_per_node"]), ("two_level", 2, 1))
        got = self.emulated("ring:ranks=5,rate=20e6,latency=1e-6")
        self.assertNotIn("fabric", got)
        self.assertEqual(got["measured"]["kind"], "matrix")

    def test_a_probed_file_can_be_emulated_and_is_found_again(self):
        first = self.probe("--emulate", "switch:ranks=4,rate=20e6,latency=1e-6",
                           "--save", self.file, *SMALL)
        self.assertEqual(first.returncode, 0, first.stderr)
        again = self.emulated(self.file)
        self.assertEqual(again["fabric"]["kind"], "switch")

    def framed(self, table, *arguments):
        frame = TABLES / f"{table}.txt"
        done = self.probe("--frame", frame, "--json", *arguments, *SMALL)
        self.assertEqual(done.returncode, 0, done.stderr)
        saved = json.loads(done.stdout)
        measured = saved["measured"]
        self.assertEqual((saved["name"], measured["kind"]),
                         ("measured frame", "frame"))
        self.assertIn("-smi ", measured["frame"]["source"])
        self.assertIn(str(frame), saved["source"])
        self.file.write_text(done.stdout)
        self.assertEqual(cli.run("topology", "show", self.file).returncode, 0)
        return saved

    def test_a_table_is_the_frame_of_measured_rates(self):
        saved = self.framed("v100_8x_cube_mesh_mlx5_row_2020", "--emulate",
                            "dgx-1:nvlink=20e6,pcie=6e6,qpi=9e6")
        self.assertIn("of the links of ", saved["measured"]["reason"])
        for link in saved["links"]:
            wanted = {"NV1": 20e6, "NV2": 40e6}.get(link["class"])
            if wanted:
                self.assertAlmostEqual(link["bytes_per_second"] / wanted, 1,
                                       places=2)
        saved = self.framed("amd_mi308x_8x_all_xgmi", "--emulate",
                            "8xMI300X:rate=20e6")
        self.assertEqual(saved["fabric"]["kind"], "mesh")
        self.assertAlmostEqual(
            saved["fabric"]["link_bytes_per_second"] / 20e6, 1, places=2)

    def test_a_saved_topology_is_a_frame(self):
        cli.run("topology", "show", "switch:ranks=3,rate=5e9", "--save",
                self.file)
        done = self.probe("--frame", self.file, "--json", *SMALL)
        self.assertEqual(json.loads(done.stdout)["measured"]["frame"]["name"],
                         "switch:ranks=3,rate=5e9")
        self.assertIn("\nmeasured frame: ",
                      self.probe("--frame", self.file, *SMALL).stdout)

    def test_bad_input(self):
        eight = TABLES / "amd_mi308x_8x_all_xgmi.txt"
        self.file.write_text("no table")
        for arguments, words in (
                (("--frame", eight, "--ranks", 4),
                 (f"--frame {eight} of 8 ranks for 4",)),
                (("--frame", eight, "--emulate", "mesh:ranks=4"),
                 ("of 8 ranks for 4 that measure",)),
                (("--frame", TABLES / "h200_mig_1gpu.txt"), ("1 rank", "2")),
                (("--frame", self.file), ("machine.json", "no table")),
                (("--frame", "mess"), ("mess", "did you mean")),
                (("--ranks", 1), ("1 rank", "2")),
                (("--ranks", 0), ("0 ranks",)),
                (("--ranks", 10**6), ("--ranks 1000000",)),
                (("--sizes", "100,0"), ("0 bytes",)),
                (("--sizes", "-5"), ("-5 bytes",)),
                (("--sizes", 10**12), ("1000000000000 bytes",)),
                (("--sizes", "big"), ("big",)),
                (("--repeat", 0), ("0 repeats",)),
                (("--seconds", 0), ("0 s",)),
                (("--save", self.file / "in" / "none"), ("none",)),
                (("--emulate", "mess"), ("mess",)),
                (("--emulate", "mesh:ranks=4", "--ranks", 3), ("--ranks 3",))):
            with self.subTest(arguments=arguments):
                self.assert_fault(self.probe(*arguments), *words)

    def test_too_little_time_leaves_no_file(self):
        done = self.probe("--save", self.file, "--seconds", 1e-9)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("want more seconds", done.stderr)
        self.assertFalse(self.file.exists())


class Torchrun(ProbeTest, test_torchrun.ProcessTest):
    def test_rank_0_writes_a_file_that_others_take(self):
        done = self.torchrun("topology", "probe", "--save", self.file, *SMALL)
        self.assertEqual(done.returncode, 0, done.stderr)
        saved = self.check_file(test_torchrun.RANKS)
        self.assertEqual(saved["measured"]["engine"], "process group")
        kind = saved["measured"]["kind"]
        self.assertEqual(done.stdout.count(f"measured {kind}: "), 1)

    def test_bad_input_is_one_error(self):
        done = self.torchrun("topology", "probe", "--sizes", 0, ranks=2)
        self.assertNotEqual(done.returncode, 0)
        lines = self.ringweave_lines(done.stderr)
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn("0 bytes", lines[0])


if __name__ == "__main__":
    unittest.main()
