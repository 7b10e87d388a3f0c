"""Feeds: one continuous data set for each user and client, never closed, filled batch by batch."""
