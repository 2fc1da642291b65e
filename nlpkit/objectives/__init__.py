"""Objectives: tasks whose labels come from the text itself."""
