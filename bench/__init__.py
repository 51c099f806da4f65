"""tiltbench: alignment methods for flow and diffusion models at equal measured compute."""
