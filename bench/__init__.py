"""Measures minirq beside its peers and beside bare loops: bin/bench. Not part of the package."""
