"""How fast kernels of finite networks tend to those of infinite width, and the Gram matrix of equilibria to its limit.

    python scripts/finite_width.py --out figures/finite-width

draws the distance against the width, for the CK and both NTKs of some DEQs (true Jacobians, by implicit
differentiation) and for ZᵀZ/m of the over-parameterised DEQ; slope -1/2 is what the central limit theorem gives.
"""

from __future__ import annotations

import sys

from rmtdeq.cli import program

if __name__ == "__main__":
    sys.exit(program("finite-width", "figures/finite-width", __doc__))
