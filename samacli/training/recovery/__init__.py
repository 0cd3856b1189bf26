"""What it takes to go on where a training run was cut off, to the bit, and to survive a bad step.

`FitState` gathers all that a run of the loop changes; `Checkpoints` saves and restores it;
`interruptible` turns signals into a request; `halving` takes a batch in parts when memory is short.
"""
