"""What the commands do, whole: recipe in, results out."""
