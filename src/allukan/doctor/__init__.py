"""What is installed, what computes the shared spline here, and whether it computes it right.

Nothing is imported from here: ``packages`` must work where torch is missing.
"""
