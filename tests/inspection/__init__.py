"""Inspecting data files before they are staged."""
