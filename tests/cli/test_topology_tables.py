"""`ringweave topology show` of real tables of nvidia-smi and rocm-smi, which
people put into public reports, and of the same in other encodings; derived_…
are made from real ones."""

import collections
import pathlib
import tempfile
import unittest

import cli

TABLES = pathlib.Path(__file__).resolve().parent.parent / "tables"

GENERATION = "does not tell the generation of NVLink"
DIRECT = "is read as direct links"
LEFT_OUT = "left out, as the table does not tell what is at the other end"
NOT_USED = "left out, also where they would tell of PCIe switches: "
USABLE = "48e9 an xGMI link"

# Links are cables: both directions of one. A fabric has a kind and a rate.
GH200 = (4, {"NV6": (6, 150e9), "PHB": (4, 31.5e9), "SYS": (6, 20.8e9)},
         [DIRECT])
AZURE = {"NV12": (2, 300e9), "PHB": (4, 31.5e9), "SYS": (6, 20.8e9)}
ALONE = (1, {"PHB": (1, 31.5e9)}, [])
RIGHT = {
    "a100_8x_container_nics_all_sys": (
        8, ("switch", 300e9), ["NIC0 to NIC3", LEFT_OUT]),
    "a100_sxm_4of8_vm_tabs_1nic": (4, ("switch", 300e9),
                                   ["NIC0 is " + LEFT_OUT]),
    "amd_1x_kvm_link_type_only": (1, {}, []),
    "amd_mi300a_4x_numa_each": (4, ("mesh", 48e9), [USABLE]),
    "amd_mi308x_8x_all_xgmi": (8, ("mesh", 48e9), [USABLE]),
    "azure_nc96_a100_pairs_no_numa_id": (4, AZURE, []),
    "azure_nc96_a100_pairs_numa_na": (4, AZURE, []),
    "derived_2gpu_grace_blank_cpu_affinity_tabs": (
        2, {"NV18": (1, 450e9), "PHB": (2, 31.5e9), "SYS": (1, 20.8e9)},
        [GENERATION]),
    "derived_gh200_crlf": GH200,
    "derived_gh200_utf16le_bom_powershell": GH200,
    "derived_gh200_utf8_bom": GH200,
    "epyc_8x_all_sys_shared_numa_acs_tabs": (
        8, {"PHB": (8, 31.5e9), "SYS": (6, 20.8e9)},
        ["SYS between GPUs of one NUMA node is read as one host",
         "NIC0 to NIC1", LEFT_OUT]),
    "gb200_nvl72_tray_4gpu_8nic": (
        4, ("switch", 900e9),
        ["Grace Blackwell: 50e9 an NVLink", "NIC0 to NIC7", LEFT_OUT]),
    "gh200_4x_alps_numa_ranges": GH200,
    "h100_4x_grep_gpu_rows_only_nvme_columns": (
        4, ("switch", 450e9),
        [GENERATION, "NVMe0 to NVMe1", NOT_USED + "got no row of NVMe0"]),
    "h100_half_hgx_kvm_4gpu_8nic_prompt": (
        4, ("switch", 450e9), [GENERATION, "NIC0 to NIC7", LEFT_OUT]),
    "h100_pcie_1gpu_kvm": (1, ALONE[1], ["NIC0 is " + LEFT_OUT]),
    "h200_mig_1gpu": ALONE,
    "h200nvl_4x_nv6_arrows_in_rows": (
        4, {"NV6": (6, 150e9), "PHB": (4, 31.5e9), "SYS": (1, 20.8e9)},
        [DIRECT, "does not tell the sockets; two are assumed: gpu0, gpu1 and "
                 "gpu2, gpu3"]),
    "h200nvl_4x_two_nv18_pairs_annotated": (
        4, {"NV18": (2, 450e9), "PHB": (4, 31.5e9), "SYS": (1, 20.8e9)},
        [GENERATION, "two are assumed: gpu0, gpu1 and gpu2, gpu3",
         NOT_USED + "got no row of NIC0"]),
    "h20_8x_36nic_glued_cells": (
        8, ("switch", 450e9), [GENERATION, "NIC0 to NIC35", LEFT_OUT]),
    "juwels_a100_4x_nv4_4nic": (
        4, {"NV4": (6, 100e9), "NODE": (4, 31.5e9)},
        ["NIC0 to NIC3", LEFT_OUT]),
    "mixed_5090_4090_5gpu_epyc": (
        5, {"PHB": (5, 31.5e9), "NODE": (2, 31.5e9), "SYS": (1, 20.8e9)}, []),
    "oci_h100_4gpu_4nic_not_a_tree": (
        4, ("switch", 450e9),
        [GENERATION, "NIC0 to NIC3", NOT_USED + "got NODE between GPU3 and "
         "NIC0, but at most PXB from each of them to NIC1"]),
    "pcie_4gpu_pxb_pix_short_legend": (
        4, {"PHB": (2, 31.5e9), "PIX": (2, 31.5e9), "PXB": (2, 31.5e9),
            "SYS": (1, 20.8e9)}, ["NIC0 to NIC1", LEFT_OUT]),
    "rtx6000ada_4x_2socket_4nic": (
        4, {"NODE": (4, 31.5e9), "SYS": (1, 20.8e9)},
        ["NIC0 to NIC3", LEFT_OUT]),
    "v100_8x_cube_mesh_mlx5_row_2020": (
        8, {"NV1": (8, 25e9), "NV2": (8, 50e9), "NODE": (7, 31.5e9),
            "PIX": (2, 31.5e9), "SYS": (1, 20.8e9)},
        ["mlx5_0 is " + LEFT_OUT]),
    "windows_rtx2080s_1gpu_blank_affinity_crlf_ansi": ALONE,
}

# Weights and types of 4 MI250X, 8 GPUs, as ROCm counts them.
MI250X = [[0, 15, 15, 30, 30, 30, 15, 30], [15, 0, 30, 15, 30, 15, 30, 45],
          [15, 30, 0, 15, 15, 30, 30, 30], [30, 15, 15, 0, 30, 45, 30, 15],
          [30, 30, 15, 30, 0, 15, 15, 30], [30, 15, 30, 45, 15, 0, 30, 15],
          [15, 30, 30, 30, 15, 30, 0, 15], [30, 45, 30, 15, 30, 15, 15, 0]]


def shape(topology):
    """Ranks, and the fabric or the cables of each class."""
    if "fabric" in topology:
        fabric = topology["fabric"]
        return fabric["ranks"], (fabric["kind"],
                                 fabric["link_bytes_per_second"])
    rates = collections.defaultdict(list)
    for link in topology["links"]:
        rates[link["class"]].append(link["bytes_per_second"])
    return len(topology["ranks"]), {
        name: (len(all_of), max(all_of)) for name, all_of in rates.items()}


def rocm(weights, types=None, numa=None):
    """What rocm-smi --showtopo prints of that."""
    gpus = range(len(weights))

    def section(title, cells):
        lines = [f" {title} ".center(80, "="),
                 "       " + " ".join(f"GPU{gpu:<9}" for gpu in gpus)]
        lines += [f"GPU{row:<3} " + " ".join(f"{cells(row, column):<12}"
                                             for column in gpus)
                  for row in gpus]
        return "\n".join(lines) + "\n\n"

    text = " ROCm System Management Interface ".center(80, "=") + "\n"
    text += section("Weight between two GPUs",
                    lambda row, column: weights[row][column])
    text += section("Hops between two GPUs", lambda row, column: 1)
    if types is not None:
        text += section("Link Type between two GPUs",
                        lambda row, column: 0 if row == column else
                        types(row, column))
    text += " Numa Nodes ".center(80, "=") + "\n"
    for gpu, node in enumerate(numa or []):
        text += f"GPU[{gpu}]\t\t: (Topology) Numa Node: {node}\n"
        text += f"GPU[{gpu}]\t\t: (Topology) Numa Affinity: {node}\n"
    return text + " End of ROCm SMI Log ".center(80, "=") + "\n"


def pcie(weights, numa=None):
    return rocm(weights, lambda row, column: "PCIE", numa)


class Tables(cli.CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def show(self, content, *arguments):
        path = self.folder / "topo.txt"
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return cli.run("topology", "show", path, *arguments)

    def shown(self, content, *arguments):
        path = self.folder / "topo.txt"
        path.write_bytes(content.encode() if isinstance(content, str)
                         else content)
        return self.results("topology", "show", path, "--json", *arguments)

    def check(self, topology, ranks, links, notes):
        self.assertEqual(shape(topology), (ranks, links))
        for note in notes:
            self.assertIn(note, topology["source"])
        self.assertEqual("; note: " in topology["source"], bool(notes))


class Samples(Tables):
    def test_all_are_listed(self):
        self.assertEqual({path.stem for path in TABLES.iterdir()}, set(RIGHT))

    def test_each_is_what_it_says(self):
        for name, (ranks, links, notes) in RIGHT.items():
            tool = "rocm-smi" if name.startswith("amd_") else "nvidia-smi"
            for arguments in ((), ("--from", "auto"), ("--from", tool)):
                with self.subTest(name=name, arguments=arguments):
                    self.check(
                        self.results("topology", "show",
                                     TABLES / f"{name}.txt", "--json",
                                     *arguments),
                        ranks, links, notes)

    def test_encodings(self):
        text = (TABLES / "gh200_4x_alps_numa_ranges.txt").read_text()
        for codec, mark in (("utf-8", ""), ("utf-8", "\ufeff"),
                            ("utf-16-le", ""), ("utf-16-le", "\ufeff"),
                            ("utf-16-be", ""), ("utf-16-be", "\ufeff")):
            for end in ("\n", "\r\n", "\r", "\n\n"):
                with self.subTest(codec=codec, mark=mark, end=end):
                    self.check(self.shown(
                        (mark + text.replace("\n", end)).encode(codec)), *GH200)

    def test_what_copies_do_to_lines(self):
        text = (TABLES / "gh200_4x_alps_numa_ranges.txt").read_text()
        table = text[:text.index("\n\n")]
        rows = table.split("\n")
        for name, copy in (
                ("colours", f"\x1b[4m{rows[0]}\x1b[0m\n" + "\n".join(rows[1:])),
                ("colours without ESC",
                 f"[4m{rows[0]}[0m\n" + "\n".join(rows[1:])),
                ("colours by cat -v",
                 f"^[[4m{rows[0]}^[[0m\n" + "\n".join(rows[1:])),
                ("srun -l", "\n".join("0: " + row for row in rows)),
                ("a quotation", "\n".join("> " + row for row in rows)),
                ("a command before", "user@host:~$ nvidia-smi topo -m\n" + text),
                ("a frame", "\n".join(f"| {' | '.join(row.split())} |"
                                      for row in rows)),
                ("spaces of the web", table.replace(" ", "\xa0")),
                ("a sentence", table + "\nGPU0 is what the others wait for\n"),
                ("indented", "\n".join("    " + row for row in rows))):
            with self.subTest(name):
                self.check(self.shown(copy), *GH200)


class Nvidia(Tables):
    SYS = ("\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\n"
           + "".join(f"GPU{a}\t" + "\t".join(
               " X " if a == b else "SYS" for b in range(4))
               + f"\t{{cpu{a}}}\t{{numa{a}}}\n" for a in range(4)))

    def sys(self, cpus, numas):
        return self.SYS.format(
            **{f"cpu{i}": cpu for i, cpu in enumerate(cpus)},
            **{f"numa{i}": numa for i, numa in enumerate(numas)})

    def test_sockets(self):
        host = {"PHB": (4, 31.5e9)}
        two = host | {"SYS": (1, 20.8e9)}
        for cpus, numas, links, note in (
                (["0-7"] * 4, "0000", host, "one NUMA node is read as one"),
                (["0-7"] * 4, "0011", two, "one NUMA node is read as one"),
                (["0-7", "0-7", "8-15", "8-15"], ["N/A"] * 4, two, "one NUMA"),
                (["N/A"] * 4, ["N/A"] * 4, two,
                 "two are assumed: gpu0, gpu1 and gpu2, gpu3"),
                ([""] * 4, [""] * 4, two, "two are assumed"),
                ([""] * 4, ["-1"] * 4, two, "two are assumed"),
                ([""] * 4, "0101", two, "one NUMA node")):
            with self.subTest(cpus=cpus, numas=numas):
                self.check(self.shown(self.sys(cpus, numas)), 4, links, [note])

    def test_numa_nodes_that_are_no_sockets(self):
        gpus = range(8)
        nodes = [3, 2, 1, 0, 7, 6, 5, 4]
        text = ("\t" + "\t".join(f"GPU{a}" for a in gpus)
                + "\tCPU Affinity\tNUMA Affinity\n")
        for a in gpus:
            text += f"GPU{a}\t" + "\t".join(
                " X " if a == b else "SYS" for b in gpus)
            text += f"\t{a * 8}-{a * 8 + 7}\t{nodes[a]}\n"
        self.check(self.shown(text), 8,
                   {"PHB": (8, 31.5e9), "SYS": (1, 20.8e9)},
                   ["more NUMA nodes than there would be sockets; two are "
                    "assumed: gpu0, gpu1, gpu2, gpu3 and gpu4, "])

    def test_a_gpu_without_its_nvlinks(self):
        gpus = range(4)
        text = "\t" + "\t".join(f"GPU{a}" for a in gpus) + "\n"
        for a in gpus:
            text += f"GPU{a}\t" + "\t".join(
                " X " if a == b else "NODE" if 2 in (a, b) else "NV18"
                for b in gpus) + "\n"
        links = {"NV18": (3, 450e9), "NODE": (4, 31.5e9)}
        self.check(self.shown(text), 4, links, [GENERATION])
        # A port is as wide as its widest pair.
        narrow = text.replace("NV18", "NV17", 1).replace(
            "GPU1\tNV18", "GPU1\tNV17")
        self.check(self.shown(narrow), 4, links, [GENERATION])
        self.assert_fault(self.show(narrow, "--rate", "NV17=1e9"),
                          "class NV17, which no link of its GPUs has")

    def test_generation_of_nvlink(self):
        name = TABLES / "h100_half_hgx_kvm_4gpu_8nic_prompt.txt"
        for rate in ("NV=50e9", "NV18=900e9"):
            got = self.results("topology", "show", name, "--json", "--rate",
                               rate)
            self.assertEqual(shape(got), (4, ("switch", 900e9)))
            self.assertNotIn(GENERATION, got["source"])
        got = self.results("topology", "show",
                           TABLES / "gb200_nvl72_tray_4gpu_8nic.txt", "--json",
                           "--rate", "NV=25e9")
        self.assertEqual(shape(got), (4, ("switch", 450e9)))

    def test_rates_that_would_have_no_effect(self):
        # Only NICs have PIX, PXB, NODE or SYS there.
        for name, rate, classes in (
                ("oci_h100_4gpu_4nic_not_a_tree", "PXB", "NV, NV18"),
                ("juwels_a100_4x_nv4_4nic", "PXB", "NODE, NV, NV4"),
                ("a100_8x_container_nics_all_sys", "SYS", "NV, NV12"),
                ("rtx6000ada_4x_2socket_4nic", "PIX", "NODE, SYS"),
                ("amd_mi308x_8x_all_xgmi", "PCIE", "XGMI")):
            with self.subTest(name=name):
                self.assert_fault(
                    cli.run("topology", "show", TABLES / f"{name}.txt",
                            "--rate", f"{rate}=1e9"),
                    f"class {rate}, which no link of its GPUs has",
                    f"want one of {classes}")

    def test_refused(self):
        text = (TABLES / "rtx6000ada_4x_2socket_4nic.txt").read_text()
        rows = text.split("\n")
        for copy, *words in (
                (text + text, "a second row of GPU0 in line", "file of its own"),
                (text + text.replace("GPU", "GPU1"), "a row of GPU10 in line",
                 "second table goes into a file of its own"),
                ("\n".join(rows[1:]), "no line of columns", "drops the columns"),
                (rows[0], "no row of GPU0"),
                ("\n".join(rows[:3]), "no row of GPU2"),
                (text.replace("NODE     X ", "NODE     X\x07", 1),
                 "got \"X?\" between GPU1 and GPU1"),
                ("\tGPU0\tGPU1\nGPU0\t X \t\nGPU1\tSYS\t X \n",
                 "got \"\" between GPU0 and GPU1"),
                ("\tGPU0\tGPU1\nGPU0\t X \tOK\nGPU1\tOK\t X \n",
                 "got \"OK\" between GPU0 and GPU1", "PIX")):
            with self.subTest(words=words):
                self.assert_fault(self.show(copy), "topo.txt", *words)


class Others(Tables):
    def test_what_is_no_table(self):
        for text in ("", "\n\n", "No devices were found\n", "[1, 2]",
                     "Failed to initialize NVML: Unknown Error\n"):
            with self.subTest(text=text):
                self.assert_fault(self.show(text), "topo.txt", "got no table",
                                  "nvidia-smi topo -m", "topology file")
        self.assert_fault(self.show("{"), "topo.txt", "line 1")


class Rocm(Tables):
    XGMI = staticmethod(lambda row, column: "XGMI")

    def test_weights_count(self):
        self.check(self.shown(rocm(MI250X, self.XGMI)), 8,
                   {"XGMI": (12, 48e9)},
                   [USABLE, "pairs of weight 30 and more have no link"])
        text = self.show(rocm(MI250X, self.XGMI), "--rate", "XGMI=50e9").stdout
        self.assertIn("ranks pass traffic on", text)
        self.assertIn("32 pairs: XGMI > XGMI, 50 GB/s; gpu0 > gpu1 > gpu3",
                      text)

    def test_pcie(self):
        near = [[0, 40, 72, 72], [40, 0, 72, 72], [72, 72, 0, 40],
                [72, 72, 40, 0]]
        two = {"PCIE": (4, 31.5e9), "NUMA": (1, 32e9)}
        self.check(self.shown(pcie(near)), 4, two, [])
        # Each behind a bridge of its own: NUMA nodes tell, or nothing does.
        far = [[0 if a == b else 72 for a in range(4)] for b in range(4)]
        self.check(self.shown(pcie(far, [0, 0, 1, 1])), 4, two,
                   ["NUMA between GPUs of one NUMA node"])
        for unknown in (None, [-1] * 4, [2 ** 32 - 1] * 4):
            self.check(self.shown(pcie(far, unknown)), 4, two,
                       ["two are assumed"])

    def test_two_hives(self):
        def xgmi(row, column):
            return row // 2 == column // 2
        weights = [[0 if a == b else 15 if xgmi(a, b) else 72
                    for a in range(4)] for b in range(4)]
        text = rocm(weights, lambda a, b: "XGMI" if xgmi(a, b) else "PCIE",
                    [0, 0, 1, 1])
        self.check(self.shown(text), 4,
                   {"XGMI": (2, 48e9), "PCIE": (4, 31.5e9),
                    "NUMA": (1, 32e9)}, [USABLE])

    def test_rates(self):
        path = TABLES / "amd_mi300a_4x_numa_each.txt"
        got = self.results("topology", "show", path, "--json", "--rate",
                           "XGMI=128e9")
        self.assertEqual(shape(got), (4, ("mesh", 128e9)))
        self.assertNotIn("note", got["source"])
        self.assert_fault(cli.run("topology", "show", path, "--rate", "NV=1"),
                          "class \"NV\"", "XGMI, PCIE or NUMA")

    def test_of_another_tool(self):
        self.assert_fault(
            cli.run("topology", "show", TABLES / "amd_mi308x_8x_all_xgmi.txt",
                    "--from", "nvidia-smi"),
            "a table of rocm-smi with --from nvidia-smi", "want --from rocm-smi")
        self.assert_fault(
            cli.run("topology", "show", TABLES / "gh200_4x_alps_numa_ranges.txt",
                    "--from", "rocm-smi"),
            "a table of nvidia-smi with --from rocm-smi",
            "want --from nvidia-smi")

    def test_refused(self):
        two = [[0, 15], [15, 0]]
        good = rocm(two, self.XGMI)
        for text, *words in (
                (rocm(two), "no link types", "rocm-smi --showtopo"),
                (good.replace("Weight", "Width"), "no weights"),
                (good + good, "\"Weight between two GPUs\" a second time",
                 "file of its own"),
                (rocm([[0, 15], [30, 0]], self.XGMI), "\"15\" from GPU0 to GPU1",
                 "\"30\" back"),
                (rocm([[0, 30], [30, 0]], self.XGMI), "without links of weight"),
                (rocm([[0, 17], [17, 0]], self.XGMI), "weight \"17\" of XGMI",
                 "want 15 for each"),
                (rocm([[0, "N/A"], ["N/A", 0]], self.XGMI), "weight \"N/A\""),
                (rocm(two, lambda a, b: "CXL"), "link type \"CXL\"",
                 "XGMI or PCIE"),
                (good[:good.index("GPU1   15")], "no row of GPU1"),
                ("WEIGHT TABLE:\n 0000:0c:00.0 0000:22:00.0\n",
                 "neither weights nor link types", "rocm-smi --showtopo")):
            with self.subTest(words=words):
                self.assert_fault(self.show(text), "topo.txt", *words)


if __name__ == "__main__":
    unittest.main()
