"""Run folders: what runs and starts have left there, as tables and as a page."""
