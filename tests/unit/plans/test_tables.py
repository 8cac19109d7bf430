"""Plans as text for a terminal: the sizes that people read, and nothing that a terminal would obey."""

from skrr_engine.plans.architecture import T5_XXL
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.tables import plan_table, reuse_pairs

INFO = {"t5xxl": EncoderInfo(T5_XXL)}
LEVEL = make_level(INFO, {"t5xxl": make_cut([46, 5, 2], {5: 7, 2: 4})})


def test_a_table_says_what_is_kept_in_two_bytes_and_in_one():
    lines = plan_table(Plan("mine", INFO, (LEVEL,), ("a note",))).split("\n")
    kept = T5_XXL.total_parameters - LEVEL.removed_parameters
    assert lines[0] == "Plan 'mine'" and lines[1] == f"  t5xxl: {T5_XXL.describe()}"
    assert lines[3].split() == ["0", "0", "0.00", "%", "9.525", "4.762", "0", "(dense)"]
    sizes = [f"{kept * 2 / 1e9:.4g}", f"{kept / 1e9:.4g}"]
    assert lines[4].split() == ["3", "2", f"{100 * LEVEL.sparsity:.2f}", "%", *sizes, "not", "measured"]
    assert lines[5:] == [f"Re-use at {100 * LEVEL.sparsity:.2f} %: t5xxl 2 <- 4, 5 <- 7", "Note: a note"]


def test_a_level_that_was_measured_says_so():
    found = dict.fromkeys(("conditional", "null", "null_weight", "cosine", "null_norm", "value"), 0.25)
    level = make_level(INFO, {"t5xxl": make_cut([46])}, {**found, "value": 0.123456})
    plan = Plan("mine", INFO, (level,))
    assert plan_table(plan).split("\n")[4].endswith("  0.1235") and reuse_pairs(level) == []


def test_no_control_character_of_a_plan_reaches_the_terminal():
    text = plan_table(Plan("mine", INFO, (LEVEL,), ("red \x1b[31m\x07\r\n\x9b and half \ud800 a pair",)))
    assert text.split("\n")[-1] == "Note: red  [31m     and half   a pair"
    text.encode("utf-8")
