"""Maintenance: unfinished uploads, later checks, old work areas, and the erasure of a person's data."""
