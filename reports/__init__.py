"""Reports: statistics, tables, figures and one HTML file, from the stored tables of a run.

Nothing here imports torch, Ray or MLflow: a report can be built on a machine that has none of them.
"""
