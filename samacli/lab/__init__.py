"""The laboratory: benchmarks and tables, for those who measure samacli itself."""
