"""Pages, tables, plots and drawings of what was measured and predicted."""
