"""What a run leaves behind: files whose names and columns other tools may rely on."""
