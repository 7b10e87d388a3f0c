"""Feeds: one continuous data set for each user and client, never closed, fed batch by batch."""
