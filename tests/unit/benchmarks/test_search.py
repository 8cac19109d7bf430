"""The benchmark of the search runs at small size and prints what it promises."""


def test_small(small):
    assert small["small"] == {"encoders": 2, "equal": 2}
    assert small["random"]["exact"]["equal"]
    assert small["random"]["exact"]["work_ratio"] > 1
    trained = small["trained"]
    work = trained["reference"]["work"]
    assert work["total"] == work["dense"] + work["skip"] + work["reuse"]
    assert trained["exact"]["work_ratio"] == round(work["total"] / trained["exact"]["work"], 2) > 1
    assert trained["ceiling"]["skip_ratio"] >= trained["exact"]["skip_work_ratio"]
    assert trained["ceiling"]["skip_ratio"] >= trained["ceiling"]["ratio"] >= trained["exact"]["work_ratio"]
    assert trained["fast"]["work_ratio"] > 1
    assert trained["quality"]["worst_level"] >= trained["quality"]["mean_excess"]
    assert "PROJECTED" in small["projection"]["what"]
    assert round(small["projection"]["dense_passes"]["published"]) == 1922
