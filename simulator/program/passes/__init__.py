"""Lowering passes, one file each: every pass is a function Program -> Program."""
