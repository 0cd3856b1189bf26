"""What a run leaves on the disk on its way, and how its output appears: whole or not at all."""
