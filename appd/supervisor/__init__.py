"""The supervisor: generations of workers, for systemd and for operators.

Nothing in here imports Twisted, ZConfig or hosted code, and nothing starts a thread.
"""
