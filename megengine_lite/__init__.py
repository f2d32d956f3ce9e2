"""megengine_lite."""
