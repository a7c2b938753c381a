from .contact_sheet import crops_sheet, sheet
from .demo import run_demo
from .heat_maps import bits_picture, heat_map
from .markdown import fill, table
from .plots import experiment_figure, growth_figure, study_figure
from .study_page import report_page, study_report

__all__ = [
    "bits_picture",
    "crops_sheet",
    "experiment_figure",
    "fill",
    "growth_figure",
    "heat_map",
    "report_page",
    "run_demo",
    "sheet",
    "study_figure",
    "study_report",
    "table",
]
