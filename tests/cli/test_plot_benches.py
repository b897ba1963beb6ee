"""Pictures of benchmarks: what is drawn, that it can be read, and refusals."""

import contextlib
import itertools
import json
import os
import threading
import unittest
import xml.etree.ElementTree

import cli
import python_command
from python_command import run

STRATEGIES = ("ring", "multi_ring", "time_varying_multi_ring", "direct",
              "all_gather", "double_ring:nodes=2", "paths:nodes=2",
              "hierarchical:nodes=2", "synthesised")
NAN = float("nan")
EMULATED = {"bench": "attention", "compute": "emulate", "device_table": "h100"}


def spread(median):
    return {"median": median, "min": 0.75 * median, "max": 1.5 * median}


def time_case(name, direction="forward", size=8 << 20, seconds=1.0, **fields):
    return {"name": name, "pass": direction, "bytes": size,
            "seconds": spread(seconds), "bare_seconds": spread(seconds / 2),
            "bound_seconds": seconds / 4, "predicted_seconds": seconds / 8,
            **fields}


def exchange(cases, **facts):
    return {"bench": "exchange", "ranks": 8, "processes": True,
            "topology": "machines/mesh.json", "repeat": 3, "cases": cases,
            **facts}


def split(bench="attention", ratios=None, **facts):
    return {"bench": bench, "baseline": "libtorch's flash attention",
            "ranks": 4, "threads": 1, "seq_len": 16384, "batch": 1, "heads": 8,
            "head_dim": 64, "dtype": "float32", "layout": "zigzag",
            "mask": "causal", "backward": True, "repeat": 5,
            "cases": [{"name": name, "ratio": spread(ratio)} for name, ratio in
                      (ratios or {"ring": 0.5, "direct": 1.25}).items()],
            **facts}


def model(cases=None):
    return {"bench": "model", "ranks": 4, "cases": cases or [model_case()]}


def model_case(**fields):
    return {"softmax": "multi_ring", "linear": "all_gather", "seq_len": 16384,
            "seconds": spread(4.0), "compute_seconds": spread(2.0),
            "softmax_waiting_seconds": spread(1.0),
            "linear_waiting_seconds": 0.25,
            "gradient_waiting_seconds": spread(0.5),
            "optimizer_seconds": spread(0.125), "tokens_per_second": 4096.0,
            "peak_memory_bytes": 123000000, **fields}


class BenchTest(python_command.CommandTest):
    def file(self, content, name="exchange.json"):
        return self.write(name, content if isinstance(content, (str, bytes))
                          else json.dumps(content, indent=1))

    def draw(self, *contents):
        """The figure of files of these contents, named a.json, b.json, …"""
        from ringweave.commands.bench_results import read
        from ringweave.commands.draw_benches import draw
        return draw([read(str(self.file(content, f"{chr(97 + i)}.json")))
                     for i, content in enumerate(contents)])

    def texts(self, panel):
        return [text.get_text() for text in panel.texts]

    def bars(self, panel):
        """(begin, end) of each."""
        return [(bar.get_x(), bar.get_x() + bar.get_width())
                for bar in panel.patches]

    def spreads(self, panel):
        """(least, most) of each error bar that lies or stands."""
        ends = []
        for container in panel.containers:
            for lines in getattr(container, "lines", ())[2:]:
                for line in itertools.chain(*(each.get_segments()
                                              for each in lines)):
                    axis = 0 if line[0][1] == line[1][1] else 1
                    ends.append((line[0][axis], line[1][axis]))
        return ends

    def lines(self, panel):
        """Where the lines across bars stand."""
        return [lines.get_segments()[0][0][0] for lines in panel.collections
                if lines.get_linewidth()[0] == 2]

    def labels(self, panel):
        return [text.get_text() for text in panel.get_yticklabels()]

    def legend(self, figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]


@python_command.needs("matplotlib")
class Drawn(BenchTest):
    def test_times(self):
        figure = self.draw(exchange([
            time_case("ring", seconds=2.0), time_case("direct", seconds=1.0),
            time_case("ring", "backward", seconds=8.0)]))
        forward, backward = figure.axes
        self.assertEqual(forward.get_title("left"), "forward")
        self.assertEqual(backward.get_title("left"), "backward")
        self.assertEqual(self.labels(forward), ["ring", "direct"])
        # The schedule's, then that of the same messages at once.
        self.assertEqual(self.bars(forward), [(0, 2), (0, 1), (0, 1), (0, 0.5)])
        self.assertEqual(self.spreads(forward), [
            (1.5, 3), (0.75, 1.5), (0.75, 1.5), (0.375, 0.75)])
        self.assertEqual(self.bars(backward), [(0, 8), (0, 4)])
        self.assertEqual(self.lines(forward), [0.5, 0.25])
        predicted = [line.get_xdata()[0] for line in forward.lines
                     if line.get_marker() == "v"]
        self.assertEqual(predicted, [0.25, 0.125])
        self.assertEqual(self.texts(forward), [
            "2 s, 4.00 × bound", "1 s, 4.00 × bound"])
        self.assertEqual(self.legend(figure), [
            "measured", "the same messages at once (bare)",
            "bound of all transfers", "predicted"])
        self.assertEqual(
            figure.get_suptitle(), "Exchange alone, without computation\n"
            "mesh.json, 8 ranks, a process each, 8 MiB per shard or state, "
            "medians of 3 with least and most")

    def test_times_without_a_topology(self):
        case = time_case("ring")
        del case["bound_seconds"], case["predicted_seconds"]
        figure = self.draw(exchange([case], topology=""))
        self.assertEqual(self.texts(figure.axes[0]), ["1 s"])
        self.assertEqual(len(self.legend(figure)), 2)

    def test_curves_over_sizes(self):
        """Two strategies that cross."""
        cases = [time_case(name, size=size, seconds=start + size * slope)
                 for name, start, slope in (("ring", 1, 2), ("direct", 4096, 1))
                 for size in (4096, 1024, 2048)]
        figure = self.draw(exchange(cases))
        (panel,) = figure.axes
        self.assertEqual((panel.get_xscale(), panel.get_yscale()),
                         ("log", "log"))
        ring, direct = (container.lines[0] for container in panel.containers)
        sizes = [1024, 2048, 4096]
        self.assertEqual(list(ring.get_xdata()), sizes)
        self.assertEqual(list(ring.get_ydata()), [1 + 2 * x for x in sizes])
        self.assertEqual(list(direct.get_ydata()), [4096 + x for x in sizes])
        self.assertNotEqual(ring.get_color(), direct.get_color())
        self.assertNotEqual(ring.get_marker(), direct.get_marker())
        self.assertEqual(self.spreads(panel)[0], (0.75 * 2049, 1.5 * 2049))
        for share in (1 / 2, 1 / 4, 1 / 8):  # bare, bound, predicted
            self.assertIn([share * (1 + 2 * x) for x in sizes],
                          [list(line.get_ydata()) for line in panel.lines])
        self.assertEqual(self.legend(figure), [
            "ring", "direct", "bound of all transfers", "predicted",
            "the same messages at once (bare)"])
        self.assertEqual([text.get_text() for text in panel.get_xticklabels()],
                         ["1 KiB", "2 KiB", "4 KiB"])

    def test_ratios(self):
        for bench in ("attention", "linear"):
            figure = self.draw(split(bench))
            (panel,) = figure.axes
            self.assertEqual(self.labels(panel), ["ring", "direct"])
            self.assertEqual(self.bars(panel), [(0, 0.5), (0, 1.25)])
            self.assertEqual(self.spreads(panel),
                             [(0.375, 0.75), (0.9375, 1.875)])
            self.assertEqual(self.texts(panel), [
                "0.500  (0.375 to 0.750)", "1.250  (0.938 to 1.875)"])
            for words in ("ttention", "4 ranks", "16384 tokens", "float32",
                          "causal", "forward and backward", "libtorch's"):
                self.assertIn(words, figure.get_suptitle())

    def test_steps(self):
        figure = self.draw(model([
            model_case(), model_case(seq_len=32768, linear="",
                                     linear_waiting_seconds=0)]))
        (panel,) = figure.axes
        self.assertEqual(self.labels(panel), [
            "softmax multi_ring\nlinear all_gather\n16384 tokens",
            "softmax multi_ring\n32768 tokens"])
        self.assertEqual(self.bars(panel), [
            (0, 2), (2, 3), (3, 3.25), (3.25, 3.75), (3.75, 3.875),
            (0, 2), (2, 3), (3, 3), (3, 3.5), (3.5, 3.625)])
        self.assertEqual(self.spreads(panel), [(3, 6)] * 2)
        self.assertEqual(self.texts(panel),
                         ["4 s, 4.1 k tokens/s, peak 123 MB"] * 2)
        self.assertEqual(self.legend(figure), [
            "compute", "softmax waiting", "linear waiting", "gradient waiting",
            "optimizer", "the whole step"])

    def test_emulated_compute_is_drawn_as_times(self):
        figure = self.draw({**EMULATED, "cases": [time_case(
            "ring", seconds=3.0, compute_seconds=1.0, overlapped_seconds=1.5)]})
        (panel,) = figure.axes
        self.assertEqual(self.bars(panel), [(0, 3), (0, 1.5)])
        self.assertEqual(self.lines(panel), [0.75, 1.0, 1.5])
        self.assertEqual(self.texts(panel), ["3 s, 2.00 × overlapped"])
        self.assertEqual(self.legend(figure)[2:], [
            "bound of all transfers", "compute alone",
            "compute and transfers overlapped", "predicted"])
        self.assertIn("emulated compute\nas h100 would compute",
                      figure.get_suptitle())

    def test_what_a_step_is_compared_with_is_no_part(self):
        figure = self.draw({**model([model_case(
            bare_seconds=9.0, bound_seconds=8.0, predicted_seconds=7.0)]),
            "compute": "emulate"})
        (panel,) = figure.axes
        self.assertEqual(self.bars(panel)[-1], (3.75, 3.875))
        self.assertEqual(self.legend(figure)[-1], "predicted")
        self.assertGreater(panel.get_xlim()[1], 7)
        self.assertIn("A step of training with emulated compute",
                      figure.get_suptitle())

    def test_files_of_several_machines(self):
        figure = self.draw(
            exchange([time_case("ring")]),
            exchange([time_case("ring", seconds=3.0)], topology="slow.json"))
        first, second = figure.axes
        self.assertEqual(self.bars(first)[0], (0, 1))
        self.assertEqual(self.bars(second)[0], (0, 3))
        self.assertEqual(first.get_xlim(), second.get_xlim())
        self.assertEqual(first.get_title("left"), "a, mesh.json\nforward")
        self.assertEqual(second.get_title("left"), "b, slow.json\nforward")
        self.assertIn("8 ranks", figure.get_suptitle())

    def test_files_of_several_sizes(self):
        """Of one machine they are one curve, unless a case is in both."""
        small, large = (
            exchange([time_case("ring", size=size)], repeat=size,
                     median_link_bytes_per_second=1e9 / size)
            for size in (1024, 4096))
        (panel,) = self.draw(small, large).axes
        self.assertEqual(list(panel.containers[0].lines[0].get_xdata()),
                         [1024, 4096])
        self.assertEqual(len(self.draw(small, small).axes), 2)
        self.assertEqual(len(self.draw(small, {**large, "ranks": 7}).axes), 2)

    def test_files_whose_facts_differ(self):
        """Any field beside the cases keeps files apart, also an object."""
        for field, one, other in (
                ("kv_heads", 2, 4), ("decay", "per_head", "constant"),
                ("config", {"model": {"layers": 2}}, {"model": {"layers": 3}}),
                ("of a later version", [1], [2])):
            def parts(value):
                return [{**model([model_case(seq_len=length)]), field: fact}
                        for length, fact in ((1024, one), (2048, value))]
            with self.subTest(field=field):
                figure = self.draw(*parts(one))
                self.assertEqual(len(figure.axes), 1)
                self.assertEqual(len(self.draw(*parts(other)).axes), 2)
                shown = field in ("kv_heads", "decay")
                self.assertEqual(str(one) in figure.get_suptitle(), shown)

    def test_printed_by_the_program(self):
        """Every field that is drawn is one that the program prints."""
        mesh = ("--ranks", 2, "--topology", "mesh:ranks=2", "--strategy",
                "ring,direct")
        small = ("--ranks", 2, "--seq-len", 64, "--heads", 1, "--head-dim", 8)
        benches = [("exchange", *mesh, "--shard-bytes", size)
                   for size in ("64KiB", "64KiB,1MiB")]
        if cli.built_with_torch():
            config = python_command.ROOT / "configs/quickstart.json"
            emulate = ("--compute", "emulate", "--device-table",
                       "custom:rate=1e9,efficiency=1")
            benches += [
                ("attention", *small), ("linear", *small),
                ("attention", *small, *mesh[2:], *emulate),
                ("linear", *small, *mesh[2:4], *emulate),
                ("model", "--config", config, "--ranks", 2, "--seq-len", 64),
                ("model", "--config", config, *mesh[:4], "--seq-len", 64,
                 *emulate)]
        for bench in benches:
            done = cli.run("bench", *bench, "--json", "--repeat", 2)
            self.assertEqual(done.returncode, 0, done.stderr)
            figure = self.draw(done.stdout)
            cases = json.loads(done.stdout)["cases"]
            with self.subTest(bench=bench):
                panel = figure.axes[0]
                ends = [end for _, end in self.bars(panel)]
                first = cases[0].get("ratio") or cases[0]["seconds"]
                if bench[0] == "model":  # the parts add up
                    self.assertAlmostEqual(ends[-1], first["median"])
                elif bench[-1] == "64KiB,1MiB":
                    curve, _ = panel.containers
                    self.assertEqual(curve.lines[0].get_ydata()[0],
                                     first["median"])
                else:
                    self.assertEqual(ends[0], first["median"])
                if "emulate" in bench and bench[0] != "model":
                    self.assertEqual(self.lines(panel)[:3], [
                        cases[0][f"{field}_seconds"] for field in
                        ("bound", "compute", "overlapped")])


@python_command.needs("matplotlib")
class Readable(BenchTest):
    def assert_readable(self, figure):
        """All text lies in the picture, and none on another."""
        from matplotlib.backends.backend_agg import RendererAgg
        width, height = figure.bbox.size
        boxes = []  # of lines: text, left, right, bottom, top

        class Recorder(RendererAgg):
            def draw_text(self, gc, x, y, s, prop, angle, ismath=False, **_):
                along, across, _ = self.get_text_width_height_descent(
                    s, prop, ismath)
                y = height - y
                box = ((x, x + along, y, y + across) if angle == 0 else
                       (x - across, x, y, y + along))
                boxes.append((s, *box))

        figure.draw(Recorder(width, height, figure.dpi))
        self.assertGreater(len(boxes), 5)
        for text, left, right, bottom, top in boxes:
            self.assertTrue(0 <= left and right <= width and 0 <= bottom and
                            top <= height, f"{text!r} is cut off")
        for (one, *a), (other, *b) in itertools.combinations(boxes, 2):
            self.assertFalse(min(a[1], b[1]) - max(a[0], b[0]) > 1 and
                             min(a[3], b[3]) - max(a[2], b[2]) > 1,
                             f"{one!r} lies on {other!r}")

    def test_many_strategies(self):
        long = "time_varying_multi_ring:strands=14,nodes=2"
        for sizes in ([8 << 20], [1 << power for power in range(10, 31)]):
            cases = [time_case(name, direction, size,
                               seconds=1.2345e-9 * size * (1 + number))
                     for number, name in enumerate((*STRATEGIES, long))
                     for direction in ("forward", "backward") for size in sizes]
            one = exchange(cases)
            other = exchange(cases, topology="another_machine.json", ranks=16)
            with self.subTest(sizes=len(sizes)):
                self.assert_readable(self.draw(one))
                self.assert_readable(self.draw(one, other, other))

    def test_other_benchmarks(self):
        ratios = {name: 0.1 + number / 3 for number, name in
                  enumerate(STRATEGIES)}
        cases = [model_case(softmax=name, seq_len=length, seconds=spread(5 / 3))
                 for name in STRATEGIES for length in (1024, 1 << 20)]
        self.assert_readable(self.draw(split(ratios=ratios)))
        self.assert_readable(self.draw(model(cases)))
        self.assert_readable(self.draw(model()))

    def test_one_bar(self):
        self.assert_readable(self.draw(exchange([time_case("ring")])))
        self.assert_readable(self.draw(exchange([
            time_case("ring", seconds=0.0, bound_seconds=0)])))

    def test_long_names(self):
        long = 3000 * "x"
        both = [time_case(name, direction) for name in ("ring", long)
                for direction in ("forward", "backward")]
        sizes = [time_case(name, size=size) for name in ("ring", long)
                 for size in (1024, 4096)]
        for content in (exchange(both), exchange(sizes, topology=long),
                        split(ratios={long: 0.5}, baseline=long),
                        model([model_case(softmax=long, linear=long)])):
            self.assert_readable(self.draw(content))

    def test_numbers_at_the_limits(self):
        for seconds in (1e-17, 1e18):
            for sizes in ([8], [1, 10**18]):
                self.draw(exchange([
                    time_case("ring", size=size, seconds=seconds / 2,
                              bare_seconds=0, bound_seconds=5e-324)
                    for size in sizes])).draw_without_rendering()


@python_command.needs("matplotlib")
class Files(BenchTest):
    def labels_of(self, svg):
        """The texts of a picture: they are paths, each after its text."""
        parser = xml.etree.ElementTree.XMLParser(
            target=xml.etree.ElementTree.TreeBuilder(insert_comments=True))
        tree = xml.etree.ElementTree.parse(svg, parser)
        return [each.text.strip() for each in tree.iter(
            xml.etree.ElementTree.Comment)]

    def test_svg(self):
        file = self.file(exchange([time_case(name) for name in STRATEGIES]))
        svgs = [self.folder / "1.svg", self.folder / "2.SVG"]
        for svg in svgs:
            self.assertEqual(self.assert_done(run("plot", file, "--out", svg)),
                             f"{svg}\n")
        self.assertEqual(*(svg.read_bytes() for svg in svgs))
        labels = self.labels_of(svgs[0])
        for text in (*STRATEGIES, "forward", "time", "predicted",
                     "1 s, 4.00 × bound"):
            self.assertIn(text, labels)

    def test_default_names(self):
        file = self.file(split())
        self.assertEqual(self.assert_done(run("plot", file)),
                         f"{self.folder}/exchange.png\n")
        self.assertEqual((self.folder / "exchange.png").read_bytes()[:8],
                         b"\x89PNG\r\n\x1a\n")
        self.assertEqual(sorted(os.listdir(self.folder)),
                         ["exchange.json", "exchange.png"])

    def test_an_input_stays(self):
        content = json.dumps(exchange([time_case("ring")]))
        file = self.file(content, "x.png")
        other = self.file(content, "other.json")
        link = self.folder / "link.png"
        link.symlink_to(file)
        with contextlib.chdir(self.folder):
            for given in ([file], [file, "--out", file], ["x.png"],
                          [file, "--out", "./x.png"],
                          [file, "--out", link], [link, "--out", file],
                          [other, file, "--out", file]):
                self.assert_fault(run("plot", *given), "also an input", "--out")
        self.assertEqual(file.read_text(), content)
        line = json.dumps({"kind": "step", "step": 1, "loss": 1.0}) + "\n"
        metrics = self.file(line, "plot.png")
        self.assert_fault(run("plot", metrics), metrics, "also an input")
        self.assertEqual(metrics.read_text(), line)

    def test_a_pipe(self):
        """It is read once. Nothing is drawn beside it."""
        line = json.dumps({"kind": "step", "step": 1, "loss": 1.0}) + "\n"
        for number, content in enumerate(
                (json.dumps(exchange([time_case("ring")]), indent=1), line)):
            for out in ([], ["--out", "x.png"]):
                pipe = self.folder / f"{number}{len(out)}.fifo"
                os.mkfifo(pipe)
                writer = threading.Thread(target=pipe.write_text,
                                          args=(content,), daemon=True)
                writer.start()
                with contextlib.chdir(self.folder):
                    done = python_command.python("-m", "ringweave", "plot",
                                                 pipe, *out)
                writer.join(python_command.SECONDS)
                self.assertEqual((done.returncode, done.stdout, done.stderr),
                                 (0, f"{(out or ['plot.png'])[-1]}\n", ""))

    def test_names_that_are_no_plain_text(self):
        names = ["a\ud800b", "a\u0001b", "a\nb", "\ufffe"]
        out = self.folder / "x.svg"
        wild = "".join(names)
        file = os.fsdecode(b"\x02\xff.json")
        sizes = [time_case(name, size=size) for name in names[1:3]
                 for size in (1024, 2048)]
        for content in (
                exchange([time_case(wild)], topology=wild), exchange(sizes[:2]),
                split(ratios={wild: 1.0}, baseline=wild),
                model([model_case(softmax=wild, **{f"{wild}_seconds": 1})])):
            self.file(content, file)
            with contextlib.chdir(self.folder):
                self.assert_done(run("plot", file, file, "--out", out))
            self.assertIn("a\N{REPLACEMENT CHARACTER}b",
                          "".join(self.labels_of(out)))
        self.assert_done(run("plot", self.file(exchange(
            [time_case(names[0])])), "--out", out))
        self.assertIn("a\N{REPLACEMENT CHARACTER}b", self.labels_of(out))

    def test_a_dollar_is_no_formula(self):
        file = self.file(exchange([time_case("$x$_{"), time_case("ring")]),
                         "$_$.json")
        out = self.folder / "x.svg"
        self.assert_done(run("plot", file, file, "--out", out))
        self.assertIn("$x$_{", self.labels_of(out))


@python_command.needs("matplotlib")
class Refused(BenchTest):
    def test_files_that_are_no_benchmark(self):
        good = json.dumps(exchange([time_case("ring")]))
        for content, *words in (
                ("", "is empty"), (good[:-9], "no JSON"), ("\xff", "no JSON"),
                ("[" * 100000, "no JSON"), ("3", '"bench"'), ("[]", '"bench"'),
                ({"cases": []}, '"bench"'), ({"bench": 3}, "3", "exchange"),
                ({"bench": "topology", "cases": [{}]}, '"topology"', "linear"),
                ({"bench": "exchange"}, '"cases"'),
                (exchange([time_case("ring")] * 2), "2 cases of ring forward"),
                (split(cases=split()["cases"] * 2), "2 cases of ring"),
                (exchange([]), '"cases"'), (exchange({"ring": 1}), '"cases"')):
            with self.subTest(content=str(content)[:60]):
                file = self.file(content.encode("latin-1") if
                                 isinstance(content, str) else content)
                self.assert_fault(run("plot", file), file, *words)

    def test_fields(self):
        case = time_case("ring")
        for field, value, *words in (
                ("name", None, "null"), ("name", 3, "3"), ("pass", "absent"),
                ("seconds", "absent", "nothing"), ("seconds", "x", '"x"'),
                ("seconds", NAN), ("seconds", 1e308),
                ("seconds", -1.0), ("seconds", True),
                ("seconds", {"median": 1}, '"min"'),
                ("seconds", {"median": 1, "min": 2, "max": 3}, '"median"'),
                ("bound_seconds", "x"), ("bare_seconds", []),
                ("bytes", 10**400), ("bytes", 0)):
            wrong = {**case, field: value}
            if value == "absent":
                del wrong[field]
            with self.subTest(field=field, value=value):
                file = self.file(exchange([case, wrong]))
                self.assert_fault(run("plot", file), f"{file}: case 2:",
                                  f'"{field}"', *words)
        for content, field in (
                (split(ratios={"ring": 0.5}), "ratio"),
                (model(), "seconds"),
                (model(), "seq_len")):
            del content["cases"][0][field]
            self.assert_fault(run("plot", self.file(content)), "case 1",
                              f'"{field}"')
        self.assert_fault(run("plot", self.file(exchange([3]))), "case 1",
                          "got 3", "an object")

    def test_facts(self):
        for content, field, value, wanted in (
                (model(), "parameters", "x", "a whole number"),
                (model(), "parameters", 10**400, "a whole number"),
                (model(), "batch", -1, "a whole number"),
                (exchange([time_case("ring")]), "ranks", 1.5, "a whole number"),
                (exchange([time_case("ring")]), "processes", 1, "true or"),
                (exchange([time_case("ring")]), "topology", {}, "a text"),
                (split(), "mask", ["causal"], "a text"),
                (split(), "repeat", True, "a whole number")):
            with self.subTest(field=field, value=str(value)[:40]):
                file = self.file({**content, field: value})
                self.assert_fault(run("plot", file), f"{file}: got ",
                                  f'in "{field}"; want {wanted}')

    def test_times_that_have_no_logarithm(self):
        for seconds in (0.0, 5e-324):
            file = self.file(exchange([
                time_case("ring", size=size, seconds=seconds)
                for size in (1024, 2048)]))
            self.assert_fault(run("plot", file), "got 0 seconds", "ring")

    def test_more_than_a_picture_holds(self):
        def times(count, sizes=(1024,), **facts):
            return exchange([time_case(f"s{i}", size=size)
                             for i in range(count) for size in sizes], **facts)
        parts = {f"{i}_seconds": 1 for i in range(3)}
        files = [self.file(times(1, ranks=ranks), f"{ranks}.json")
                 for ranks in range(21)]
        for given, *words in (
                ([self.file(times(2000), "a")], "2000 cases", "at most 200"),
                ([self.file(times(41, (1, 2)), "b")], "41 names", "at most 40"),
                ([self.file(model([model_case(**parts)]), "c")], "8 parts"),
                (files, "21 files", "at most 20")):
            self.assert_fault(run("plot", *given, "--out",
                                  self.folder / "x.png"), *words)
        self.assert_fault(run("plot", self.file(exchange(
            [time_case("ring", f"p{size}", size=size)
             for size in range(1, 30)]))), '"p1"', '"forward" or "backward"')

    def test_files_without_an_end(self):
        large = self.folder / "large.json"
        large.write_bytes(b"{\n")
        os.truncate(large, 1 << 40)
        lines = self.folder / "lines"
        os.mkfifo(lines)

        def endless():
            with contextlib.suppress(BrokenPipeError), open(
                    lines, "wb") as stream:
                while True:
                    stream.write(b'{"kind": "later", "x": "%s"}\n' % (
                        b"x" * 4096))
        threading.Thread(target=endless, daemon=True).start()
        for file in ("/dev/zero", large, lines):
            self.assert_fault(run("plot", file), file, "more than 64 MiB")
        self.assert_fault(run("tensorboard", "/dev/zero"), "more than 64 MiB")

    def test_mixtures(self):
        bench = self.file(exchange([time_case("ring")]))
        other = self.file(split(), "attention.json")
        line = {"kind": "step", "step": 1, "loss": 1.0}
        run_file = self.file(json.dumps(line) + "\n", "run/metrics.jsonl")
        for given in (run_file, run_file.parent):
            for order in ([given, bench], [bench, given]):
                self.assert_fault(run("plot", *order), given, bench,
                                  "only runs")
        self.assert_fault(run("plot", bench, other), bench, other, "exchange",
                          "attention")
        emulated = self.file({**EMULATED, "cases": [time_case("ring")]},
                             "emulated.json")
        self.assert_fault(run("plot", other, emulated), "emulated")
        for option in (["--x", "seconds"], ["--x", "step"], ["--smooth", 1]):
            self.assert_fault(run("plot", bench, *option), option[0], bench)
        # Metrics of one line are JSON too.
        self.assert_done(run("plot", run_file))


if __name__ == "__main__":
    unittest.main()
