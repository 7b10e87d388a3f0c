"""Looking at data files before they are staged: ``inspecting`` does it, ``findings`` is what comes of it."""
