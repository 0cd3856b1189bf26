"""`python -m samacli`: what torchrun and `accelerate launch` start."""

from samacli.cli import main

main()
