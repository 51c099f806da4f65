"""How much of a named colour a picture shows: the smallest scorer, without weights."""

NAME = "colours"
SCALE = "mean of the named channels less that of the others, -1 to 1"
LIMITS = (-1.0, 1.0)
CHANNELS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1)}


def score(pictures, prompts):
    return [_agreement(*pair) for pair in zip(pictures, prompts, strict=True)]


def _agreement(picture, prompt):
    named = [CHANNELS[word] for word in prompt.lower().split() if word in CHANNELS]
    wanted = [max(column) for column in zip(*named, strict=True)] or [0, 0, 0]
    shares = [_mean(channel) for channel in picture.split()]
    signs = [1 if want else -1 for want in wanted]
    return sum(sign * share for sign, share in zip(signs, shares, strict=True)) / 3


def _mean(channel):
    histogram = channel.histogram()
    return sum(k * count for k, count in enumerate(histogram)) / (255 * sum(histogram))
