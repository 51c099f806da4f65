"""What of a prompt an encoder does not read is counted, and `bench evaluate` says it."""

import types

from bench.cli.evaluate_prompts import Said, reading_note


def test_tokens_beyond_the_77_of_clip_are_counted():
    from bench.models.clip import tokenizer, tokens_cut

    words = "cat " * 75  # with the marks of start and end, 77 tokens
    assert tokens_cut("ViT-B-32", words) == 0
    assert tokens_cut("ViT-B-32", words + "dog hen") == 2
    tokens = tokenizer("ViT-B-32")
    assert (tokens([words + "dog"]) == tokens([words + "hen"])).all()  # so they score alike


def test_every_reward_that_reads_a_prompt_counts(tmp_path):
    from rewards.clip_scores import CLIPScore, HPSv2, PickScore
    from rewards.combine import WeightedSum
    from rewards.image_reward import LONGEST_PROMPT, ImageReward, token_ids

    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog"]))
    weights = tmp_path / "weights.pt"
    weights.touch()
    blip = ImageReward.create(weights=str(weights), vocabulary=str(vocabulary))
    assert blip.tokens_cut("cat " * (LONGEST_PROMPT - 2)) == 0
    assert blip.tokens_cut("cat " * LONGEST_PROMPT) == 2
    kept = token_ids("cat " * 90, vocabulary)[0].tolist()
    assert kept == [2, *[5] * (LONGEST_PROMPT - 2), 3]
    for reward in (CLIPScore, HPSv2, PickScore):
        assert reward.create().tokens_cut("cat " * 80) == 5
        assert reward.create(prompt="cat").tokens_cut("cat " * 80) == 0
    both = WeightedSum.create(rewards=("clip", "jpeg-compressibility", "pickscore"))
    assert both.tokens_cut("cat " * 80) == 5


def test_the_row_says_what_is_cut():
    def cut(prompt):
        return max(0, len(prompt.split()) - 3)

    reward = types.SimpleNamespace(tokens_cut=cut, params=None)
    said = Said(("a b c", "a b c d", "a b c d e f"), "prompts.txt")
    assert reading_note(reward, said).startswith("2 of 3 prompts are longer than the encoder reads")
    assert "up to 3 tokens of one are cut, 4 in all" in reading_note(reward, said)
    assert reading_note(reward, Said(("a b c",), "")) == ""
    assert reading_note(types.SimpleNamespace(params=None), said) == ""
    own = types.SimpleNamespace(tokens_cut=cut, params=types.SimpleNamespace(prompt="a cat"))
    assert "its own prompt=a cat" in reading_note(own, said)
