"""`ringweave topology show` and `list`: every built-in, files, imports, faults."""

import json
import os
import tempfile
import unittest

import cli

CUBE = """\tGPU0\tGPU1\tGPU2\tCPU Affinity
GPU0\t X \tNV2\tSYS\t0-3
GPU1\tNV2\t X \tSYS\t0-3
GPU2\tSYS\tSYS\t X \t4-7

Legend:
"""

PCIE_2X4 = """
8 ranks, 1 node, 0 switches, 0 NICs, 2 hosts

class          links     rate of one     latency             total
pcie              16       31.5 GB/s        0 us          504 GB/s
upi                2       44.8 GB/s        0 us         89.6 GB/s
all               18                                    593.6 GB/s

out of each rank: 31.5 GB/s
routes
        24 pairs: pcie > pcie, 31.5 GB/s; gpu0 > cpu0 > gpu1
        32 pairs: pcie > upi > pcie, 31.5 GB/s; gpu0 > cpu0 > cpu1 > gpu4
"""

DOT = """digraph "mesh:ranks=2,rate=5e9" {
  layout=circo;
  overlap=false;
  "rank0" [shape=box];
  "rank1" [shape=box];
  "rank0" -> "rank1" [label="link 5 GB/s", dir=none];
}
"""


def show(*arguments, **options):
    return cli.run("topology", "show", *arguments, **options)


class Show(cli.CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return path

    def names(self):
        return [entry["name"]
                for entry in self.results("topology", "list", "--json")]

    def test_list(self):
        names = self.names()
        for name in ("mesh", "switch", "ring", "torus", "two_level",
                     "8xMI300X", "dgx-a100", "dgx-h100", "dgx-1", "pcie-2x4",
                     "nvl72"):
            self.assertIn(name, names)
        text = cli.run("topology", "list").stdout
        self.assertEqual(show().stdout, text)
        for name in names:
            self.assertIn(f"{name}:", text)

    def test_every_builtin_survives_saving(self):
        for name in self.names() + ["dgx-h100:nodes=2", "torus:dimensions=2x3x4",
                                    "pcie-2x4:attach=switch"]:
            with self.subTest(name=name):
                path = self.path("saved.json")
                done = show(name, "--save", path)
                self.assertEqual((done.returncode, done.stderr),
                                 (0, f"wrote {path}\n"))
                self.assertTrue(done.stdout.startswith(name + "\n"))
                self.assertEqual(show(path).stdout, done.stdout)
                with open(path, encoding="utf-8") as file:
                    self.assertEqual(json.load(file),
                                     self.results("topology", "show", path,
                                                  "--json"))

    def test_text(self):
        text = show("pcie-2x4").stdout
        self.assertEqual(text[text.index("\n\n") + 1:], PCIE_2X4)
        self.assertIn("16 ranks, 2 nodes, 3 switches, 16 NICs, 0 hosts\n",
                      show("dgx-a100:nodes=2").stdout)
        self.assertIn("routes of rank 0\n", show("switch:ranks=200").stdout)

    def test_dot(self):
        self.assertEqual(show("mesh:ranks=2,rate=5e9", "--dot").stdout, DOT)

    def test_svg(self):
        path = self.path("a b.svg")
        self.assertEqual(show("dgx-1", "--svg", path).returncode, 0)
        with open(path, encoding="utf-8") as file:
            self.assertIn("gpu7", file.read())
        self.assert_fault(show("mesh", "--svg", self.path("no/x.svg")),
                          "--svg", "No such file")
        self.assert_fault(show("mesh", "--svg", path, env={"PATH": "/none"}),
                          "Graphviz", "installed")

    def test_nvidia_smi(self):
        path = self.path("topo.txt", CUBE)
        text = show(path, "--from", "nvidia-smi", "--rate", "SYS=9e9",
                    "--rate", "NV=20e9").stdout
        self.assertIn("NV2                2         40 GB/s", text)
        self.assertIn("SYS                2          9 GB/s", text)
        self.assertIn("gpu0 > host0 > host1 > gpu2", text)

    def test_a_table_is_recognised(self):
        path = self.path("topo.txt", CUBE)
        self.assertEqual(show(path).stdout,
                         show(path, "--from", "nvidia-smi").stdout)
        with open(self.path("topo.json"), "w", encoding="utf-16") as file:
            file.write(CUBE)
        self.assertIn("NV2", show(self.path("topo.json")).stdout)

    def test_bad_arguments(self):
        self.assert_fault(show("dgx-a10"), "did you mean dgx-a100?")
        self.assert_fault(show("mesh:rank=4"), "did you mean ranks?")
        self.assert_fault(show("mesh", "--rate", "NV=1"), "--from nvidia-smi")
        self.assert_fault(show("mesh", "--dot", "--json"), "--dot")
        self.assert_fault(show("--dot"), "NAME|FILE")
        self.assert_fault(show("--save", "x.json"), "NAME|FILE")
        self.assert_fault(show("mesh", "--save", self.path("no/x.json")),
                          "--save", "No such file")
        path = self.path("topo.txt", CUBE)
        smi = (path, "--from", "nvidia-smi", "--rate")
        self.assert_fault(show(*smi, "SYS"), "CLASS=B/s")
        self.assert_fault(show(*smi, "SYS=fast"), "CLASS=B/s")
        self.assert_fault(show(*smi, "SYS=-1"), "got -1 bytes per second")
        self.assert_fault(show(*smi, "NV7=5e9"), "NV7")
        self.assert_fault(show(""), "NAME|FILE")
        self.assert_fault(show("mesh:"), "key=value")
        self.assert_fault(show(*smi, "QPI=1"), "QPI")
        self.assert_fault(show(*smi, "SYS=1", "--rate", "SYS=2"), "twice")
        self.assert_fault(show(path, "--from", "rocm-smi"), "nvidia-smi")
        self.assert_fault(show(path, "--from", "lspci"), "auto", "rocm-smi")
        self.assert_fault(cli.run("plan", "--topology", path, "--heads", 8,
                                  "--seq-len", 64), "topo.txt",
                          f"`ringweave topology show {path} --save")

    def test_bad_files(self):
        self.assert_fault(show(self.path("absent.json")), "absent.json")
        self.assert_fault(show(self.path("a.json", "{")), "line 1")
        self.assert_fault(show(self.path("a.json", "{}")), "format")
        good = self.results("topology", "show", "dgx-1", "--json")
        faults = [("links", 0, "rate", 5, "rate"),
                  ("links", 0, "bytes_per_second", -1, "-1"),
                  ("links", 0, "to", "gpu9", "gpu9"),
                  ("links", 1, "to", "gpu1", "second link"),
                  ("ranks", 1, "name", "gpu0", "second time")]
        for group, index, key, value, word in faults:
            with self.subTest(key=key, value=value):
                bad = json.loads(json.dumps(good))
                bad[group][index][key] = value
                self.assert_fault(show(self.path("b.json", json.dumps(bad))),
                                  "b.json", word)
        deep = "[" * 30000
        self.assert_fault(show(self.path("d.json", '{"a":' + deep)), "d.json",
                          "100 levels")
        good["links"] = good["links"][:3]
        self.assert_fault(show(self.path("c.json", json.dumps(good))),
                          "c.json", "no path")
        self.assert_fault(
            show(self.path("t.txt", CUBE[:40]), "--from", "nvidia-smi"),
            "t.txt")


if __name__ == "__main__":
    unittest.main()
