from .contact_sheet import crops_sheet, sheet
from .demo import run_demo
from .markdown import fill, table
from .plots import experiment_figure, growth_figure, study_figure
from .predictions import described, drawn, summary
from .study_page import report_page, study_report

__all__ = [
    "crops_sheet",
    "described",
    "drawn",
    "experiment_figure",
    "fill",
    "growth_figure",
    "report_page",
    "run_demo",
    "sheet",
    "study_figure",
    "study_report",
    "summary",
    "table",
]
