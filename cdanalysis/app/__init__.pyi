from .page import new_page
from .view import Photograph, View

__all__ = ["Photograph", "View", "new_page"]
