"""`jaxgan doctor`: a page on this machine and on what it advises, to be pasted into a report.

`gathering` looks, `advice` judges what was found, and `page` prints both. Nothing here imports JAX
into this process, and no user, host or address is named. `python -m jaxgan.doctor` is the same.
"""
