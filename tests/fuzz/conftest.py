"""The targets build on the observers of the wire's tests."""

import sys
from pathlib import Path

GATEWAY = Path(__file__).parents[1] / "gateway"
sys.path[:0] = [str(GATEWAY / "wire"), str(GATEWAY)]
