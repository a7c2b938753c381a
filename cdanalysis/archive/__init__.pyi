from .search import Archive, Match
from .sheet import match_page, match_sheet
from .store import Store

__all__ = ["Archive", "Match", "Store", "match_page", "match_sheet"]
