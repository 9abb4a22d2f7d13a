"""Keeps the BUILD files true to the modules and their imports.

    python -m tests.build_files

adds a target for each new module, brings the dependencies of the others up to
date and drops the targets of modules that are gone. `build_test.py` fails with
what this would write.

A folder's BUILD has one target per module, named like the module; that of
`__init__.py` is named like the folder, so `//lc_asgd_tf/server` is the package,
and a module that has its folder's name gets the suffix `_lib`. Only `deps`,
`srcs` and `name` follow from the modules: other attributes are kept.
"""

import ast
import collections
import dataclasses
import functools
import graphlib
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP_FOLDERS = (
  "benchmarks",
  "examples",
  "flags",
  "lc_asgd_tf",
  "tests",
  "trainers",
)

# Where a distribution's name is not that of its module.
_DISTRIBUTIONS = {"absl": "absl-py", "sklearn": "scikit-learn"}

_RULES = ("py_binary", "py_library", "py_test")
_HEADERS = {
  "lc_asgd_tf": """\
    package(default_visibility = ["//visibility:public"])
    """,
  "tests": """\
    package(
        default_testonly = True,
        default_visibility = ["//tests:__subpackages__"],
    )
    """,
}
_DEFAULT_HEADER = """\
    package(default_visibility = ["//:__subpackages__"])
    """


@dataclasses.dataclass(frozen=True)
class Module:
  """A Python file; `path` is relative to the repository, `name` dotted."""

  path: pathlib.PurePosixPath
  name: str
  tree: ast.Module

  @property
  def folder(self) -> str:
    return self.path.parent.as_posix()

  @property
  def target(self) -> str:
    """The name of the module's target."""
    folder = self.path.parent.name
    if self.path.name == "__init__.py":
      return folder
    return f"{folder}_lib" if self.path.stem == folder else self.path.stem

  @property
  def rule(self) -> str:
    if self.path.name.endswith("_test.py"):
      return "py_test"
    programs = (
      node
      for node in self.tree.body
      if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
    )
    return "py_binary" if any(programs) else "py_library"

  @functools.cached_property
  def imported(self) -> frozenset[str]:
    """Dotted names after `import`, or `from` and `import` joined, anywhere."""
    names = set()
    for node in ast.walk(self.tree):
      if isinstance(node, ast.Import):
        names.update(alias.name for alias in node.names)
      elif isinstance(node, ast.ImportFrom):
        origin = [node.module] if node.module else []
        if node.level:
          origin = [*self.path.parts[: -node.level], *origin]
        names.update(".".join([*origin, alias.name]) for alias in node.names)
    return frozenset(names)


class Repository:
  """The modules below the top folders, by dotted name, and their imports."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.modules = {}
    for top in TOP_FOLDERS:
      for file in sorted((root / top).rglob("*.py")):
        path = pathlib.PurePosixPath(file.relative_to(root).as_posix())
        parts = path.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.modules[name] = Module(path, name, ast.parse(file.read_text()))

  def imports(self, module: Module) -> set[str]:
    """Returns the names of the repository's modules that `module` imports."""
    return {
      name
      for name in map(self._module_of, module.imported)
      if name in self.modules
    }

  def unknown(self, module: Module) -> set[str]:
    """Returns what it imports from the repository but is not there."""
    return {
      name
      for name in module.imported
      if name.partition(".")[0] in TOP_FOLDERS
      and self._module_of(name) not in self.modules
    }

  def distributions(self, module: Module) -> set[str]:
    """Returns the distributions of the Python Package Index it imports."""
    tops = {name.partition(".")[0] for name in module.imported}
    tops -= {*TOP_FOLDERS, *sys.stdlib_module_names}
    return {_DISTRIBUTIONS.get(top, top.replace("_", "-")) for top in tops}

  def _module_of(self, imported: str) -> str:
    """Returns `a.b` for the import `a.b.C` of something in the module a.b."""
    return imported if imported in self.modules else imported.rpartition(".")[0]


@dataclasses.dataclass(frozen=True)
class Target:
  """A target of a BUILD file."""

  rule: str
  name: str
  srcs: tuple[str, ...]
  deps: tuple[str, ...] = ()  # Labels as written, sorted.
  distributions: tuple[str, ...] = ()  # The comments among `deps`, sorted.
  others: tuple[tuple[str, str], ...] = ()  # Other attributes, as written.

  def __str__(self) -> str:
    """Returns the target as it stands in the BUILD file."""
    lines = [f"name = {_quoted(self.name)},"]
    lines += [f"srcs = [{', '.join(map(_quoted, self.srcs))}],"]
    lines += [f"{name} = {value}," for name, value in self.others]
    if self.deps or self.distributions:
      lines += ["deps = ["]
      lines += [f"    {_quoted(label)}," for label in self.deps]
      lines += [f"    # {name}" for name in self.distributions]
      lines += ["],"]
    body = "".join(f"    {line}\n" for line in lines)
    return f"{self.rule}(\n{body})\n"


@dataclasses.dataclass(frozen=True)
class Edit:
  """What to change in a BUILD file: lines `first` to `last` become `text`."""

  path: str
  first: int
  last: int
  text: str
  reason: str

  def __str__(self) -> str:
    return f"{self.path}:{self.first}: {self.reason}\n{self.text}"


def edits(repository: Repository) -> list[Edit]:
  """Returns what is to be changed in the BUILD files; nothing if all is well.

  Dependencies are compared with the imports in both directions, so that every
  label that passes is that of a module, whose target is then asked for, too.
  """
  found = []
  folders = collections.defaultdict(dict)
  for module in repository.modules.values():
    folders[module.folder][module.path.name] = module
  stale = {
    file.parent.relative_to(repository.root).as_posix()
    for top in TOP_FOLDERS
    for file in (repository.root / top).rglob("BUILD")
  }
  for folder in sorted(stale | set(folders)):
    path = f"{folder}/BUILD"
    modules = folders[folder]
    if not (repository.root / path).exists():
      header = _HEADERS.get(folder.partition("/")[0], _DEFAULT_HEADER)
      found.append(Edit(path, 1, 0, textwrap.dedent(header), "is missing"))
      lines = 0
    else:
      text = (repository.root / path).read_text()
      lines = len(text.splitlines())
      for target, first, last in _targets(text):
        module = None
        if len(target.srcs) == 1:
          module = modules.pop(target.srcs[0], None)
        if module is None:
          reason = (
            f"drop {target.name!r}: its srcs {list(target.srcs)} are not "
            "one module of this folder that has no target yet"
          )
          found.append(Edit(path, first, last, "", reason))
          continue
        wanted = _wanted(repository, module, target.others)
        if wanted != target:
          reason = f"{_difference(target, wanted)}; it should read"
          found.append(Edit(path, first, last, str(wanted), reason))
    for file, module in sorted(modules.items()):
      target = f"\n{_wanted(repository, module)}"
      reason = f"{file} is in no target; add"
      found.append(Edit(path, lines + 1, lines, target, reason))
  return found


def apply(root: pathlib.Path, found: Iterable[Edit]) -> None:
  """Makes the edits."""
  by_path = collections.defaultdict(list)
  for edit in found:
    by_path[edit.path].append(edit)
  for path, of_path in by_path.items():
    file = root / path
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    # From the end, so that the numbers of the lines before stay right; those
    # to add at the end are in order already.
    added = [edit for edit in of_path if edit.last < edit.first]
    for edit in sorted(set(of_path) - set(added), key=lambda e: -e.first):
      lines[edit.first - 1 : edit.last] = [edit.text]
    text = "".join(lines + [edit.text for edit in added])
    # A target that is gone leaves its blank lines.
    file.write_text(re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n")


def cycle(repository: Repository) -> list[str]:
  """Returns modules that import each other in a circle, or nothing."""
  graph = {
    name: repository.imports(module)
    for name, module in repository.modules.items()
  }
  try:
    graphlib.TopologicalSorter(graph).prepare()
  except graphlib.CycleError as error:
    return error.args[1][::-1]  # From the module that imports to the imported.
  return []


def import_paths(
  repository: Repository, start: str
) -> Iterator[tuple[str, ...]]:
  """Yields a shortest path of imports to each module that `start` reaches."""
  paths = collections.deque([(start,)])
  seen = {start}
  while paths:
    path = paths.popleft()
    for name in sorted(repository.imports(repository.modules[path[-1]]) - seen):
      seen.add(name)
      paths.append((*path, name))
      yield paths[-1]


def _wanted(
  repository: Repository,
  module: Module,
  others: tuple[tuple[str, str], ...] = (),
) -> Target:
  labels = {
    _label(repository.modules[name], module.folder)
    for name in repository.imports(module)
  }
  return Target(
    rule=module.rule,
    name=module.target,
    srcs=(module.path.name,),
    deps=_sorted_labels(labels),
    distributions=tuple(sorted(repository.distributions(module))),
    others=others,
  )


def _label(module: Module, folder: str) -> str:
  """Returns the label of the module's target in the BUILD file of `folder`."""
  if module.folder == folder:
    return f":{module.target}"
  if module.target == module.path.parent.name:
    return f"//{module.folder}"
  return f"//{module.folder}:{module.target}"


def _sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
  """Sorts as buildifier does: those of the same folder first."""
  return tuple(
    sorted(labels, key=lambda label: (label[:2] == "//", label.split(":")))
  )


def _targets(text: str) -> Iterator[tuple[Target, int, int]]:
  """Yields the Python targets of a BUILD file, and their lines."""
  for node in ast.parse(text).body:
    match node:
      case ast.Expr(ast.Call(func=ast.Name(rule), keywords=keywords)):
        if rule in _RULES:
          yield _parsed(text, rule, keywords), node.lineno, node.end_lineno


def _parsed(text: str, rule: str, keywords: list[ast.keyword]) -> Target:
  values = {keyword.arg: keyword.value for keyword in keywords}
  deps = values.get("deps", ast.List([]))
  comments = []
  if "deps" in values:
    lines = text.splitlines()[deps.lineno - 1 : deps.end_lineno]
    comments = [line.strip()[2:] for line in lines if line.strip()[:2] == "# "]
  return Target(
    rule=rule,
    name=ast.literal_eval(values["name"]),
    srcs=tuple(ast.literal_eval(values["srcs"])),
    deps=_sorted_labels(ast.literal_eval(deps)),
    distributions=tuple(sorted(comments)),
    others=tuple(
      (name, ast.get_source_segment(text, value))
      for name, value in values.items()
      if name not in ("name", "srcs", "deps")
    ),
  )


def _difference(target: Target, wanted: Target) -> str:
  parts = []
  if (target.rule, target.name) != (wanted.rule, wanted.name):
    parts.append(f"is not {wanted.rule} {wanted.name!r}")
  before = [*target.deps, *(f"# {name}" for name in target.distributions)]
  after = [*wanted.deps, *(f"# {name}" for name in wanted.distributions)]
  parts += [
    f"lacks {dep}, which it imports" for dep in after if dep not in before
  ]
  parts += [
    f"has {dep}, which it does not import" for dep in before if dep not in after
  ]
  parts += [
    f"has {dep} twice" for dep in sorted(set(before)) if before.count(dep) > 1
  ]
  return f"{target.rule} {target.name!r} " + ", ".join(parts)


def _quoted(text: str) -> str:
  return f'"{text}"'


def main() -> None:
  found = edits(Repository(ROOT))
  for edit in found:
    print(f"{edit.path}: {edit.reason.partition(';')[0]}")
  apply(ROOT, found)


if __name__ == "__main__":
  main()
