"""Formulas as small trees with two printers: LaTeX for the reference and Typst for the page. Trees are drawn at random.

Both printers print the same tree, so the LaTeX is true of the page by construction. Knows nothing about pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Leaf:
    """One symbol, number or word."""

    tex: str
    typ: str


@dataclass(frozen=True, slots=True)
class Node:
    """A construction of parts. `kind` is `row`, a key of FORMS, or a key of _ARRAYS, whose parts are rows."""

    kind: str
    parts: tuple[Formula, ...]


Formula = Leaf | Node

# kind -> (LaTeX, Typst). The numbers stand for the parts.
FORMS: dict[str, tuple[str, str]] = {
    "frac": (r"\frac{{{0}}}{{{1}}}", "frac({0}, {1})"),
    "sqrt": (r"\sqrt{{{0}}}", "sqrt({0})"),
    "root": (r"\sqrt[{0}]{{{1}}}", "root({0}, {1})"),
    "sub": (r"{0}_{{{1}}}", "{0}_({1})"),
    "sup": (r"{0}^{{{1}}}", "{0}^({1})"),
    "both": (r"{0}_{{{1}}}^{{{2}}}", "{0}_({1})^({2})"),
    "paren": (r"\left( {0} \right)", "lr(( {0} ))"),
    "norm": (r"\left\| {0} \right\|", "norm({0})"),
    "abs": (r"\left| {0} \right|", "abs({0})"),
    "hat": (r"\hat{{{0}}}", "hat({0})"),
    "bar": (r"\bar{{{0}}}", "macron({0})"),
    "tilde": (r"\tilde{{{0}}}", "tilde({0})"),
    "vec": (r"\vec{{{0}}}", "arrow({0})"),
    "dot": (r"\dot{{{0}}}", "dot({0})"),
}
# kind -> opening and closing in LaTeX, opening and closing in Typst, separators of cells and of rows in Typst
_ARRAYS: dict[str, tuple[str, str, str, str, str, str]] = {
    "matrix": (r"\begin{pmatrix} ", r" \end{pmatrix}", "mat(", ")", ", ", "; "),
    "cases": (r"\begin{cases} ", r" \end{cases}", "cases(", ")", " & ", ", "),
    "aligned": (r"\begin{aligned} ", r" \end{aligned}", "", "", " &", r" \ "),
}


def to_latex(formula: Formula) -> str:
    if isinstance(formula, Leaf):
        return formula.tex
    if formula.kind == "row":
        return " ".join(map(to_latex, formula.parts))
    if formula.kind in _ARRAYS:
        opening, closing = _ARRAYS[formula.kind][:2]
        return opening + r" \\ ".join(" & ".join(map(to_latex, _cells(row))) for row in formula.parts) + closing
    return FORMS[formula.kind][0].format(*map(to_latex, formula.parts))


def to_typst(formula: Formula) -> str:
    if isinstance(formula, Leaf):
        return formula.typ
    if formula.kind == "row":
        return " ".join(map(to_typst, formula.parts))
    if formula.kind in _ARRAYS:
        _, _, opening, closing, between, after = _ARRAYS[formula.kind]
        return opening + after.join(between.join(map(to_typst, _cells(row))) for row in formula.parts) + closing
    return FORMS[formula.kind][1].format(*map(to_typst, formula.parts))


def leaves(formula: Formula) -> Iterator[Leaf]:
    if isinstance(formula, Leaf):
        yield formula
    else:
        for part in formula.parts:
            yield from leaves(part)


def with_another_symbol(formula: Formula, rng: Random) -> Formula | None:
    """The same formula with one letter or number replaced by a letter that it does not hold; None if it has neither."""
    held = {leaf.tex for leaf in leaves(formula)}
    places = [k for k, leaf in enumerate(leaves(formula)) if leaf in LETTERS or leaf.tex.isdigit()]
    if not places:
        return None
    place = rng.choice(places)
    new = rng.choice([leaf for leaf in _PLAIN if leaf.tex not in held])
    count = iter(range(len(held) + 10_000))

    def rebuilt(part: Formula) -> Formula:
        if isinstance(part, Leaf):
            return new if next(count) == place else part
        return Node(part.kind, tuple(map(rebuilt, part.parts)))

    return rebuilt(formula)


def _cells(row: Formula) -> tuple[Formula, ...]:
    assert isinstance(row, Node)
    return row.parts


# --- drawing ----------------------------------------------------------------------------------------------------------


def _greek(*names: str) -> tuple[Leaf, ...]:
    return tuple(Leaf(f"\\{name}", name) for name in names)


_PLAIN = tuple(Leaf(c, c) for c in "abcdefghkmnpqrstuvwxyzABCDEFGHKLMNPQRSTUVWXYZ")
_GREEK = _greek("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "omega")
_CAPITALS = _greek("Gamma", "Delta", "Lambda", "Phi", "Psi", "Omega")
LETTERS = frozenset((*_PLAIN, *_GREEK, *_CAPITALS))
_RELATIONS = (
    *[Leaf("=", "=")] * 5,
    Leaf(r"\leq", "<="),
    Leaf(r"\geq", ">="),
    Leaf("<", "<"),
    Leaf(r"\approx", "approx"),
)
_SIGNS = (*[Leaf("+", "+")] * 3, *[Leaf("-", "-")] * 3, Leaf(r"\cdot", "dot.op"), Leaf(r"\times", "times"))
_FUNCTIONS = tuple(Leaf(f"\\{name}", name) for name in ("sin", "cos", "exp", "log", "tan"))
_EQUALS, _PLUS, _MINUS = Leaf("=", "="), Leaf("+", "+"), Leaf("-", "-")
_SUM, _PROD, _INTEGRAL = Leaf(r"\sum", "sum"), Leaf(r"\prod", "product"), Leaf(r"\int", "integral")
_INFINITY, _TO, _DOTS = Leaf(r"\infty", "infinity"), Leaf(r"\to", "->"), Leaf(r"\dots", "dots.h")
_PARTIAL, _LIM, _IN = Leaf(r"\partial", "partial"), Leaf(r"\lim", "lim"), Leaf(r"\in", "in")


def row(*parts: Formula) -> Node:
    return Node("row", parts)


def letter(rng: Random) -> Leaf:
    return rng.choice(_GREEK if rng.random() < 0.3 else _PLAIN)


def number(rng: Random) -> Leaf:
    digits = str(rng.choice((rng.randint(2, 9), rng.randint(2, 9), rng.randint(10, 99))))
    return Leaf(digits, digits)


def atom(rng: Random) -> Formula:
    """A number or a letter; the letter may have an accent, an index or a power."""
    base, draw = letter(rng), rng.random()
    if draw < 0.12:
        return number(rng)
    if draw < 0.24:
        return Node("sub", (base, rng.choice((letter(rng), number(rng)))))
    if draw < 0.40:
        return Node("sup", (base, rng.choice((number(rng), letter(rng)))))
    if draw < 0.50:
        return Node(rng.choice(("hat", "bar", "tilde", "vec", "dot")), (base,))
    if draw < 0.54:
        return Node("both", (base, letter(rng), number(rng)))
    return base


def expression(rng: Random, depth: int = 2) -> Formula:
    if depth == 0 or rng.random() < 0.25:
        return atom(rng)
    inner = lambda: expression(rng, depth - 1)
    draw = rng.random()
    if draw < 0.34:
        return row(inner(), rng.choice(_SIGNS), inner())
    if draw < 0.54:
        return Node("frac", (inner(), inner()))
    if draw < 0.62:
        return Node("sqrt", (inner(),))
    if draw < 0.66:
        return Node("root", (number(rng), atom(rng)))
    if draw < 0.78:
        return row(rng.choice(_FUNCTIONS), Node("paren", (inner(),)))
    if draw < 0.88:
        return row(atom(rng), Node("paren", (row(inner(), rng.choice((_PLUS, _MINUS)), atom(rng)),)))
    return Node("sup", (Node("paren", (row(atom(rng), rng.choice((_PLUS, _MINUS)), atom(rng)),)), number(rng)))


def inline(rng: Random) -> Formula:
    """A formula short enough for a line of text."""
    return row(atom(rng), rng.choice(_RELATIONS), expression(rng, 1)) if rng.random() < 0.7 else expression(rng, 1)


def _series(rng: Random) -> Formula:
    index = rng.choice([leaf for leaf in _PLAIN if leaf.tex in "kmnp"])
    end = rng.choice((_INFINITY, Leaf("N", "N"), number(rng)))
    start = Leaf(*2 * (rng.choice("01"),))
    term = Node("frac", (Node("sup", (letter(rng), index)), expression(rng, 1)))
    return row(
        atom(rng), _EQUALS, Node("both", (rng.choice((_SUM, _SUM, _PROD)), row(index, _EQUALS, start), end)), term
    )


def _integral(rng: Random) -> Formula:
    x = letter(rng)
    low, high = rng.choice(((Leaf("0", "0"), _INFINITY), (letter(rng), letter(rng)), (Leaf("0", "0"), number(rng))))
    return row(Node("both", (_INTEGRAL, low, high)), expression(rng, 1), Leaf("d", "d"), x, _EQUALS, expression(rng, 1))


def _matrix(rng: Random) -> Formula:
    rows, columns = rng.choice(((2, 2), (3, 3), (2, 3), (3, 1)))
    cells = tuple(row(*(rng.choice((number, letter, letter))(rng) for _ in range(columns))) for _ in range(rows))
    return row(rng.choice(_CAPITALS + _PLAIN[-8:]), _EQUALS, Node("matrix", cells))


def _cases(rng: Random) -> Formula:
    x = letter(rng)
    tests = ((Leaf(">", ">"), number(rng)), (Leaf(r"\leq", "<="), number(rng)))
    word = Leaf(r"\text{if }", '"if "')
    rows = tuple(row(expression(rng, 1), row(word, x, sign, value)) for sign, value in tests)
    return row(Leaf(*2 * (rng.choice("fgh"),)), Node("paren", (x,)), _EQUALS, Node("cases", rows))


def _aligned(rng: Random) -> Formula:
    first = row(atom(rng), row(_EQUALS, expression(rng, 2)))
    more = [row(Leaf("", ""), row(rng.choice(_RELATIONS), expression(rng, 1))) for _ in range(rng.randint(1, 2))]
    return Node("aligned", (first, *more))


def _limit(rng: Random) -> Formula:
    x = letter(rng)
    below = row(x, _TO, rng.choice((_INFINITY, Leaf("0", "0"), number(rng))))
    return row(Node("sub", (_LIM, below)), expression(rng, 2), _EQUALS, atom(rng))


def _derivative(rng: Random) -> Formula:
    f, x = letter(rng), letter(rng)
    first = Node("frac", (row(_PARTIAL, f), row(_PARTIAL, x)))
    return row(first, _EQUALS, expression(rng, 2))


def _norm(rng: Random) -> Formula:
    return row(Node(rng.choice(("norm", "abs")), (expression(rng, 1),)), rng.choice(_RELATIONS), expression(rng, 2))


def _plain(rng: Random) -> Formula:
    return row(atom(rng), rng.choice(_RELATIONS), expression(rng, 3))


_DISPLAYS: tuple[Callable[[Random], Formula], ...] = (
    _series,
    _integral,
    _matrix,
    _cases,
    _aligned,
    _limit,
    _derivative,
    _norm,
    _plain,
    _plain,
)


def display(rng: Random) -> Formula:
    """A formula that stands on a line of its own."""
    return rng.choice(_DISPLAYS)(rng)
