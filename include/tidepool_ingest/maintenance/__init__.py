"""Maintenance: unfinished uploads, later checks, old work areas, and a person's erasure."""
