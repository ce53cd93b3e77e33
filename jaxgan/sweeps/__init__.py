"""Sweeps: a recipe with several seeds and options, trained in as few programs as they share.

`plan` says which members there are, `grouping` which of them share a program, `folder` what a
sweep's workdir holds, `running` trains it, and `results`, `table` and `chart` tell what came out.
"""
