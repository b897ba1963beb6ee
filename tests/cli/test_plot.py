"""`python -m ringweave plot` and `tensorboard`: the metrics of runs."""

import contextlib
import json
import math
import os
import pathlib
import unittest
import xml.etree.ElementTree

import python_command
from python_command import python, run


def step(number, **fields):
    return {"kind": "step", "step": number, "loss": 8.0 / number,
            "learning_rate": 0.001, "grad_norm": 1.5, "seconds": 0.5,
            "tokens_per_second": 1000.0 + number, "waiting_share_mean": 0.125,
            "waiting_share_max": 0.25, "bytes_sent": 4096, **fields}


def lines_of_a_run():
    """18 lines: ten steps, resumed after the fourth (twice) and the seventh."""
    lines = []
    for number in range(1, 11):
        lines.append(step(number))
        if number % 4 == 0:
            lines.append({"kind": "validation", "step": number,
                          "loss": 9.0 / number, "tokens": 64})
        if number in (4, 7):
            lines.append({"kind": "checkpoint", "step": number, "seconds": 0.1})
            lines += [{"kind": "resume", "step": number, "ranks": 2}] * (
                2 if number == 4 else 1)
        if number == 5:
            lines.append({"kind": "of a later version", "what": [1, 2]})
    return lines


def text_of(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


class MetricsTest(python_command.CommandTest):
    def run_folder(self, name="first", lines=None, end=""):
        lines = lines_of_a_run() if lines is None else lines
        return self.write(f"{name}/metrics.jsonl", text_of(lines) + end).parent

    def assert_refuses_bad_metrics(self, command):
        """Of what both commands read in the same way."""
        self.assert_fault(run(command, self.folder / "absent"), "absent",
                          "metrics.jsonl")
        self.assert_fault(run(command, self.folder), "metrics.jsonl")
        good = text_of(lines_of_a_run())
        cases = {
            '{"kind": "st\n' + good: ["metrics.jsonl:1:", "no JSON object"],
            good + "[]\n": ["metrics.jsonl:19:", "no JSON object"],
            good + "\xff\n": ["metrics.jsonl:19:"],
            good + '{"step": 3}\n': ["metrics.jsonl:19:", '"kind"'],
            good + '{"kind": "step"}\n': ["metrics.jsonl:19:", '"step"'],
            good + '{"kind": "step", "step": 1.5}\n': ["jsonl:19:", '"step"'],
            good + f'{{"kind": "step", "step": {10**400}}}\n': ['"step"'],
            "": ["metrics.jsonl", "no lines of steps"],
            '{"kind": "resume", "step": 0}\n': ["no lines of steps"],
        }
        for number, (text, words) in enumerate(cases.items()):
            with self.subTest(words):
                file = self.write(f"{number}/metrics.jsonl",
                                  text.encode("latin-1"))
                self.assert_fault(run(command, file.parent), *words)
                self.assertEqual(os.listdir(file.parent), ["metrics.jsonl"])


class Means(unittest.TestCase):
    @python_command.needs("matplotlib")
    def test_means(self):
        from ringweave.commands.draw_runs import means
        self.assertEqual(means([4.0, 2.0, 6.0, 1.0], 1), [4.0, 2.0, 6.0, 1.0])
        self.assertEqual(means([4.0, 2.0, 6.0, 1.0], 3), [4.0, 3.0, 4.0, 3.0])
        self.assertEqual(means([4.0, math.nan, 6.0], 2), [4.0, 4.0, 6.0])
        self.assertTrue(math.isnan(means([math.nan, 1.0], 2)[0]))


@python_command.needs("matplotlib")
class Plot(MetricsTest):
    def draw(self, *folders, x="step", smooth=1):
        """The three panels of a picture."""
        from ringweave.commands.draw_runs import draw
        from ringweave.commands.run_metrics import Run
        return draw([Run(str(folder)) for folder in folders], x, smooth).axes

    def curves(self, panel):
        """(x, y) of each curve without the lines of resumes."""
        return [(list(line.get_xdata()), list(line.get_ydata()))
                for line in panel.lines if line.get_linestyle() != ":"]

    def resumes(self, panel):
        return [line.get_xdata()[0] for line in panel.lines
                if line.get_linestyle() == ":"]

    def test_curves_over_steps(self):
        loss, rate, waiting = self.draw(self.run_folder())
        steps = list(range(1, 11))
        self.assertEqual(self.curves(loss), [
            (steps, [8.0 / number for number in steps]),
            ([4, 8], [9.0 / 4, 9.0 / 8])])
        self.assertEqual(self.curves(rate),
                         [(steps, [1000.0 + number for number in steps])])
        self.assertEqual(self.curves(waiting), [(steps, [12.5] * 10)])
        for panel in (loss, rate, waiting):
            self.assertEqual(self.resumes(panel), [4, 7])

    def test_curves_over_seconds(self):
        loss, _, _ = self.draw(self.run_folder(), x="seconds")
        (train, _), (validation, _) = self.curves(loss)
        self.assertEqual(train, [0.5 * number for number in range(1, 11)])
        self.assertEqual(validation, [2.0, 4.0])
        self.assertEqual(self.resumes(loss), [2.0, 3.5])
        # Before the first step that has a line nothing has been counted.
        late = self.run_folder("late", [
            {"kind": "validation", "step": 2, "loss": 1.0, "tokens": 1},
            step(3), step(5), {"kind": "resume", "step": 4, "ranks": 1}])
        loss, _, _ = self.draw(late, x="seconds")
        self.assertEqual([x for x, _ in self.curves(loss)], [[0.5, 1.0], [0.0]])
        self.assertEqual(self.resumes(loss), [0.5])

    def test_smooth(self):
        loss, rate, _ = self.draw(self.run_folder(), smooth=4)
        faint, mean, validation = (y for _, y in self.curves(loss))
        self.assertEqual(faint, [8.0 / number for number in range(1, 11)])
        self.assertAlmostEqual(mean[9], sum(faint[6:]) / 4)
        self.assertEqual(validation, [9.0 / 4, 9.0 / 8])
        self.assertEqual(self.curves(rate)[1][1][4], 1000 + (2 + 3 + 4 + 5) / 4)

    def test_numbers_that_are_missing(self):
        """null is how JSON has a loss that is no number."""
        loss, rate, _ = self.draw(self.run_folder(lines=[
            step(1), step(2, loss=None), step(3, loss="text"),
            {"kind": "step", "step": 4, "loss": 10**400},
            step(5, loss=1e308, seconds=1e308)]))
        ((_, y),) = self.curves(loss)
        self.assertEqual([math.isnan(value) for value in y],
                         [False, True, True, True, True])
        loss.figure.draw_without_rendering()
        self.assertTrue(math.isnan(self.curves(rate)[0][1][3]))

    def legend(self, panels):
        return [text.get_text() for text in panels[0].get_legend().get_texts()]

    def test_legend(self):
        first, second = self.run_folder("a/x"), self.run_folder("b/x")
        third = self.run_folder("_$y$_{", [step(1)])
        self.assertEqual(self.legend(self.draw(first)),
                         ["x", "validation", "resume"])
        self.assertEqual(self.legend(self.draw(first / "metrics.jsonl")),
                         ["x", "validation", "resume"])
        self.assertEqual(self.legend(self.draw(third)), [r"_\$y\$_{"])
        self.assertEqual(self.legend(self.draw(first, second, third)),
                         [str(first), str(second), r"_\$y\$_{", "validation",
                          "resume"])
        self.assert_done(run("plot", third))

    def test_files(self):
        folder = self.run_folder()
        image = folder / "plot.png"
        for given in (folder, folder / "metrics.jsonl"):
            self.assertEqual(self.assert_done(run("plot", given)),
                             f"{image}\n")
            self.assertEqual(image.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
            image.write_bytes(b"older")
        self.assert_done(run("plot", folder, "--x", "seconds", "--smooth", 3))
        self.assertGreater(image.stat().st_size, 10000)
        svgs = [self.folder / "1.svg", self.folder / "2.SVG"]
        for svg in svgs:
            self.assert_done(run("plot", folder, "--out", svg))
        self.assertEqual(*(svg.read_bytes() for svg in svgs))
        self.assertEqual(xml.etree.ElementTree.parse(svgs[0]).getroot().tag,
                         "{http://www.w3.org/2000/svg}svg")
        self.assertEqual(sorted(os.listdir(folder)),
                         ["metrics.jsonl", "plot.png"])

    def test_a_name_that_is_not_utf_8(self):
        folder = self.run_folder(os.fsdecode(b"run-\xff"))
        for command in ("plot", "tensorboard"):
            done = python("-c", "import os, sys\n"
                          "from ringweave import commands\n"
                          "os.chdir(sys.argv[1])\n"
                          f"sys.exit(commands.run({command!r},"
                          " os.fsdecode(b'run-\\xff')))", folder.parent)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_name_of_control_characters(self):
        folder = self.run_folder("a\x01b\nc")
        out = self.folder / "x.svg"
        self.assert_done(run("plot", folder, "--out", out))
        xml.etree.ElementTree.parse(out)
        self.assertEqual(self.legend(self.draw(folder))[0], "a\ufffdb\ufffdc")

    def test_several_runs(self):
        folders = [self.run_folder(f"run-{number}") for number in range(12)]
        with contextlib.chdir(self.folder):
            self.assertEqual(self.assert_done(run("plot", *folders)),
                             "plot.png\n")
        self.assertTrue((self.folder / "plot.png").is_file())
        colors = [str(line.get_color()) for line in
                  self.draw(*folders)[1].lines if line.get_linestyle() != ":"]
        self.assertEqual((len(colors), len(set(colors))), (12, 12))

    def test_a_run_under_way(self):
        """The last line is half written."""
        whole = json.dumps(step(11))
        for length in (1, 8, 50, len(whole) - 1):
            folder = self.run_folder(end=whole[:length])
            done = run("plot", folder)
            self.assertEqual(done.code, 0)
            self.assertEqual(done.err, f"note: {folder}/metrics.jsonl:19: left "
                             "out, half a line\n")
        folder = self.run_folder("new", [], whole[:8])
        for given in (folder, folder / "metrics.jsonl"):
            done = run("plot", given)
            self.assertEqual(done.code, 2)
            self.assertEqual(
                done.err, f"note: {folder}/metrics.jsonl:1: left out, half a "
                f"line\nerror: {folder}/metrics.jsonl has no lines of steps "
                "yet\n")
        folder = self.run_folder(end=whole)
        self.assert_done(run("plot", folder))
        self.assertEqual(len(self.curves(self.draw(folder)[0])[0][0]), 11)

    def test_bad_metrics(self):
        self.assert_refuses_bad_metrics("plot")

    def test_usage(self):
        folder = self.run_folder()
        for arguments, words in (
                ([], ["RUN"]), ([folder, "--out", "x.pdf"], ["x.pdf", ".svg"]),
                ([folder, "--x", "hours"], ["hours", "seconds"]),
                ([folder, "--smooth", "0"], ["--smooth", "'0'"]),
                ([folder, "--out", self.folder / "no/x.png"], ["no folder"])):
            self.assert_fault(run("plot", *arguments), *words)
        (self.folder / "f.png").mkdir()
        self.assert_fault(run("plot", folder, "--out", self.folder / "f.png"),
                          "a folder")
        for command in ("plot", "tensorboard"):
            done = python("-m", "ringweave", command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("RUN", done.stdout)

    def test_library_that_is_not_installed(self):
        folder = self.run_folder()
        self.assert_fault(self.without("matplotlib", "plot", folder),
                          "pip install matplotlib")
        self.assertEqual(os.listdir(folder), ["metrics.jsonl"])


@python_command.needs("tensorboard")
class TensorBoard(MetricsTest):
    def scalars(self, folder):
        """Tag -> [(step, value, wall time)], as TensorBoard reads them."""
        from tensorboard.backend.event_processing import event_accumulator
        events = event_accumulator.EventAccumulator(
            str(folder), size_guidance={event_accumulator.SCALARS: 0})
        events.Reload()
        return {tag: [(event.step, event.value, event.wall_time)
                      for event in events.Scalars(tag)]
                for tag in events.Tags()["scalars"]}

    def test_scalars(self):
        folder = self.run_folder()
        os.utime(folder / "metrics.jsonl", (2000000.0, 1000000.0))
        self.assert_done(run("tensorboard", folder))
        scalars = self.scalars(folder / "tensorboard")
        self.assertEqual(sorted(scalars), sorted(
            [f"train/{field}" for field in step(1) if field not in
             ("kind", "step")] + ["validation/loss", "validation/tokens"]))
        self.assertEqual([number for number, _, _ in scalars["train/loss"]],
                         list(range(1, 11)))
        for number, value, time in scalars["train/loss"]:
            self.assertAlmostEqual(value, 8.0 / number, places=6)
            # The last step ended when the file was written.
            self.assertAlmostEqual(time, 1000000.0 - 0.5 * (10 - number))
        self.assertEqual([value for _, value, _ in scalars["train/bytes_sent"]],
                         [4096.0] * 10)
        self.assertEqual(scalars["validation/loss"],
                         [(4, 9.0 / 4, 999997.0), (8, 9.0 / 8, 999999.0)])

    def test_again(self):
        """A later call replaces the file, and no other one."""
        folder = self.run_folder()
        out = self.folder / "some/where"
        file = self.assert_done(run("tensorboard", folder, "--out", out))
        self.assertEqual(len(os.listdir(out)), 1)
        (out / "other").write_text("stays")
        self.run_folder(lines=[*lines_of_a_run(), step(11)])
        self.assertEqual(
            self.assert_done(run("tensorboard", folder, "--out", out)), file)
        self.assertEqual(len(os.listdir(out)), 2)
        self.assertEqual([number for number, _, _ in
                          self.scalars(out)["train/loss"]], list(range(1, 12)))
        self.assertEqual(os.listdir(folder), ["metrics.jsonl"])

    def test_numbers_that_are_missing(self):
        folder = self.run_folder(lines=[step(1), step(2, loss=None, more=True),
                                        step(3, loss=10**400)], end='{"k')
        done = run("tensorboard", folder / "metrics.jsonl")
        self.assertEqual(done.code, 0)
        self.assertIn("metrics.jsonl:4: left out", done.err)
        scalars = self.scalars(folder / "tensorboard")
        self.assertEqual([number for number, _, _ in scalars["train/loss"]],
                         [1])
        self.assertEqual(len(scalars["train/grad_norm"]), 3)
        self.assertNotIn("train/more", scalars)

    def test_bad_metrics(self):
        self.assert_refuses_bad_metrics("tensorboard")

    def test_usage(self):
        folder = self.run_folder()
        self.assert_fault(run("tensorboard"), "RUN")
        self.assert_fault(run("tensorboard", folder, folder), "unrecognized")
        self.assert_fault(run("tensorboard", folder, "--out",
                              folder / "metrics.jsonl"), "want a folder")
        out = self.folder / "out"
        file = pathlib.Path(self.assert_done(
            run("tensorboard", folder, "--out", out)).strip())
        file.write_text(text_of([step(1)]))
        self.assert_fault(run("tensorboard", file, "--out", out), file,
                          "also an input")

    def test_loads_neither_torch_nor_tensorflow(self):
        done = python("-c", "import sys\nfrom ringweave import commands\n"
                      f"commands.run('tensorboard', {str(self.run_folder())!r})"
                      "\nprint([name for name in ('torch', 'tensorflow')"
                      " if name in sys.modules])")
        self.assertEqual(done.stdout.splitlines()[1:], ["[]"], done.stderr)

    def test_library_that_is_not_installed(self):
        folder = self.run_folder()
        self.assert_fault(self.without("tensorboard", "tensorboard", folder),
                          "pip install tensorboard")
        self.assertEqual(os.listdir(folder), ["metrics.jsonl"])


if __name__ == "__main__":
    unittest.main()
