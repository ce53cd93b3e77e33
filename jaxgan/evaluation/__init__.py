"""How samples of some data are measured: a `Kind` for each sort of data, and what images need."""
