"""The command line: one file a command, options in, results out, no logic."""
