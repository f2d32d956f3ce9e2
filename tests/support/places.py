"""Where things are in the checkout."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
"""The checkout: sources, pages, tools."""
SHARED_MODELS = ROOT.parent / "shared" / "models"
"""The shared model collection; tests that read it are skipped where it is absent."""
