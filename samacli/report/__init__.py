"""What a finished run's files tell: the report, runs side by side, one row explained."""

from samacli.report.page import REPORT_FILE, build_report

__all__ = ["REPORT_FILE", "build_report"]
