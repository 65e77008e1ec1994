r"""Late training: loss and norm under gradient flow once every example is fitted.

Along a direction in which grad f is parallel to theta, a network of degree k has f = g rho^k,
rho = ||theta||. Gradient flow on L = exp(-f) moves its margin s = f at the speed

    v(s) = ds/dt = exp(-s) (df/drho)^2 = k^2 g^(2/k) s^(2 - 2/k) exp(-s),

and since d(1/v)/ds = (1 + (2/k - 2)/s) / v, the time is 1/v, up to a factor 1 + O(1/s):

    L = exp(-s) ~ 1 / (k^2 g^(2/k) t (log t)^(2 - 2/k)),    rho ~ (log(t) / g)^(1/k).

Source: Lyu and Li (2020) for the rates Theta(...); the constants are derived here. The
independent check integrates torch's gradients, in verify/catalogue/late_time.py.
"""

import sympy as sp

s, g, rho = sp.symbols("s g rho", positive=True)


def margin_speed(k: int) -> sp.Expr:
    """Return v(s) = ds/dt for a network of degree k.

    >>> margin_speed(1)
    g**2*exp(-s)
    """
    slope = sp.diff(g * rho**k, rho) ** 2
    return sp.exp(-s) * sp.powsimp(slope.subs(rho, (s / g) ** sp.Rational(1, k)))


def remainder(k: int) -> sp.Expr:
    """Return a in d(1/v)/ds = (1 + a/s)/v: by how much the time is not 1/v.

    >>> remainder(2)
    -1
    """
    v = margin_speed(k)
    return sp.simplify(s * (sp.diff(1 / v, s) * v - 1))
