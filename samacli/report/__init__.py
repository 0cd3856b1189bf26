from pathlib import Path

REPORT_FILE = "report.html"


def build_report(directory: Path) -> Path:
    return directory
