"""Runs a plan with torch and measures it; the only package that imports torch."""
