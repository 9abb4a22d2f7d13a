from absl.testing import absltest

from lc_asgd_tf.reports import rules, styles


class OrderTest(absltest.TestCase):
  def test_order(self):
    given = (
      "lc_asgd_r1",
      "lc_asgd_holt",
      "loss_scaled",
      "lc_asgd",
      "dc_asgd_cap_2",
      "asgd",
      "dc_asgd",
      "another",
      "dana",
      "sequential",
      "dc_asgd_c",
      "staleness_aware",
      "asgd",
      "gap_aware",
      "ssgd",
    )
    self.assertEqual(
      rules.ordered(given),
      [
        "sequential",
        "ssgd",
        "asgd",
        "staleness_aware",
        "gap_aware",
        "dana",
        "dc_asgd_c",
        "dc_asgd",
        "lc_asgd",
        "another",
        "dc_asgd_cap_2",
        "lc_asgd_holt",
        "lc_asgd_r1",
        "loss_scaled",
      ],
    )


class StylesTest(absltest.TestCase):
  def test_all_differ(self):
    names = [*rules.NAMED, *(f"control_{i}" for i in range(14))]
    by_rule = styles.styles(names)
    self.assertLen(by_rule, len(names))
    self.assertLen(set(by_rule.values()), len(names))
    without_markers = {
      (style.color, style.linestyle) for style in by_rule.values()
    }
    self.assertLen(without_markers, len(names))

  def test_a_rule_of_the_library_looks_the_same_everywhere(self):
    everywhere = styles.styles(rules.NAMED)
    for rule in rules.NAMED:
      self.assertEqual(styles.styles([rule, "other"])[rule], everywhere[rule])


if __name__ == "__main__":
  absltest.main()
