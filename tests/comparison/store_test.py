"""Tests for how results are kept."""

import dataclasses
import fcntl
import json
import pathlib
from concurrent import futures

from absl.testing import absltest, parameterized

from lc_asgd_tf import comparison, errors
from lc_asgd_tf.comparison import store

_CELL = comparison.Cell(
  dataset="digits",
  model="mlp",
  rule="lc_asgd",
  num_workers=8,
  delays="heterogeneous",
  inner_optimizer="sgd",
  learning_rate=0.1,
  momentum=0.9,
  batch_size=16,
  epochs=2,
  seed=0,
)
_OTHER = dataclasses.replace(_CELL, seed=1)


class StoreTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.directory = pathlib.Path(self.create_tempdir()) / "new" / "results"
    self.path = self.directory / "results.jsonl"

  def test_a_result_is_on_disk_at_once_and_found_again(self):
    results = store.Store(self.directory)
    self.assertEqual(results.missing([_CELL, _OTHER, _CELL]), [_CELL, _OTHER])
    results.add(_CELL, {"test_error": 0.25})
    (line,) = self.path.read_text().splitlines()
    record = dataclasses.asdict(_CELL) | {"test_error": 0.25}
    self.assertEqual(json.loads(line), record)
    for again in (results, store.Store(self.directory)):
      self.assertEqual(again.missing([_CELL, _OTHER]), [_OTHER])
      self.assertEqual(again.select([_OTHER, _CELL]), [record])

  def test_a_result_without_judgement_is_no_judged_one(self):
    results = store.Store(self.directory)
    results.add(_CELL, {"test_error": 0.25})
    self.assertEqual(results.missing([_CELL], judged=True), [_CELL])
    results.add(_CELL, {"test_error": 0.25, "change_mae": None})
    self.assertEqual(results.missing([_CELL], judged=True), [])
    (selected,) = results.select([_CELL])
    self.assertIn("change_mae", selected)

  def test_another_field_is_another_cell(self):
    results = store.Store(self.directory)
    results.add(_CELL, {})
    for field in dataclasses.fields(comparison.Cell):
      other = dataclasses.replace(_CELL, **{field.name: "other"})
      self.assertEqual(results.missing([other]), [other], field.name)

  def test_goes_on_after_half_a_line(self):
    results = store.Store(self.directory)
    results.add(_CELL, {"test_error": 0.25})
    whole = self.path.read_text()
    self.path.write_text(whole + whole[:40])
    self.assertLen(store.read(self.directory), 1)
    results = store.Store(self.directory)
    results.add(_OTHER, {"test_error": 0.5})
    self.assertEqual(
      [record["test_error"] for record in store.read(self.path)], [0.25, 0.5]
    )

  def test_a_result_that_lacks_only_its_end_is_one(self):
    results = store.Store(self.directory)
    results.add(_CELL, {"test_error": 0.25})
    self.path.write_text(self.path.read_text().rstrip("\n"))
    self.assertLen(store.read(self.directory), 1)
    results = store.Store(self.directory)
    self.assertEqual(results.missing([_CELL, _OTHER]), [_OTHER])
    results.add(_OTHER, {"test_error": 0.5})
    self.assertLen(store.read(self.directory), 2)

  @parameterized.parameters(
    '{"theirs": 1}\n{"theirs": 2}',
    '{"theirs": 1}',
    '{"dataset": "theirs"}',
    "theirs",
    " ",
  )
  def test_leaves_alone_a_file_of_somebody_else(self, content):
    self.directory.mkdir(parents=True)
    self.path.write_text(content)
    with self.assertRaisesRegex(errors.UserError, "results.jsonl, line 1, is"):
      store.Store(self.directory)
    self.assertEqual(self.path.read_text(), content)

  def test_goes_on_wherever_a_line_breaks_off(self):
    store.Store(self.directory).add(_CELL, {"test_error": 0.25})
    whole = self.path.read_text()
    for end in range(len(whole) - 1):
      self.path.write_text(whole + whole[:end])
      self.assertLen(store.Store(self.directory).records, 1)
      self.assertEqual(self.path.read_text(), whole)

  @parameterized.parameters(40, -1)
  def test_adds_after_somebody_else_was_killed(self, end):
    results = store.Store(self.directory)
    other = store.Store(self.directory)
    other.add(_CELL, {"test_error": 0.25})
    line = self.path.read_text()
    self.path.write_text(line + line[:end])
    results.add(_OTHER, {"test_error": 0.5})
    seeds = [record["seed"] for record in store.read(self.directory)]
    self.assertEqual(seeds, [0, 1] if end > 0 else [0, 0, 1])

  def test_leaves_alone_what_somebody_else_adds(self):
    other = store.Store(self.directory)
    other.add(_CELL, {"test_error": 0.25})
    other.add(_OTHER, {"test_error": 0.5})
    content = self.path.read_bytes()
    with futures.ThreadPoolExecutor() as pool:
      with open(self.path, "r+b") as file:
        # As amid `files.append`.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(len(content) - 10)
        results = pool.submit(store.Store, self.directory)
        with self.assertRaises(futures.TimeoutError):
          results.result(timeout=0.5)
        file.seek(0, 2)
        file.write(content[-10:])
      self.assertLen(results.result().records, 2)

  def test_not_a_number_is_never_written(self):
    results = store.Store(self.directory)
    with self.assertRaises(ValueError):
      results.add(_CELL, {"test_error": float("nan")})
    self.assertEqual(store.read(self.directory), [])

  @parameterized.parameters("{", "[]", "{}", '{"rule": "asgd"}', "")
  def test_names_the_line_that_is_no_result(self, line):
    store.Store(self.directory).add(_CELL, {})
    with open(self.path, "a") as file:
      file.write(line + "\n")
    with self.assertRaisesRegex(errors.UserError, "results.jsonl, line 2, is"):
      store.read(self.directory)

  @parameterized.parameters('{"a": ' + 100_000 * "[", "unhashable")
  def test_names_the_line_that_nobody_can_read(self, line):
    self.directory.mkdir(parents=True)
    if line == "unhashable":
      line = json.dumps(dataclasses.asdict(_CELL) | {"seed": {}})
    self.path.write_text(line + "\n")
    with self.assertRaisesRegex(errors.UserError, "results.jsonl, line 1, is"):
      store.Store(self.directory)

  def test_says_that_there_are_no_results(self):
    with self.assertRaisesRegex(errors.UserError, "No such file"):
      store.read(self.directory)
    with self.assertRaisesRegex(errors.UserError, "name too long"):
      store.read(300 * "x")

  def test_says_that_it_cannot_write(self):
    self.directory.parent.mkdir()
    self.directory.write_text("a file")
    with self.assertRaisesRegex(errors.UserError, "cannot keep results in"):
      store.Store(self.directory)


if __name__ == "__main__":
  absltest.main()
