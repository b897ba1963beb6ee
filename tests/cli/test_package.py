"""The package that pip installs: a wheel, in environments of its own.

The wheel takes the library that this build folder has (ringweave_package). Longer
forms, each of minutes:

    RINGWEAVE_LONG=1       pip builds the wheel's library; the tests of tests/multirank,
                           too, run on the installed package
    RINGWEAVE_ISOLATED=1   pip builds in isolation, torch from the folder of wheels
                           that PIP_FIND_LINKS names
"""

import ast
import email
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import unittest
import venv
import zipfile

import cli
import test_train
from free_port import free_port
from python_command import ROOT, needs

PACKAGE = ROOT / "python/ringweave"
EXAMPLES = ROOT / "python/examples"
TORCH = ".".join(importlib.metadata.version("torch").split(".")[:2])
LIBRARY = f"libringweave_ops-torch{TORCH}.so"
LONG = bool(os.environ.get("RINGWEAVE_LONG"))
BUILD_SECONDS = 3600
# With libraries of the C and C++ runtime, all that the library may need.
TORCH_LIBRARIES = {"libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1"}
RUNTIME = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6",
           "ld-linux-x86-64.so.2"}
# Of the tests' own: they must not reach the installed package.
OF_THE_TREE = ("PYTHONPATH", "RINGWEAVE_LIBRARY", "RINGWEAVE_PYTHON")

PROGRAM = '''
import torch.distributed
import ringweave
import ringweave.transformers

def whole(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    group = torch.distributed.group.WORLD
    layout: ringweave.Layout = ringweave.layout("zigzag", q.shape[1], 2)
    parts = [ringweave.shard(x, layout) for x in (q, k, v)]
    q = ringweave.attention(*parts, layout=layout, mask={"kind": "causal"},
                            group=group)
    q, state = ringweave.linear_attention(q, parts[1], parts[2], layout=layout,
                                          final_state=True)
    with ringweave.context_parallel(group, buffers=[v], buffer_seq_dims=[1]):
        pass
    batch = ringweave.transformers.shard_batch({"input_ids": v}, group)
    loss: torch.Tensor = ringweave.transformers.loss(q, batch)
    session = ringweave.Session("llama/", sequences=2)
    session.decode([0], session.prefill(0, [1, 2]).argmax(-1, True))
    return ringweave.unshard(q, layout) + loss
'''
WRONG = '''
import ringweave
layout: int = ringweave.layout("zigzag", 8, 2)
ringweave.attention(1, 2, 3, layout=layout, windw=4)
'''


def run(*command, **options):
    environment = {name: value for name, value in os.environ.items()
                   if name not in OF_THE_TREE}
    environment.update(options.pop("environment", {}))
    options = {"timeout": cli.SECONDS, "cwd": "/", **options}
    return subprocess.run(list(map(str, command)), text=True,
                          capture_output=True, env=environment, **options)


class Environment:
    """A virtual environment that finds torch where it is, beside it if `linked`."""

    def __init__(self, folder, linked=False):
        venv.create(folder, symlinks=True)
        self.python = folder / "bin/python"
        self.command = folder / "bin/ringweave"
        self.site = pathlib.Path(sysconfig.get_path(
            "purelib", "venv", {"base": folder, "platbase": folder}))
        torch = pathlib.Path(importlib.util.find_spec("torch").origin).parent
        if linked:
            (self.site / "torch").symlink_to(torch)
        (self.site / "torch.pth").write_text(f"{torch.parent}\n")

    def install(self, wheel):
        done = run(sys.executable, "-m", "pip", "--python", self.python, "install",
                   "--no-index", "--no-deps", "--quiet", wheel)
        assert done.returncode == 0, done.stderr

    def run(self, *arguments, **options):
        return run(self.python, *arguments, **options)

    def torchrun(self, ranks, *arguments, **options):
        return self.run("-m", "torch.distributed.run", "--nproc-per-node", ranks,
                        "--master-port", free_port(), *arguments, **options)


def built_wheel(folder, *options, **more):
    done = run(sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "--wheel-dir",
               folder, *options, timeout=BUILD_SECONDS, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel, = pathlib.Path(folder).glob("*.whl")
    return wheel


@needs("pip", "scikit_build_core")
class Package(test_train.TrainTest):
    @classmethod
    def setUpClass(cls):
        cls.made = pathlib.Path(cls.enterClassContext(
            tempfile.TemporaryDirectory()))
        options = ["--no-build-isolation"]
        if not LONG:
            library = os.environ["RINGWEAVE_PACKAGED_LIBRARY"]
            options += ["-C", f"build-dir={cls.made}/build", "-C",
                        f"cmake.define.RINGWEAVE_PACKAGED_LIBRARY={library}"]
        cls.wheel = built_wheel(cls.made / "wheels", *options)
        cls.installed = Environment(cls.made / "first")
        cls.installed.install(cls.wheel)
        cls.moved = Environment(cls.made / "another one", linked=True)
        cls.moved.install(cls.wheel)

    def assert_done(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def assert_one_line(self, done, *words, code):
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_one_wheel_for_a_minor_version_of_torch(self):
        version = cli.run("--version").stdout.split()[1]
        self.assertEqual(self.wheel.name, f"ringweave-{version}+torch{TORCH}-"
                                          "py3-none-linux_x86_64.whl")
        with zipfile.ZipFile(self.wheel) as wheel:
            names = wheel.namelist()
            about, = (name for name in names if name.endswith("/METADATA"))
            metadata = email.message_from_bytes(wheel.read(about))
        self.assertEqual(metadata["Requires-Dist"], f"torch=={TORCH}.*")
        packed = {name.removeprefix("ringweave/") for name in names
                  if name.startswith("ringweave/")}
        files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*")
                 if path.is_file() and "__pycache__" not in path.parts}
        self.assertEqual(packed, {*files, LIBRARY})

    def test_needs_torch_and_the_runtime_alone(self):
        library = self.moved.site / "ringweave" / LIBRARY
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", self.assert_done(
            run("readelf", "--dynamic", library))))
        self.assertLessEqual(needed, TORCH_LIBRARIES | RUNTIME)
        found = dict(re.findall(r"(\S+) => (.*) \(", self.assert_done(
            run("ldd", library))))
        for name in needed & TORCH_LIBRARIES:
            self.assertEqual(found[name], str(
                self.moved.site / f"ringweave/../torch/lib/{name}"))

    def test_examples(self):
        runs = [(self.installed, 2), (self.moved, 1)]
        if LONG:
            runs = itertools.product((self.installed, self.moved), (1, 2, 3, 4))
        for environment, ranks in runs:
            self.assertIn("v's gradient: largest difference", self.assert_done(
                environment.torchrun(ranks, EXAMPLES / "attention.py")))

    @unittest.skipUnless(LONG, "only with RINGWEAVE_LONG=1")
    def test_training_example(self):
        for ranks, parallel in itertools.product((1, 2, 3, 4), ("ddp", "fsdp")):
            self.assert_done(self.installed.torchrun(
                ranks, EXAMPLES / "train.py", "--steps", 2, "--parallel", parallel))

    def test_commands(self):
        command = self.installed.command
        self.assertEqual(self.assert_done(run(command, "--version")),
                         cli.run("--version").stdout)
        for arguments in (["topology", "decompose", "--ranks", 5],
                          ["plan", "--topology", "mesh:ranks=4,rate=1e9",
                           "--seq-len", 64, "--model", self.config()]):
            self.assertEqual(self.assert_done(run(command, *arguments)),
                             cli.run(*arguments).stdout)
        self.assertIn("tokenizer", self.assert_done(run(
            command, "tokenize", "--help")))
        self.assert_done(run(command, "bench", "attention", "--ranks", 2,
                             "--seq-len", 32, "--repeat", 1))

    def test_training_and_generating(self):
        arguments = self.arguments("--json", "--run-dir", self.folder / "run")
        done = json.loads(self.assert_done(run(self.installed.command, *arguments)))
        done_by_processes = self.installed.torchrun(
            2, "-m", "ringweave", *self.arguments("--json"))
        self.assertEqual(
            json.loads(self.assert_done(done_by_processes))["losses"], done["losses"])
        self.assert_done(run(
            self.installed.command, "generate", "--checkpoint", self.folder / "run",
            "--prompt", "All", "--max-tokens", 3))

    def test_the_simulator_is_left_out(self):
        self.assert_one_line(run(self.installed.command, "simulate", "--ranks", 4),
                             "[simulate] not built in", "from Ringweave's source",
                             code=2)
        done = run(self.installed.command, "bench", "exchange", "--topology",
                   "mesh:ranks=3,rate=1e9", "--repeat", 1, "--json", "--strategy",
                   "ring", "--shard-bytes", 4096)
        case, = (case for case in json.loads(self.assert_done(done))["cases"]
                 if case["pass"] == "forward")
        self.assertIn("cost_model_seconds", case)
        self.assertNotIn("predicted_seconds", case)

    def test_another_torch(self):
        """By what is installed, and by what is imported."""
        other = self.folder / "torch-2.12.1.dist-info"
        other.mkdir()
        (other / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: torch\nVersion: 2.12.1\n")
        wanted = f"got torch 2.12.1; want {TORCH}.x"
        found_first = {"environment": {"PYTHONPATH": str(self.folder)}}
        self.assert_one_line(run(self.installed.command, "--version", **found_first),
                             wanted, code=1)
        for program, options in (("", found_first),
                                 ("import torch; torch.__version__ = '2.12.1'", {})):
            done = self.installed.run("-c", program + "\nimport ringweave\n"
                                      "ringweave.layout('zigzag', 8, 2)", **options)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("ImportError: [ringweave] " + wanted,
                          done.stderr.splitlines()[-1])

    def mypy(self, name, program):
        (self.folder / name).write_text(program)
        return run(sys.executable, "-m", "mypy", "--strict", "--python-executable",
                   self.installed.python, "--cache-dir", self.made / "mypy",
                   self.folder / name)

    @needs("mypy")
    def test_types(self):
        done = self.mypy("program.py", PROGRAM)
        self.assertEqual(done.returncode, 0, done.stdout)
        done = self.mypy("wrong.py", WRONG)
        for fault in ("Incompatible types in assignment", "windw",
                      'Argument 1 to "attention" has incompatible type'):
            self.assertIn(fault, done.stdout)

    @unittest.skipUnless(LONG, "only with RINGWEAVE_LONG=1")
    def test_multirank_tests(self):
        tests = ROOT / "tests"
        for test in (*sorted((tests / "multirank").glob("test_*.py")),
                     tests / "cli/test_python.py"):
            with self.subTest(test.name):
                # The environments with Transformers find the package by it.
                found_by = {"PYTHONPATH": str(self.installed.site)}
                done = self.installed.run(
                    test, timeout=BUILD_SECONDS,
                    environment={**found_by, "RINGWEAVE_LONG": ""})
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stderr, r"Ran [1-9]")


@unittest.skipUnless(os.environ.get("RINGWEAVE_ISOLATED"),
                     "only with RINGWEAVE_ISOLATED=1")
class Isolated(unittest.TestCase):
    def test_isolated_build(self):
        """With the torch that is here, which may be none of the default index."""
        with tempfile.TemporaryDirectory() as folder:
            constraints = pathlib.Path(folder) / "constraints.txt"
            constraints.write_text(f"torch=={importlib.metadata.version('torch')}\n")
            wheel = built_wheel(
                f"{folder}/wheels", "-C", f"build-dir={folder}/build",
                environment={"PIP_CONSTRAINT": str(constraints)})
            environment = Environment(pathlib.Path(folder) / "environment")
            environment.install(wheel)
            done = environment.torchrun(2, EXAMPLES / "attention.py")
            self.assertEqual(done.returncode, 0, done.stderr)


class Sources(unittest.TestCase):
    def test_one_version_of_torch(self):
        """What pip and tools/setup install is one that this builds against."""
        setup, = re.findall(r"^torch_version=(\d+\.\d+)\.",
                            (ROOT / "tools/setup").read_text(), re.MULTILINE)
        self.assertEqual(re.findall(r"torch==(\d+\.\d+)",
                                    (ROOT / "pyproject.toml").read_text()), [setup])
        self.assertIn(setup, ast.literal_eval(re.search(
            "^TORCH = (.*)$", (PACKAGE / "_library.py").read_text(), re.MULTILINE)[1]))

    def test_other_versions_of_torch(self):
        for version in ("2.12.0", "2.14", "2.13.x", ""):
            done = run(ROOT / "tools/check_torch", *([version] if version else []))
            self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
            self.assertEqual(
                done.stderr.splitlines()[-1],
                f"error: got --torch {version or 'without a version'}; want a version "
                "X.Y.Z of one of 2.11.x, 2.13.x, 2.14.x")

    def test_the_stub_says_what_the_functions_take(self):
        stub = definitions(PACKAGE / "__init__.pyi")
        code = {name: parameters
                for file in ("_layout.py", "_operations.py", "_context.py")
                for name, parameters in definitions(PACKAGE / file).items()}
        public = ast.literal_eval(next(
            node.value for node in ast.parse(
                (PACKAGE / "__init__.pyi").read_text()).body
            if isinstance(node, ast.Assign)
            and node.targets[0].id == "__all__"))
        import ringweave
        self.assertEqual(public, ringweave.__all__)
        self.assertEqual({name.split(".")[0] for name in stub}, set(public))
        for name, parameters in stub.items():
            self.assertEqual(parameters, code[name], name)
        for name in code:
            if name.startswith("Session.") and not name.startswith("Session._"):
                self.assertIn(name, stub)

    def test_headers_that_are_absent_come_by_hash(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = pathlib.Path(folder) / "v3.11.2.tar.gz"
            archive.write_text("no such release")
            done = run("cmake", "-S", ROOT, "-B", f"{folder}/build", "-G", "Ninja",
                       "-DRINGWEAVE_PACKAGE=ON", "-DRINGWEAVE_TORCH=OFF",
                       "-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF",
                       f"-DRINGWEAVE_HEADERS_FROM={folder}")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"nlohmann-json3-dev has: fetching {archive}", done.stdout)
        self.assertIn("does not match expected value", done.stderr)

    def test_which_library_of_a_source_tree(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()
            package = root / "python/ringweave"
            package.mkdir(parents=True)
            copy = package / "_library.py"
            copy.write_text((PACKAGE / copy.name).read_text())
            spec = importlib.util.spec_from_file_location("library", copy)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            named = os.environ.pop("RINGWEAVE_LIBRARY", None)
            try:
                with self.assertRaisesRegex(ImportError, "build/release.*build/dev"):
                    module.path()
                # Each is newer than the one that it stands behind.
                for place in ("build/dev/python", "build/release/python",
                              "python/ringweave"):
                    (root / place).mkdir(parents=True, exist_ok=True)
                    (root / place / LIBRARY).touch()
                    os.utime(root / place / LIBRARY, (1, 1))
                    self.assertEqual(module.path(), str(root / place / LIBRARY))
                # One that fits goes before the place.
                (root / place / LIBRARY).rename(
                    root / place / "libringweave_ops-torch1.0.so")
                self.assertEqual(module.path(),
                                 str(root / "build/release/python" / LIBRARY))
                with self.assertRaisesRegex(ImportError, f"got torch {TORCH}.*want 1.0.x"):
                    module.check_torch(root / place / "libringweave_ops-torch1.0.so")
                with self.assertRaisesRegex(ImportError, "got the library /else.so;"):
                    module.check_torch("/else.so")
                os.environ["RINGWEAVE_LIBRARY"] = "/elsewhere"
                self.assertEqual(module.path(), "/elsewhere")
            finally:
                os.environ.pop("RINGWEAVE_LIBRARY", None)
                if named is not None:
                    os.environ["RINGWEAVE_LIBRARY"] = named


def definitions(file):
    """Name -> the parameters of each function and method; of an overloaded one by
    name alone, as its forms order them differently."""
    found = {}
    tree = ast.parse(file.read_text())
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for each in inner:
            if isinstance(each, ast.FunctionDef):
                taken = each.args
                found[prefix + each.name] = (
                    [argument.arg for argument in taken.args],
                    sorted(argument.arg for argument in taken.kwonlyargs),
                    [ast.literal_eval(value) for value in taken.defaults])
    return found


if __name__ == "__main__":
    unittest.main()
