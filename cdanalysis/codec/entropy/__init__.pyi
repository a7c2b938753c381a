from .models import ContextModel, FactorizedPrior
from .partition import CheckerboardPartition
from .symbols import SymbolCoder
from .tables import gaussian_cdf_tables, logistic_mixture_cdf_tables
from .vector import VectorModel

__all__ = [
    "CheckerboardPartition",
    "ContextModel",
    "FactorizedPrior",
    "SymbolCoder",
    "VectorModel",
    "gaussian_cdf_tables",
    "logistic_mixture_cdf_tables",
]
