"""What came out of Tidepool: which of its two exports a file is, and how one is cleaned.

Its reader is in a module of its own: whoever only asks whether a file is an export need not load it.
"""
