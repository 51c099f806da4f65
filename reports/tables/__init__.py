"""The tables of a report: on the page, in the terminal, as Markdown."""
