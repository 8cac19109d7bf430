"""SkrrReport's words against its figures, and its plot measured pixel by pixel."""

import pytest
import torch


def test_the_fp8_yardstick_is_what_fp8_does_to_a_layer(pack):
    """A linear layer's weights rounded to scaled e4m3, as comfy's quantised layers store them."""
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(1024, 1024, generator=generator) / 32, torch.randn(256, 1024, generator=generator)
    scale = weight.abs().max() / 448
    rounded = (weight / scale).to(torch.float8_e4m3fn).float() * scale
    moved = (x @ (rounded - weight).T).square().mean().sqrt() / (x @ weight.T).square().mean().sqrt()
    assert moved.item() == pytest.approx(pack("nodes.comfy_host.report.verdict").FP8_LAYER, rel=0.01)


def made(pack, *changes, seconds=((0.42, 0.40), (0.30, 0.27)), name="t5xxl", prompt="a fox", cosine=0.003):
    """A Comparison with given (relative, null_relative, to_empty) for each encoder."""
    comparing, probing = pack("nodes.comfy_host.report.comparing"), pack("nodes.comfy_host.report.probing")
    found = pack("skrr_engine.measure.discrepancy").Discrepancy(0.01, 0.002, 1.0, cosine, 1.1)
    encoders = tuple(
        comparing.EncoderSizes(
            slot=f"{name}{n or ''}",
            bytes=(8_000_000_000, 4_000_000_000),
            parameters=(4_000_000_000, 2_000_000_000),
            skipped=(0, 20),
            sub_blocks=48,
            change=probing.Change(found, *change, behind="Compared behind Flux's own txt_in."),
        )
        for n, change in enumerate(changes)
    )
    total = len(changes)
    return comparing.Comparison(prompt, "cpu", (8_000_000_000 * total, 4_000_000_000 * total), encoders, seconds, ())


@pytest.mark.parametrize(
    "change, cosine, head, words",
    [
        ((0.0, 0.0, 0.0), 0.0, "unchanged", "bit for bit"),
        ((0.0, 0.0, None), 0.0, "unchanged", "bit for bit"),
        ((0.1, 0.1, None), 0.0, "about as good", "by the figures of t5xxl"),
        ((0.08, 0.05, 0.3), 0.003, "about as good", "turn by 7.7 % of their size. On the pack's small pipeline"),
        ((0.4, 0.3, 0.5), 0.08, "hardly worse", "lost about 3 of 100 right pictures (0 to 10)"),
        ((0.6, 0.99, 0.99), 0.18, "worse", "Compare pictures of several seeds."),
        ((0.9, 0.9, 0.99), 0.4, "much worse", "turn by 89 % of their size"),
        ((1.0, 0.2, 0.5), 0.4, "large change", "the prompt's features behind t5xxl moved by 100 %"),
        ((0.2, 1.5, 0.5), 0.02, "large change", "the empty prompt's features behind t5xxl moved by 150 %"),
        ((0.2, 0.1, 1.2), 0.02, "large change", "120 % of the way to the empty prompt's"),
    ],
)
def test_verdicts_follow_what_was_measured(pack, change, cosine, head, words):
    found, said = pack("nodes.comfy_host.report.verdict").verdict(made(pack, change, cosine=cosine))
    assert found == head and words in said and "No verdict" not in said


def test_the_encoder_that_changed_most_decides(pack):
    found = made(pack, (0.01, 0.01, 0.1), (0.3, 0.1, 1.3), (0.5, 0.4, 0.9))
    head, said = pack("nodes.comfy_host.report.verdict").verdict(found)
    assert head == "large change" and "t5xxl1" in said


def test_the_report_says_what_its_times_do_not(pack):
    text = pack("nodes.comfy_host.report.verdict").report_text(made(pack, (0.5, 0.4, 0.9)), None, "No pictures.")
    assert "410 ms dense (400 ms to 420 ms), 285 ms pruned (270 ms to 300 ms): the median of 2 runs each" in text
    assert "Loading is not in it" in text and "overlap" not in text and text.endswith("No pictures.")
    overlapping = made(pack, (0.5, 0.4, 0.9), seconds=((0.3, 0.5), (0.2, 0.31)))
    assert "no measurable difference" in pack("nodes.comfy_host.report.verdict").report_text(overlapping, None, "")
    none = made(pack, (0.5, 0.4, 0.9), seconds=((), ()))
    assert "Encode time: not taken" in pack("nodes.comfy_host.report.verdict").report_text(none, None, "")


def test_pictures_in_numbers(pack):
    compare_pictures = pack("nodes.comfy_host.report.pictures").compare_pictures
    a = torch.full((1, 8, 16, 3), 0.5)
    a[:, :, 8:] = 0.7
    pair, _ = compare_pictures(a, a + 0.1)
    assert pair.psnr == pytest.approx(20.0, abs=1e-3) and pair.mean == pytest.approx(0.1, abs=1e-6)
    assert pair.flat_psnr == pytest.approx(20.0, abs=1e-3)  # 0.1 away from its mean everywhere
    assert not pair.same
    same, _ = compare_pictures(a, a + 0.003)
    assert same.same and compare_pictures(a, a)[0].psnr == float("inf")
    with_alpha = torch.cat((a, torch.rand(1, 8, 16, 1)), dim=3)
    assert compare_pictures(with_alpha, a)[0].psnr == float("inf")
    for pictures, words in [
        ((a, None), "connect both"),
        ((None, None), "No pictures"),
        ((a, a[:, :4]), "16 x 8 dense, 16 x 4 pruned"),
    ]:
        none, sentence = compare_pictures(*pictures)
        assert none is None and words in sentence


def pixels(plot, color):
    """(rows, columns) of the plot's pixels of exactly this colour."""
    wanted = torch.tensor([int(color[n : n + 2], 16) for n in (1, 3, 5)])
    return torch.where(((plot[0] * 255).round().int() == wanted).all(dim=2))


def test_bars_are_as_long_as_their_values(pack):
    plotting = pack("nodes.comfy_host.report.plotting")
    plot = plotting.draw(made(pack, (0.5, 0.4, 0.9), seconds=((), ())), ("hardly worse", "Nothing."))
    assert plot.shape[0] == 1 and plot.shape[2:] == (1000, 3) and plot.dtype == torch.float32
    assert plot.min() >= 0 and plot.max() <= 1
    columns = [pixels(plot, color)[1] for color in (plotting.DENSE, plotting.PRUNED)]
    rows = pixels(plot, plotting.PRUNED)[0]
    bar = columns[1][rows < rows.min() + 14]  # the bar, not the dots of the section below
    dense, pruned = columns[0].max() - columns[0].min(), bar.max() - bar.min()
    assert pruned / dense == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("change", [(1e-7, 0.0, None), (80.0, 3e4, 9.0), (0.3, 0.2, 0.5)])
def test_nothing_leaves_the_page(pack, count, change):
    """Long names, tiny and huge values, many encoders: the margins stay empty."""
    plotting = pack("nodes.comfy_host.report.plotting")
    found = made(pack, *[change] * count, name="an_encoder_with_a_very_long_name_of_the_year_2031", prompt="fox " * 99)
    rand = torch.rand(1, 40, 90, 3, generator=torch.Generator().manual_seed(0))
    pair, _ = pack("nodes.comfy_host.report.pictures").compare_pictures(rand, rand.flip(2))
    plot = plotting.draw(found, ("large change", "words " * 60 + "w" * 300), pair, rand, rand.flip(2))
    edge = plotting.MARGIN - 4
    for margin in (plot[0, :, :edge], plot[0, :, -edge:], plot[0, :16], plot[0, -16:]):
        assert margin.min() > 0.99


def test_values_off_the_scale_are_arrows(pack):
    """A dot is as high as wide; an arrow is not."""
    plotting = pack("nodes.comfy_host.report.plotting")
    shapes = []
    for share in (0.5, 50.0):
        plot = plotting.draw(made(pack, (share, share, None), seconds=((), ())), ("x", ""))
        rows, columns = pixels(plot, plotting.PRUNED)
        below = rows > rows.min() + 40
        first = rows[below] < rows[below].min() + 20
        shapes.append((columns[below][first].max() - columns[below][first].min()).item())
    assert shapes[0] < shapes[1]
