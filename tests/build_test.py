"""The repository against itself: BUILD files, imports and what is installed."""

import ast
import importlib.metadata
import json
import pathlib
import re
import sys
import unittest

from absl.testing import absltest, parameterized

from tests import build_files

_DISTRIBUTION = "lc-asgd-tf"
_INSTALLED = ("flags", "lc_asgd_tf", "trainers")

# What is below the first may import, of the repository, itself and the others.
_MAY_IMPORT_ONLY = {
  "lc_asgd_tf.compensation": (
    "lc_asgd_tf.arguments",
    "lc_asgd_tf.configurable",
    "lc_asgd_tf.errors",
  ),
  # Servers enter it without `lc_asgd_tf/__init__.py`: see cluster/task.py.
  "lc_asgd_tf.cluster": ("lc_asgd_tf.errors",),
  "lc_asgd_tf.reports": ("lc_asgd_tf.errors", "lc_asgd_tf.files"),
}
_MAY_NOT_IMPORT = {
  "lc_asgd_tf": ("benchmarks", "examples", "flags", "tests", "trainers"),
  "lc_asgd_tf.optimizers": (
    "lc_asgd_tf.cluster",
    "lc_asgd_tf.parameter_server",
  ),
  "lc_asgd_tf.predictors": ("lc_asgd_tf.optimizers",),
  "lc_asgd_tf.server": ("lc_asgd_tf.optimizers",),
}
_MAY_DISTRIBUTE = (
  "benchmarks",
  "examples",
  "lc_asgd_tf.cluster",
  "lc_asgd_tf.parameter_server",
  "tests",
  "trainers",
)


def _is_below(name, packages):
  return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _forbidden_paths(repository):
  """Yields the paths of imports on which a package is left the wrong way."""
  for start in repository.modules:
    for path in build_files.import_paths(repository, start):
      end = path[-1]
      for package, only in _MAY_IMPORT_ONLY.items():
        if _leaves(package, path) and not _is_below(end, (package, *only)):
          yield path
      for package, forbidden in _MAY_NOT_IMPORT.items():
        if _leaves(package, path) and _is_below(end, forbidden):
          yield path


def _leaves(package, path):
  """Whether the first import leads out: longer ways are others' to report."""
  return _is_below(path[0], (package,)) and not _is_below(path[1], (package,))


def _mentions_distribute(module):
  """Whether the code, not its documentation, names `tf.distribute`."""
  return any(
    re.match(r"(tf|tensorflow|tensorflow\.python)\.distribute\b", name)
    for name in (
      *module.imported,
      *(
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
      ),
    )
  )


def _undeclared(repository, tops, declared):
  """Yields the modules below `tops` that import what is not declared."""
  for module in repository.modules.values():
    if _is_below(module.name, tops):
      for name in sorted(repository.distributions(module) - declared):
        yield f"{module.path} imports {name}"


def _names(requirements):
  """Returns the distributions' names in requirements such as "keras>=3.10"."""
  return {
    re.match(r"[\w.-]+", text)[0].replace("_", "-") for text in requirements
  }


class RepositoryTest(absltest.TestCase):
  """What holds of the modules and BUILD files as they are."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.repository = build_files.Repository(build_files.ROOT)

  def _assert_none(self, problems, what):
    problems = sorted(set(problems))
    if problems:
      self.fail("\n".join([f"{what}:", *problems]))

  def test_build_files_are_up_to_date(self):
    self._assert_none(
      map(str, build_files.edits(self.repository)),
      "do these, or let `python -m tests.build_files` do them",
    )

  def test_imported_modules_exist(self):
    self._assert_none(
      (
        f"{module.path}: {name}"
        for module in self.repository.modules.values()
        for name in self.repository.unknown(module)
      ),
      "imported, but not there",
    )

  def test_imports_have_no_cycle(self):
    cycle = build_files.cycle(self.repository)
    self.assertEmpty(cycle, " -> ".join(cycle))

  def test_imports_point_downwards(self):
    self._assert_none(
      map(" -> ".join, _forbidden_paths(self.repository)),
      "against the direction of imports (CONTRIBUTING.md)",
    )

  def test_distribution_is_named_only_by_its_hosts(self):
    self._assert_none(
      (
        str(module.path)
        for module in self.repository.modules.values()
        if _mentions_distribute(module)
        and not _is_below(module.name, _MAY_DISTRIBUTE)
      ),
      f"tf.distribute is for {', '.join(_MAY_DISTRIBUTE)} alone, but used by",
    )

  @unittest.skipIf(sys.version_info < (3, 11), "Python 3.10 has no tomllib")
  def test_imported_distributions_are_declared(self):
    import tomllib

    text = (build_files.ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    needed = _names(project["dependencies"])
    test = needed | _names(project["optional-dependencies"]["test"])
    self._assert_none(
      (
        *_undeclared(self.repository, _INSTALLED, needed),
        *_undeclared(self.repository, ("tests",), test),
      ),
      "to be added to pyproject.toml",
    )


class InstalledTest(absltest.TestCase):
  """What `pip install .` installed, if it did; not of an editable install."""

  def setUp(self):
    super().setUp()
    for distribution in importlib.metadata.distributions(name=_DISTRIBUTION):
      # That of a build's leftovers in the checkout has no RECORD.
      if distribution.read_text("RECORD") is not None:
        self.distribution = distribution
        break
    else:
      self.skipTest(f"{_DISTRIBUTION} is not installed")
    url = json.loads(distribution.read_text("direct_url.json") or "{}")
    if url.get("dir_info", {}).get("editable"):
      self.skipTest(f"{_DISTRIBUTION} is installed as editable")

  def test_has_the_modules_of_the_repository(self):
    installed = {
      pathlib.PurePosixPath(file)
      for file in self.distribution.files
      if file.suffix == ".py" and file.parts[0] in _INSTALLED
    }
    modules = {
      module.path
      for module in build_files.Repository(build_files.ROOT).modules.values()
      if module.path.parts[0] in _INSTALLED
    }
    self.assertEmpty(
      sorted(map(str, modules - installed)),
      "not installed. If it is not enough to install again, see "
      "[tool.setuptools] in pyproject.toml.",
    )
    self.assertEmpty(
      sorted(map(str, installed - modules)),
      "installed, but not in the repository. If it is not enough to install "
      "again, a build has left an old copy in dist/build/.",
    )

  def test_programs_exist(self):
    programs = self.distribution.entry_points
    self.assertNotEmpty(programs)
    for program in programs:
      with self.subTest(program.name):
        self.assertTrue(callable(program.load()))


# A small repository in which all is well.
_FILES = {
  "lc_asgd_tf/__init__.py": "from lc_asgd_tf.server import Server\n",
  "lc_asgd_tf/errors.py": "",
  "lc_asgd_tf/server/__init__.py": (
    "from lc_asgd_tf.server.server import Server\n"
  ),
  "lc_asgd_tf/server/server.py": (
    "import os\n"
    "import tensorflow_datasets as tfds\n"
    "def f():\n"
    "  from lc_asgd_tf import errors\n"
  ),
  "trainers/train.py": (
    "import lc_asgd_tf.errors\nif __name__ == '__main__':\n  pass\n"
  ),
  "tests/server_test.py": "from lc_asgd_tf import server\n",
}


class BuildFilesTest(parameterized.TestCase):
  """The checks themselves, on a small repository with faults put into it."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir().full_path)
    for path, text in _FILES.items():
      self._write(path, text)
    build_files.apply(self.root, self._edits())

  def _write(self, path, text):
    file = self.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)

  def _replace(self, path, old, new):
    text = (self.root / path).read_text()
    self.assertIn(old, text)
    self._write(path, text.replace(old, new))

  def _repository(self):
    return build_files.Repository(self.root)

  def _edits(self):
    return build_files.edits(self._repository())

  def test_writes_one_target_for_each_module(self):
    self.assertEqual(
      (self.root / "lc_asgd_tf/server/BUILD").read_text(),
      """\
package(default_visibility = ["//visibility:public"])

py_library(
    name = "server",
    srcs = ["__init__.py"],
    deps = [
        ":server_lib",
    ],
)

py_library(
    name = "server_lib",
    srcs = ["server.py"],
    deps = [
        "//lc_asgd_tf:errors",
        # tensorflow-datasets
    ],
)
""",
    )
    self.assertIn("py_binary(", (self.root / "trainers/BUILD").read_text())
    self.assertIn("py_test(", (self.root / "tests/BUILD").read_text())
    self.assertEmpty(self._edits())

  @parameterized.parameters(
    ('["server.py"]', '["serve.py"]', "drop 'server_lib'"),
    ('["server.py"]', '["__init__.py"]', "drop 'server_lib'"),
    ('["server.py"]', '["server.py", "more.py"]', "drop 'server_lib'"),
    ('"server_lib",\n', '"lib",\n', "is not py_library 'server_lib'"),
    ("py_library", "py_test", "is not py_library 'server'"),
    (":errors", ":error", "has //lc_asgd_tf:error, which it does not"),
    ('        "//lc_asgd_tf:errors",\n', "", "lacks //lc_asgd_tf:errors"),
    (
      '        ":server_lib",\n',
      '":server_lib",\n' * 2,
      "has :server_lib twice",
    ),
    ("# tensorflow-datasets", "# tensorflow", "lacks # tensorflow-datasets"),
  )
  def test_notices_and_mends_a_fault_in_a_target(self, old, new, message):
    path = "lc_asgd_tf/server/BUILD"
    before = (self.root / path).read_text()
    self._replace(path, old, new)
    self.assertIn(message, str(self._edits()[0]))
    build_files.apply(self.root, self._edits())
    self.assertEqual((self.root / path).read_text(), before)

  @parameterized.parameters(
    ("lc_asgd_tf/server/shard.py", "shard.py is in no target; add"),
    (
      "lc_asgd_tf/cluster/__init__.py",
      "lc_asgd_tf/cluster/BUILD:1: is missing",
    ),
    ("benchmarks/update.py", "benchmarks/BUILD:1: is missing"),
  )
  def test_notices_a_new_module(self, path, message):
    self._write(path, "")
    self.assertIn(message, str(self._edits()[0]))
    build_files.apply(self.root, self._edits())
    self.assertEmpty(self._edits())

  def test_notices_that_a_folder_is_gone(self):
    (self.root / "trainers/train.py").unlink()
    self.assertIn("trainers/BUILD:3: drop 'train'", str(self._edits()[0]))

  def test_keeps_other_attributes_and_comments(self):
    path = "tests/BUILD"
    self._replace(path, "    deps", '    size = "small",  # Quick.\n    deps')
    self._replace(path, "py_test", "# Why.\nfilegroup(name = 'x')\n\npy_test")
    self._write("tests/server_test.py", "from lc_asgd_tf import errors\n")
    build_files.apply(self.root, self._edits())
    text = (self.root / path).read_text()
    self.assertIn("# Why.\nfilegroup(name = 'x')\n\npy_test(", text)
    self.assertIn('    size = "small",\n', text)
    self.assertIn('        "//lc_asgd_tf:errors",\n', text)

  def test_notices_an_import_of_nothing(self):
    self._write("lc_asgd_tf/errors.py", "from lc_asgd_tf.nothing import x\n")
    repository = self._repository()
    self.assertEqual(
      repository.unknown(repository.modules["lc_asgd_tf.errors"]),
      {"lc_asgd_tf.nothing.x"},
    )

  @parameterized.parameters(
    "import lc_asgd_tf\n",
    "from . import server\n",
    "def f():\n  from lc_asgd_tf.server import Server\n",
  )
  def test_notices_a_cycle(self, text):
    self._write("lc_asgd_tf/errors.py", text)
    cycle = build_files.cycle(self._repository())
    self.assertIn("lc_asgd_tf.errors", cycle)
    self.assertEqual(cycle[0], cycle[-1])

  @parameterized.parameters(
    ("lc_asgd_tf/errors.py", "import flags.data", "lc_asgd_tf.errors"),
    ("lc_asgd_tf/errors.py", "import trainers.train", "lc_asgd_tf.errors"),
    (
      "lc_asgd_tf/compensation/rule.py",
      "from lc_asgd_tf.server import server",
      "lc_asgd_tf.compensation.rule",
    ),
    (
      "lc_asgd_tf/cluster/local.py",
      "import lc_asgd_tf",
      "lc_asgd_tf.cluster.local",
    ),
    (
      "lc_asgd_tf/server/server.py",
      "import lc_asgd_tf.optimizers.asgd",
      "lc_asgd_tf.server.server",
    ),
    (
      "lc_asgd_tf/predictors/holt.py",
      "from lc_asgd_tf.parameter_server import through",
      "lc_asgd_tf.predictors.holt",
    ),
    (
      "lc_asgd_tf/optimizers/asgd.py",
      "from lc_asgd_tf.parameter_server import through",
      "lc_asgd_tf.optimizers.asgd",
    ),
  )
  def test_notices_an_import_upwards(self, path, text, start):
    self._write("flags/data.py", "")
    self._write("lc_asgd_tf/optimizers/asgd.py", "")
    self._write(
      "lc_asgd_tf/parameter_server/through.py",
      "from lc_asgd_tf.optimizers import asgd\n",
    )
    self.assertEmpty(list(_forbidden_paths(self._repository())))
    self._write(path, f"{text}\n")
    starts = {path[0] for path in _forbidden_paths(self._repository())}
    self.assertEqual(starts, {start})

  @parameterized.parameters(
    ("import tensorflow as tf\ntf.distribute.InputContext()\n", True),
    ("def f(x: tf.distribute.Server): pass\n", True),
    ("from tensorflow import distribute\n", True),
    ("import tensorflow.distribute as d\n", True),
    ('"""See tf.distribute.Strategy."""\n', False),
    ("tf.distributed\n", False),
  )
  def test_notices_tf_distribute(self, text, expected):
    self._write("lc_asgd_tf/errors.py", text)
    module = self._repository().modules["lc_asgd_tf.errors"]
    self.assertEqual(_mentions_distribute(module), expected)

  def test_notices_an_undeclared_distribution(self):
    declared = _names(["absl-py>=2.1", "tensorflow_datasets>=4"])
    self.assertEmpty(
      list(_undeclared(self._repository(), _INSTALLED, declared))
    )
    self._write("lc_asgd_tf/errors.py", "import absl.flags, yaml\n")
    self.assertEqual(
      list(_undeclared(self._repository(), _INSTALLED, declared)),
      ["lc_asgd_tf/errors.py imports yaml"],
    )


if __name__ == "__main__":
  absltest.main()
