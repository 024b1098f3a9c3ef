"""The stories, one a module."""
