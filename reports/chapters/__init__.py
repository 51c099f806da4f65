"""One module per chapter of the page; see `reports.chapter`."""
