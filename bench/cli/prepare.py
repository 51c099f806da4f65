"""`bench prepare`: what is made of a data set once, latents to train on and moments to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(
    no_args_is_help=True, help="Encode a data set, or measure its features, once and for all."
)

Pictures = Annotated[Path, typer.Argument(help="Folder of pictures; sub-folders are classes.")]


@group.command("latents", epilog="bench prepare latents imagenet/train --to imagenet-latents")
def latents(
    folder: Pictures,
    to: Annotated[Path, typer.Option("--to", help="Folder of the shards.")],
    autoencoder: Annotated[
        Path | None,
        typer.Option("--autoencoder", help="Its folder; default: the prefetched sd-vae-ft-mse."),
    ] = None,
    side: Annotated[int, typer.Option("--side", min=8, help="Pixels of the square.")] = 256,
    shard: Annotated[int, typer.Option("--shard", min=1, help="Pictures per file.")] = 4096,
) -> None:
    """Encode the middle squares of all pictures; the same command goes on where it was stopped."""
    from bench.models.external import locate
    from bench.reading.encoding import encode_folder

    def progress(done: int, total: int) -> None:
        typer.echo(f"shard {done} of {total}", err=True)

    folder_of_code = autoencoder or locate("sd-vae-ft-mse").parent
    made = encode_folder(folder, folder_of_code, to, side, shard, progress)
    typer.echo(
        f"{made.pictures:,} pictures of {len(made.classes)} classes in {made.shards} shards: {to}"
    )


@group.command("statistics", epilog="bench prepare statistics imagenet/val --to val.safetensors")
def statistics(
    folder: Pictures,
    to: Annotated[Path, typer.Option("--to", help="File of the moments.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="Features, as in bench evaluate.")
    ] = "inception-clean",
    weights: Annotated[str, typer.Option("--weights", help="Path of the encoder's weights.")] = "",
) -> None:
    """Mean and covariance of the features of all pictures, in float64, one block at a time.

    The same command goes on where it was stopped.
    """
    from bench.metrics.encoders import encoder as encoder_of
    from bench.metrics.running import counted, write_moments
    from bench.reading.folder import contents, listing
    from bench.reading.picture import read_pictures

    found, named = encoder_of(encoder, weights), contents(folder)
    said = {"encoder": found.name, "weights": found.weights, "version": found.version}
    moments = counted(
        named.pictures,
        lambda pictures: found.blocks(read_pictures(pictures)),
        found.dimension,
        to.with_name(f"{to.name}.counted"),
        {**said, "pictures": listing(folder, named.pictures)},
    )
    write_moments(to, moments, said)
    typer.echo(f"{moments.n:,} pictures, {found.dimension} features of {found.name}: {to}")
