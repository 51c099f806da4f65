"""The figures of a report, as SVG that goes into the page."""
