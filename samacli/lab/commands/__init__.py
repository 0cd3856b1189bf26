"""The commands of the laboratory: `sama bench` and `sama table`."""
