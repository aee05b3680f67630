"""The paper's methods inside a training step: each changes the gradient it should, where and how it should."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from skimage.filters import threshold_otsu

from tmgan.common.progress import Progress
from tmgan.config import configfile
from tmgan.config.methods import BlurConfig, GradientConfig, SharpnessLossConfig
from tmgan.config.runtime import decide
from tmgan.data.masks import write_masks
from tmgan.losses.adversarial import discriminator_loss
from tmgan.losses.matching import word_level_correlation
from tmgan.methods.blurred_real import blur_real, counts
from tmgan.methods.image_comparing import adaptive_change_mask, otsu_threshold
from tmgan.methods.sharpness import sharpness_loss
from tmgan.models.discriminator import Discriminator
from tmgan.models.layers import init_weights
from tmgan.training.editor_task import EditorTask
from tmgan.training.signs import SIGNS
from tmgan_kernels import (
    change_mask,
    laplace_sharpness,
    naive_sharpness_loss,
    sharp_gradient,
    sharp_regions,
    sharpness_score,
)
from tmgan_kernels.change_mask import difference_eager

BASELINE = {"mismatched_text_p": 0.0, "keep_mask": "none"}


@pytest.fixture
def run(tiny, own, encoders):
    """run(**method) -> one step of the same networks on the same batch: task, batch, edit, image gradient, losses."""

    def one_step(**method):
        config = configfile.merge(tiny, {"method": {**BASELINE, **method}, "model": {"keep_input": False}}, "test")
        task = EditorTask(config, own, encoders, decide(tiny.runtime))
        seen = {}

        def hook(module, arguments, output):
            seen["edit"] = output.image.detach().clone()
            output.image.register_hook(lambda grad: seen.__setitem__("grad", grad.clone()))

        handle = task.train_step.generator.register_forward_hook(hook)
        batch = task.loader(0)
        losses = task.train_step(batch, 0)
        handle.remove()
        return task, batch, seen["edit"], seen["grad"], losses

    return one_step


def weights(task) -> list[torch.Tensor]:
    step = task.train_step
    return [p.detach() for network in (step.generator, step.discriminator) for p in network.parameters()]


@pytest.mark.parametrize(
    "off",
    [
        {"sharpness": {"weight": 0.0, "gamma": 5.0, "labels": "original"}},
        {"gradient": {"mode": "none", "gain": 9.0, "losses": "text"}},
        {"blur": {"sizes": [], "border": "zeros", "heads": "both", "skip_below": 3.0}},
        {"histogram": {"threshold": 1.0, "adaptive": True}},
        {"mae_alpha": 99.0, "keep_weight": 99.0},
    ],
    ids=["nsl", "gm", "sad", "histogram", "masked mae"],
)
def test_switched_off_it_is_the_baseline_bit_for_bit(run, off):
    baseline, _, _, _, losses = run()
    task, _, _, _, same = run(**off)
    assert losses.keys() == same.keys() and all(torch.equal(losses[k], same[k]) for k in losses)
    assert all(torch.equal(a, b) for a, b in zip(weights(baseline), weights(task), strict=True))


def test_gradient_manipulation_is_k_on_sharp_regions_and_one_elsewhere(run):
    _, _, edit, plain, _ = run()
    _, _, same, strong, _ = run(gradient={"mode": "regions", "gain": 1.5})
    assert torch.equal(edit, same)  # the picture itself is untouched
    sharp = sharp_regions(laplace_sharpness(edit))[0]
    assert 0.01 < sharp.float().mean() < 0.5
    torch.testing.assert_close(strong, plain * torch.where(sharp, 1.5, 1.0))


def test_smooth_gradient_manipulation_as_published(run):
    _, _, edit, plain, _ = run()
    _, _, _, strong, _ = run(gradient={"mode": "smooth"})
    torch.testing.assert_close(strong, plain * (1 + torch.tanh(laplace_sharpness(edit))))


def test_gradient_manipulation_can_leave_perceptual_and_mae_losses_alone(run):
    """Only what adversarial and matching losses send is scaled: the rest of the gradient is the baseline's."""
    _, _, edit, plain, _ = run(keep_mask="dataset")
    _, _, _, every, _ = run(keep_mask="dataset", gradient={"mode": "regions", "gain": 3.0})
    _, _, _, text, _ = run(keep_mask="dataset", gradient={"mode": "regions", "gain": 3.0, "losses": "text"})
    sharp = sharp_regions(laplace_sharpness(edit))[0].expand_as(edit)
    torch.testing.assert_close(text[~sharp], plain[~sharp])
    assert not torch.allclose(text[sharp], every[sharp])
    assert not torch.allclose(text[sharp], plain[sharp])


def separable(image: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A loss that is a sum over pixels."""
    return (weights * (image - 0.3) ** 4).sum()


def coupled(image: torch.Tensor) -> torch.Tensor:
    """A loss that is not: pixels side by side matter to each other, as they do to a discriminator."""
    return (image[..., 1:] * image[..., :-1]).sum() ** 2 + (image**3).sum()


@pytest.fixture
def small_image() -> torch.Tensor:
    image = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    return image.requires_grad_()


def test_appendix_the_layer_is_the_k_weighted_loss_where_loss_is_a_sum_over_pixels(small_image):
    """The paper's appendix: multiplying the gradient of the enhanced region by k is weighting its loss by k."""
    k, sharp = 1.5, sharp_regions(laplace_sharpness(small_image))[0]
    assert 0 < sharp.sum() < sharp.numel()
    (layer,) = torch.autograd.grad(separable(sharp_gradient(small_image, k), torch.ones(())), small_image)
    (weighted,) = torch.autograd.grad(separable(small_image, torch.where(sharp, k, 1.0)), small_image)
    torch.testing.assert_close(layer, weighted, rtol=1e-12, atol=0)


def test_appendix_no_weighted_loss_at_all_where_pixels_matter_to_each_other(small_image):
    """Any loss's gradient has a symmetric derivative. The layer's has not, so it follows no loss: docs/fidelity.md."""
    sharp = sharp_regions(laplace_sharpness(small_image))[0]
    for k, symmetric in ((1.0, True), (1.5, False)):
        (plain,) = torch.autograd.grad(coupled(small_image), small_image, create_graph=True)
        followed = torch.where(sharp, k, 1.0) * plain
        (layer,) = torch.autograd.grad(coupled(sharp_gradient(small_image, k)), small_image)
        torch.testing.assert_close(layer, followed.detach())
        derivative = torch.stack(
            [torch.autograd.grad(value, small_image, retain_graph=True)[0].flatten() for value in followed.flatten()]
        )
        assert torch.allclose(derivative, derivative.T) == symmetric


def test_appendix_a_negative_factor_climbs(small_image):
    """f(k) = -k, the appendix's other case, would raise the loss of the enhanced region; its own proof rules it out."""
    with torch.no_grad():
        gradient = 4 * (small_image - 0.3) ** 3
        sharp = sharp_regions(laplace_sharpness(small_image))[0]
        for k, falls in ((1.5, True), (-1.5, False)):
            moved = small_image - 1e-3 * torch.where(sharp, k, 1.0) * gradient
            change = separable(moved, sharp) - separable(small_image, sharp)
            assert (change < 0) == falls
            torch.testing.assert_close(change, -1e-3 * k * (gradient[sharp] ** 2).sum(), rtol=0.05, atol=0)
    with pytest.raises(ValueError, match="gain"):
        GradientConfig(gain=-1.5)


def test_naive_sharpness_loss_adds_its_own_gradient_and_sharpens(run):
    _, _, edit, plain, losses = run()
    _, _, _, grad, with_loss = run(sharpness={"weight": 1.0, "gamma": 0.1})
    assert "sharpness" in with_loss and "sharpness" not in losses
    image = edit.clone().requires_grad_()
    (own,) = torch.autograd.grad(naive_sharpness_loss(image, 0.1), image)
    torch.testing.assert_close(grad - plain, own, rtol=1e-3, atol=1e-7)
    # Downhill is sharper where the image is sharp already.
    sharp = sharp_regions(laplace_sharpness(edit))[0]
    moved = laplace_sharpness(edit - own / own.abs().max() * 1e-2)
    assert moved[sharp].mean() > laplace_sharpness(edit)[sharp].mean()


def test_naive_sharpness_loss_can_ask_for_the_photos_sharp_regions(run):
    _, batch, edit, _, losses = run(sharpness={"weight": 1.0, "labels": "original"})
    labels = sharp_regions(laplace_sharpness(batch.images))[0]
    torch.testing.assert_close(losses["sharpness"], naive_sharpness_loss(edit, 0.1, labels))
    assert losses["sharpness"] != sharpness_loss(SharpnessLossConfig(), batch.images, edit)


@pytest.mark.parametrize("method", ["dataset", "fcn", "histogram", "adaptive"])
def test_keep_masks_pull_the_edit_back_to_the_photo_inside_them_only(run, own, method):
    """fcn: with masks in the pack as `tmgan data masks` stores them."""
    if method == "fcn":
        write_masks(
            own,
            "fcn",
            {"weights": "random"},
            lambda images, texts, span: (images[:, :1] > 0).float(),
            8,
            Progress(visible=False),
        )
    _, batch, edit, plain, _ = run()
    _, masked, _, grad, losses = run(
        keep_mask="histogram" if method == "adaptive" else method,
        histogram={"threshold": 60.0, "adaptive": method == "adaptive"},
    )
    if method == "histogram":
        keep = change_mask(batch.images, edit, threshold=60.0, eight_bit=True)
    else:
        keep = adaptive_change_mask(batch.images, edit) if method == "adaptive" else masked.keep
    keep = keep.float()
    assert 0.05 < losses["kept"] < 0.95
    added = grad - plain
    inside = (keep == 1).expand_as(added)
    step = 25.0 / edit.numel()
    torch.testing.assert_close(added[inside], step * (edit - batch.images).sign()[inside], rtol=0, atol=step * 1e-2)
    assert added[(keep == 0).expand_as(added)].abs().max() < step * 1e-2


def test_otsu_threshold_equals_scikit_image():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, high, (400,), generator=generator) for high in (256, 40, 3)]
    rows += [
        torch.cat(
            [torch.randint(0, 20, (300,), generator=generator), torch.randint(90, 130, (100,), generator=generator)]
        )
    ]
    found = otsu_threshold(torch.stack(rows))
    assert found.tolist() == [threshold_otsu(row.numpy()) for row in rows]
    assert 19 <= found[3] < 90


def test_adaptive_histogram_mask_finds_faint_and_strong_edits_alike():
    """Squares edited by 24 and by 120 levels: one threshold for both finds all of one or none of the other."""
    photo = (torch.randint(60, 120, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    edit, inside = photo.clone(), torch.zeros(64, 64, dtype=torch.bool)
    inside[20:44, 20:44] = True
    edit[0][:, inside] += 24 / 127.5
    edit[1][:, inside] += 120 / 127.5
    edit += 2 / 127.5 * torch.rand(edit.shape, generator=torch.Generator().manual_seed(1))
    fixed, adaptive = change_mask(photo, edit, eight_bit=True), adaptive_change_mask(photo, edit)
    wide = F.max_pool2d(inside[None, None].float(), 11, 1, 5)[0, 0] > 0  # blur and dilation reach so far
    assert fixed[0].all()
    for keep in adaptive[:, 0]:
        assert not keep[inside].any() and keep[~wide].float().mean() > 0.95
    assert adaptive_change_mask(photo, photo).all()  # nothing is divided where nothing was changed


def test_adaptive_mask_is_the_change_mask_of_its_threshold():
    photo = (torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    edit = photo.roll(1, 3) * torch.linspace(0, 1, 64)
    levels = difference_eager(photo, edit, eight_bit=True).floor().long().amax(1).flatten(1)
    whole = float(otsu_threshold(levels)) + 1  # levels above t: differences from t + 1 on
    below = math.nextafter(whole, 0)
    for ceiling in (None, 160.0):
        assert torch.equal(
            adaptive_change_mask(photo, edit, ceiling),
            change_mask(photo, edit, threshold=below, ceiling=ceiling, eight_bit=True),
        )


def test_sharpness_aware_discriminator_learns_that_blur_is_fake(run):
    baseline, batch, edit, _, losses = run()
    task, _, same, _, with_blur = run(blur={"sizes": [9]})
    assert torch.equal(edit, same)
    torch.testing.assert_close(with_blur["d"], losses["d"] + with_blur["d_blurred"])
    shown = blur_real(BlurConfig(sizes=(9,)), batch.images, batch.blur_sizes)
    sentence = task.encoders.text(batch.tokens, batch.lengths)[1]

    def logit(of):
        network = of.train_step.discriminator.eval()
        return network.conditional(network(shown), sentence).mean()

    assert logit(task) < logit(baseline)


def test_blurred_photos_add_their_own_gradient_to_the_discriminators():
    """Every weight of D is pulled as by the blurred photos' loss alone, on top of what pulled it before."""
    random = torch.Generator().manual_seed(0)
    discriminator = Discriminator(64, 4, 16).double()
    init_weights(discriminator, random)
    real, fake = (torch.rand(2, 3, 64, 64, generator=random, dtype=torch.float64) * 2 - 1 for _ in range(2))
    sentence = torch.randn(2, 16, generator=random, dtype=torch.float64)
    shown = blur_real(BlurConfig(sizes=(9,)), real, torch.tensor([9, 9]))

    def pull(loss):
        return torch.autograd.grad(loss, list(discriminator.parameters()), allow_unused=True, materialize_grads=True)

    before = pull(discriminator_loss(discriminator, real, fake, sentence, sentence).total)
    after = pull(discriminator_loss(discriminator, real, fake, sentence, sentence, blurred=shown).total)
    own = pull(F.softplus(discriminator.conditional(discriminator(shown), sentence)).mean())
    for a, b, c in zip(after, before, own, strict=True):
        torch.testing.assert_close(a - b, c)
    assert sum(float(c.abs().sum()) for c in own) > 0


def test_blurred_photos_of_both_heads_and_those_left_out():
    random = torch.Generator().manual_seed(0)
    discriminator = Discriminator(64, 4, 16)
    init_weights(discriminator, random)
    real, fake, shown = (torch.rand(3, 3, 64, 64, generator=random) * 2 - 1 for _ in range(3))
    sentence = torch.randn(3, 16, generator=random)

    def loss(**options):
        return discriminator_loss(discriminator, real, fake, sentence, sentence, blurred=shown, **options).blurred

    features = discriminator(shown)
    heads = [
        F.softplus(discriminator.conditional(features, sentence)),
        F.softplus(discriminator.unconditional(features)),
    ]
    torch.testing.assert_close(loss(), heads[0].mean())
    torch.testing.assert_close(loss(blurred_heads="both"), (heads[0].mean() + heads[1].mean()) / 2)
    torch.testing.assert_close(loss(blurred_counts=torch.tensor([1.0, 0.0, 1.0])), heads[0][[0, 2]].mean())
    assert loss(blurred_counts=torch.zeros(3)) == 0


def test_word_correlation_is_logged_and_changes_nothing(run):
    baseline, batch, *_, losses = run(mismatched_text_p=0.5)
    task, *_, logged = run(mismatched_text_p=0.5, word_correlation=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(baseline), weights(task), strict=True))
    assert logged.keys() - losses.keys() == {"d_words"}
    step = task.train_step
    words, _ = task.editor.encoders.text(batch.tokens, batch.lengths)
    torch.testing.assert_close(
        logged["d_words"],
        word_level_correlation(step.photo.features(batch.images).regions, words, batch.tokens == 0, batch.word_labels),
    )
    assert batch.word_labels.any() and not batch.word_labels[batch.tokens == 0].any()


def test_published_wrong_pairs_are_neighbours_in_length(run, monkeypatch):
    """Each photo is shown with the text of the one whose caption is next in length, whatever its class."""
    pairs = []
    judge = Discriminator.conditional

    def spy(network, features, sentence):
        pairs.append((features.detach(), sentence))
        return judge(network, features, sentence)

    monkeypatch.setattr(Discriminator, "conditional", spy)
    _, batch, *_ = run(wrong_pairs="published")
    order = sorted(range(4), key=lambda row: -int(batch.lengths[row]))
    real, wrong = pairs[0], pairs[2]  # after real and fake pairs
    assert order != [0, 1, 2, 3]
    for place, (photo, other) in enumerate(pairwise(order)):
        assert torch.equal(wrong[0][place], real[0][photo]) and torch.equal(wrong[1][place], real[1][other])


def test_every_method_at_once_shows_its_own_loss(run, own):
    write_masks(
        own,
        "fcn",
        {"weights": "random"},
        lambda images, texts, span: (images[:, :1] > 0).float(),
        8,
        Progress(visible=False),
    )
    _, _, _, _, losses = run(
        keep_mask="fcn",
        mismatched_text_p=0.5,
        sharpness={"weight": 1.0},
        gradient={"mode": "regions"},
        blur={"sizes": [5, 7, 9]},
    )
    assert losses.keys() - set(SIGNS) == {
        "d",
        "d_blurred",
        "g_adv",
        "words",
        "sentence",
        "perceptual",
        "kl",
        "kept",
        "masked_mae",
        "sharpness",
    }
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())


def test_blur_sizes_are_drawn_by_the_plan_one_a_photo(tiny, pack, encoders):
    config = configfile.merge(tiny, {"batch": 16, "method": {"blur": {"sizes": [5, 7, 9]}}}, "test")
    task = EditorTask(config, pack, encoders, decide(tiny.runtime))
    batch = task.loader(3)
    assert set(batch.blur_sizes.tolist()) == {5, 7, 9}
    assert torch.equal(batch.blur_sizes, task.planner(3).blur_sizes)
    shown = blur_real(config.method.blur, batch.images, batch.blur_sizes)
    for row, size in enumerate(batch.blur_sizes.tolist()):
        alone = blur_real(BlurConfig(sizes=(size,)), batch.images[row : row + 1], batch.blur_sizes[row : row + 1])
        torch.testing.assert_close(shown[row : row + 1], alone)


def test_kinds_of_blur(pack):
    photo = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sizes = torch.tensor([9, 9])
    shown = {kind: blur_real(BlurConfig(sizes=(9,), kind=kind), photo, sizes) for kind in ("box", "gaussian", "grey")}
    for kind, picture in shown.items():
        assert picture.shape == photo.shape
        assert (sharpness_score(picture, border="replicate") < 0.3 * sharpness_score(photo, border="replicate")).all()
        assert ((picture[:, 0] - picture[:, 1]).abs().max() == 0) == (kind == "grey")
    framed = blur_real(BlurConfig(sizes=(9,), border="zeros"), torch.ones(1, 3, 32, 32), sizes[:1])
    assert framed[0, 0, 0, 0] < 0.5 < framed[0, 0, 16, 16]  # why a zero border is not the default


def test_photos_that_are_blurred_already_can_be_left_out():
    photo = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    photo[1] = 0.3
    assert counts(BlurConfig(sizes=(9,)), photo) is None
    assert counts(BlurConfig(sizes=(9,), skip_below=5.0), photo).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlurConfig(sizes=(4,)), "odd numbers"),
        (lambda: BlurConfig(sizes=(5, 7), kind="gaussian"), "one size"),
        (lambda: SharpnessLossConfig(gamma=0.0), "more than 0"),
        (lambda: GradientConfig(gain=-1.0), "gain"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_survive_yaml(tiny):
    config = configfile.merge(tiny, {"method": {"blur": {"sizes": [5, 9]}}}, "test")
    import yaml

    again = configfile.merge(tiny, yaml.safe_load(configfile.to_yaml(config)), "again")
    assert again == config and again.method.blur.sizes == (5, 9)
    assert configfile.differences(yaml.safe_load(configfile.to_yaml(config)), configfile.to_dict(config)) == []
    with pytest.raises(ValueError, match="not a list"):
        configfile.merge(tiny, {"method": {"blur": {"sizes": 5}}}, "test")
    assert dataclasses.replace(config) == config
