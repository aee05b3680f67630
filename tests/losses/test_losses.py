"""Losses against definitions written out with loops, and the rules about masks, gradients and precision."""

import pytest
import torch
import torch.nn.functional as F

from tmgan.losses.adversarial import discriminator_loss, generator_adversarial, kl_loss
from tmgan.losses.matching import sentence_loss, word_attention, words_loss, words_score
from tmgan.losses.perceptual import perceptual_loss
from tmgan.losses.regional import keep_mask_loss, palette_loss, restoration_loss
from tmgan.models import Discriminator, init_weights

GAMMAS = (4.0, 5.0, 10.0)


def _draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _texts(lengths=(5, 3, 4, 1), width=5, dim=6):
    padding = torch.arange(width) >= torch.tensor(lengths)[:, None]
    return _draw(len(lengths), dim, width, seed=1).masked_fill(padding[:, None], 0), padding


def _scores(regions, words, padding):
    """sim[b, i] of image b and caption i, one pair at a time, as the publication describes it."""
    gamma1, gamma2, gamma3 = GAMMAS
    scores = torch.zeros(len(regions), len(words), dtype=regions.dtype)
    for b, region in enumerate(regions.flatten(2)):
        for i in range(len(words)):
            word = words[i][:, ~padding[i]]
            over_words = torch.softmax(region.t() @ word, dim=1)
            over_regions = torch.softmax(gamma1 * over_words.t(), dim=1)
            context = region @ over_regions.t()
            cosine = F.cosine_similarity(context, word, dim=0)
            scores[b, i] = gamma3 * torch.log(torch.exp(gamma2 * cosine).sum())
    return scores


def test_words_loss_equals_the_loop_over_pairs():
    regions = _draw(4, 6, 3, 3)
    words, padding = _texts()
    scores, own = _scores(regions, words, padding), torch.arange(4)
    loss = words_loss(regions, words, padding, gammas=GAMMAS)
    torch.testing.assert_close(loss.photo_to_text, F.cross_entropy(scores, own), rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.text_to_photo, F.cross_entropy(scores.t(), own), rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.total, loss.photo_to_text + loss.text_to_photo)


def test_same_class_is_no_wrong_answer():
    regions, (words, padding) = _draw(4, 6, 3, 3), _texts()
    scores = _scores(regions, words, padding)
    scores[0, 2] = scores[2, 0] = float("-inf")
    loss = words_loss(regions, words, padding, torch.tensor([7, 1, 7, 2]))
    torch.testing.assert_close(loss.photo_to_text, F.cross_entropy(scores, torch.arange(4)), rtol=1e-12, atol=0)
    all_same = words_loss(regions, words, padding, torch.zeros(4, dtype=torch.int64))
    assert all_same.total == 0


def test_sentence_loss_equals_its_definition():
    code, sentence = _draw(4, 6), _draw(4, 6, seed=2)
    scores = 10.0 * F.cosine_similarity(code[:, None], sentence[None], dim=2)
    loss = sentence_loss(code, sentence)
    torch.testing.assert_close(loss.photo_to_text, F.cross_entropy(scores, torch.arange(4)))
    torch.testing.assert_close(loss.text_to_photo, F.cross_entropy(scores.t(), torch.arange(4)))


def test_matching_ignores_what_is_in_the_padding():
    regions, (words, padding) = _draw(4, 6, 3, 3), _texts()
    regions.requires_grad_()
    words_longer = torch.cat([words.masked_fill(padding[:, None], 9.0), _draw(4, 6, 13, seed=3)], dim=2)
    words_longer.requires_grad_()
    padding_longer = F.pad(padding, (0, 13), value=True)
    loss = words_loss(regions, words, padding).total
    longer = words_loss(regions, words_longer, padding_longer).total
    torch.testing.assert_close(loss, longer, rtol=1e-12, atol=0)
    gradient, gradient_words = torch.autograd.grad(longer, (regions, words_longer))
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, regions)[0], rtol=1e-10, atol=1e-14)
    assert gradient_words.masked_select(padding_longer[:, None]).abs().max() == 0


def test_gradients_are_finite_for_padded_words_that_are_zero():
    regions, (words, padding) = _draw(4, 6, 3, 3).requires_grad_(), _texts()
    words.requires_grad_()
    words_loss(regions, words, padding).total.backward()
    assert regions.grad.isfinite().all()
    assert words.grad.isfinite().all()


def test_word_attention_sums_to_one_over_regions():
    words, padding = _texts()
    context, attention = word_attention(_draw(4, 6, 3, 3), words, padding)
    assert context.shape == (4, 6, 5)
    assert attention.shape == (4, 5, 3, 3)
    torch.testing.assert_close(attention.sum((2, 3)), torch.ones(4, 5, dtype=torch.float64))


def test_matching_is_computed_in_fp32_under_autocast():
    regions, (words, padding) = _draw(4, 6, 3, 3, dtype=torch.float32), _texts()
    words = words.float()
    plain = words_loss(regions, words, padding).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(words_loss(regions, words, padding).total, plain)
        assert words_loss(regions.bfloat16(), words.bfloat16(), padding).total.dtype == torch.float32


class Recorder(torch.nn.Module):
    """A stand-in for D with given logits, that records the order of calls. Its features are the images' first pixel."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, image):
        self.calls.append(("trunk", len(image)))
        return image[:, :, 0, 0]

    def conditional(self, features, sentence):
        self.calls.append(("conditional", len(features)))
        return (features * sentence).sum(1)

    def unconditional(self, features):
        self.calls.append(("unconditional", len(features)))
        return features.sum(1)


def _bce(logits, label):
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, label))


def _discriminator_inputs(batch=4):
    return [_draw(batch, 3, 2, 2, seed=s) for s in (1, 2)] + [_draw(batch, 3, seed=s) for s in (3, 4)]


def test_discriminator_loss_equals_its_definition():
    real, fake, sentence, fake_sentence = _discriminator_inputs()
    discriminator = Recorder()
    loss = discriminator_loss(discriminator, real, fake, sentence, fake_sentence)
    assert [name for name, _ in discriminator.calls] == ["trunk"] * 2 + ["conditional"] * 3 + ["unconditional"] * 2
    assert discriminator.calls[4] == ("conditional", 3)

    r, f = real[:, :, 0, 0], fake[:, :, 0, 0]
    torch.testing.assert_close(loss.real_unconditional, _bce(r.sum(1), 1.0))
    torch.testing.assert_close(loss.real_conditional, _bce((r * sentence).sum(1), 1.0))
    torch.testing.assert_close(loss.fake_unconditional, _bce(f.sum(1), 0.0))
    torch.testing.assert_close(loss.fake_conditional, _bce((f * fake_sentence).sum(1), 0.0))
    torch.testing.assert_close(loss.wrong_conditional, _bce((r[:-1] * sentence[1:]).sum(1), 0.0))
    torch.testing.assert_close(loss.total, sum(loss[:2]) / 2 + sum(loss[2:5]) / 3)


def test_wrong_pairs_of_the_same_class_do_not_count():
    real, fake, sentence, fake_sentence = _discriminator_inputs()
    args = (Recorder(), real, fake, sentence, fake_sentence)
    loss = discriminator_loss(*args, class_ids=torch.tensor([1, 2, 2, 5]))
    logits = (real[:-1, :, 0, 0] * sentence[1:]).sum(1)
    torch.testing.assert_close(loss.wrong_conditional, _bce(logits[[0, 2]], 0.0))
    assert discriminator_loss(*args, class_ids=torch.zeros(4, dtype=torch.int64)).wrong_conditional == 0


def test_discriminator_loss_gives_no_gradient_to_the_generated_image():
    real, fake, sentence, fake_sentence = _discriminator_inputs()
    real.requires_grad_()
    fake.requires_grad_()
    discriminator_loss(Recorder(), real, fake, sentence, fake_sentence).total.backward()
    assert fake.grad is None


def test_discriminator_loss_refuses_a_batch_of_one():
    with pytest.raises(ValueError, match="larger batch"):
        discriminator_loss(Recorder(), *_discriminator_inputs(1))


def test_adversarial_losses_survive_large_logits_in_half_precision():
    image, sentence = torch.full((2, 3, 2, 2), -200.0).bfloat16().requires_grad_(), torch.ones(2, 3).bfloat16()
    loss = generator_adversarial(Recorder(), image, sentence)
    assert loss.total.dtype == torch.float32
    assert loss.total == 1200.0  # 600 a head: a sigmoid in half precision would have clamped it
    loss.total.backward()
    assert (image.grad[:, :, 0, 0] != 0).all()


def test_generator_adversarial_trains_through_the_real_discriminator():
    draw = torch.Generator().manual_seed(0)
    discriminator = Discriminator(64, width=4, sentence_dim=8)
    init_weights(discriminator, draw)
    fake = torch.randn(3, 3, 64, 64, generator=draw).requires_grad_()
    loss = generator_adversarial(discriminator, fake, torch.randn(3, 8, generator=draw))
    torch.testing.assert_close(loss.total, loss.conditional + loss.unconditional)
    loss.total.backward()
    assert fake.grad.abs().sum() > 0


def test_kl_loss_equals_torch_distributions():
    mu, logvar = _draw(4, 10), _draw(4, 10, seed=1)
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, torch.exp(logvar / 2)), torch.distributions.Normal(0.0, 1.0)
    ).mean()
    torch.testing.assert_close(kl_loss(mu, logvar), wanted)


@pytest.mark.parametrize("kept", [None, "some"])
def test_perceptual_loss_has_the_gradient_of_its_formula(kept):
    real, fake = (torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    keep = None if kept is None else torch.rand(2, 1, 8, 8) > 0.5
    assert torch.autograd.gradcheck(lambda fake: perceptual_loss(real.detach(), fake, keep), fake)
    low = fake.detach().bfloat16().requires_grad_()
    (gradient,) = torch.autograd.grad(perceptual_loss(real.detach().bfloat16(), low, keep), low)
    assert gradient.dtype == torch.bfloat16


def test_perceptual_loss_weights_positions():
    real, fake = _draw(2, 5, 4, 4), _draw(2, 5, 4, 4, seed=1)
    squared = (real - fake).square()
    torch.testing.assert_close(perceptual_loss(real, fake), 0.5 * F.mse_loss(fake, real))
    everywhere = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(perceptual_loss(real, fake, everywhere), perceptual_loss(real, fake))

    keep = torch.zeros(2, 1, 8, 8)
    keep[0, :, :2, :2] = 1.0  # the whole of one feature
    keep[1, :, 6, 6] = 1.0  # a quarter of another
    wanted = 0.5 * (squared[0, :, 0, 0].sum() + 0.25 * squared[1, :, 3, 3].sum()) / squared.numel()
    torch.testing.assert_close(perceptual_loss(real, fake, keep), wanted)
    assert perceptual_loss(real, fake, torch.zeros(2, 1, 8, 8)) == 0


# ------------------------------------------------------------ regions


def test_keep_mask_loss_is_least_at_the_mask():
    keep = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at_mask = torch.logit(keep).requires_grad_()
    loss = keep_mask_loss(at_mask, keep)
    (gradient,) = torch.autograd.grad(loss, at_mask)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)
    entropy = -(keep * keep.log() + (1 - keep) * (1 - keep).log()).mean()
    torch.testing.assert_close(loss, entropy)
    assert keep_mask_loss(at_mask.detach() + 1, keep) > loss
    assert keep_mask_loss(torch.full((1, 1, 1, 1), 1e4, dtype=torch.bfloat16), torch.zeros(1, 1, 1, 1)).isfinite()


def test_swaps_are_more_wrong_answers_for_their_photo_alone():
    random = torch.Generator().manual_seed(7)
    regions, code = torch.randn(3, 4, 2, 2, generator=random), torch.randn(3, 4, generator=random)
    words, wrong = torch.randn(3, 4, 5, generator=random), torch.randn(3, 2, 4, 5, generator=random)
    sentence, wrong_sentence = torch.randn(3, 4, generator=random), torch.randn(3, 2, 4, generator=random)
    padding = torch.arange(5) >= torch.tensor([5, 3, 4])[:, None]
    same = torch.tensor([[False, False], [True, False], [True, True]])

    def fit(photo: int, text: torch.Tensor, own: int) -> torch.Tensor:
        """By words_score of a single pair, whose own definition the loop over pairs tests."""
        return 10 * words_score(regions[photo : photo + 1], text[None, None], padding[own : own + 1])[0, 0]

    scores = torch.stack([torch.stack([fit(b, words[i], i) for i in range(3)]) for b in range(3)])
    more = torch.stack([torch.stack([fit(b, wrong[b, k], b) for k in range(2)]) for b in range(3)])
    wide = torch.cat([scores, more.masked_fill(same, float("-inf"))], 1)
    loss = words_loss(regions, words, padding, wrong_words=wrong, same=same)
    plain = words_loss(regions, words, padding)
    torch.testing.assert_close(loss.photo_to_text, F.cross_entropy(wide, torch.arange(3)))
    assert torch.equal(loss.text_to_photo, plain.text_to_photo) and loss.photo_to_text > plain.photo_to_text

    scores = 10 * F.cosine_similarity(code[:, None], sentence[None], dim=2)
    more = 10 * F.cosine_similarity(code[:, None], wrong_sentence, dim=2)
    wide = torch.cat([scores, more.masked_fill(same, float("-inf"))], 1)
    loss = sentence_loss(code, sentence, wrong_sentences=wrong_sentence, same=same)
    torch.testing.assert_close(loss.photo_to_text, F.cross_entropy(wide, torch.arange(3)))


def test_restoration_loss_is_the_mean_error_of_the_region():
    photo, edit = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8, requires_grad=True)
    region = torch.zeros(2, 1, 8, 8)
    region[0, :, 2:5, 3:7] = 1.0
    loss = restoration_loss(photo, edit, region)
    torch.testing.assert_close(loss, (edit - photo)[0, :, 2:5, 3:7].abs().mean())
    loss.backward()
    assert edit.grad[1].abs().max() == 0
    assert restoration_loss(photo, edit, torch.zeros(2, 1, 8, 8)) == 0


def test_palette_loss_is_of_colours_and_not_of_places():
    photo = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    region = torch.zeros(2, 1, 8, 8)
    region[0, :, 2:6, 2:6] = 1.0
    moved = photo.clone()
    moved[0, :, 2:6, 2:6] = photo[0, :, 2:6, 2:6].flip(1).transpose(1, 2)
    assert restoration_loss(photo, moved, region) > 0.1
    assert palette_loss(photo, moved, region) < 1e-6
    # All of one shade lighter: by the same along each line of colours, and by 0 along differences of two channels.
    lighter = (photo + 0.5).requires_grad_()
    loss = palette_loss(photo, lighter, region)
    torch.testing.assert_close(loss, torch.tensor(0.5 * (3 + 3**0.5) / 7))
    loss.backward()
    assert (lighter.grad[0, :, 2:6, 2:6] > 0).all() and lighter.grad[1].abs().max() == 0
    assert palette_loss(photo, lighter, torch.zeros(2, 1, 8, 8)) == 0
    # Where it is not known which half is red, half as red everywhere is no answer.
    half = torch.zeros(1, 3, 64, 64)
    half[:, 0, :, 32:] = 1.0
    everywhere, mirror = torch.zeros_like(half), half.flip(3)
    everywhere[:, 0] = 0.5
    whole = torch.ones(1, 1, 64, 64)
    assert palette_loss(half, everywhere, whole) > 0.2
    assert palette_loss(half, mirror, whole) < 0.01
    assert restoration_loss(half, everywhere, whole) == 0.5 * restoration_loss(half, mirror, whole)
    # A soft region, bf16, cells of 4 pixels: finite, and 0 for the photo itself.
    photo = (torch.rand(2, 3, 128, 128) * 2 - 1).bfloat16()
    edit = (photo * 0.5).requires_grad_()
    soft = torch.rand(2, 1, 128, 128)
    assert palette_loss(photo, photo, soft) == 0
    loss = palette_loss(photo, edit, soft)
    assert loss.dtype == torch.float32 and loss > 0
    loss.backward()
    assert torch.isfinite(edit.grad).all() and edit.grad.abs().sum() > 0
