"""A reward of one's own, in a file that imports nothing: its source decides the cell id."""


def brightness(pixels, prompts):
    """The mean of pictures (n, 3, height, width), with a gradient."""
    return pixels.mean((1, 2, 3))
