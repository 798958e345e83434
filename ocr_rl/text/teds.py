"""TEDS and TEDS-S: how alike two tables are, by the edit distance of their trees.

TEDS is 1 - distance / elements of the larger table (Zhong, ShafieiBavani and Jimeno Yepes, "Image-based table
recognition: data, model, and evaluation", arXiv:1911.10683; reference code: PubTabNet's `metric.py`). To delete or
insert a node costs 1, to rename one costs 1 where tag or spans differ, and for a `td` else the Levenshtein distance of
the contents over the longer one's length. TEDS-S (TEDS-Struct of the ICDAR 2021 competition) leaves the contents out.

The distance is exact, also where a cell is best paired with a row (Zhang and Shasha, 1989). What makes it fast: equal
subtrees at both ends of two forests are left out, with two equal roots only what is below them counts, cells are
compared all at once, and a node of one tree meets all nodes of a height of the other in one vector. Tables of more than
`MOST_PAIRS` pairs of nodes after that are paired by place, which never yields more than the true similarity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from ocr_rl.text.table_tree import Node, Tree, bare, tree, tree_of

__all__ = ["Node", "Tree", "distance", "similarity", "teds", "tree", "tree_of"]

MOST_PAIRS = 4_000_000  # of nodes (the distance matrix has 8 bytes each)
MOST_STEPS = 64_000_000  # of pairs of nodes counted once for each node above them: bounds the time of deep trees

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def teds(reference: str, candidate: str, *, structure_only: bool = False) -> float:
    """TEDS of the first table of each HTML text, in [0, 1]; TEDS-S if `structure_only`. 0 if a text has no table.

    Differences on purpose from the reference code: a table may stand anywhere in its text, two tables without any
    element are equal, and a distance of more than all elements counts 0, not less. Alike, and no good in a reward: a
    `th` has no text, and inline tags in cells count as elements of the table but cost at most their cell's 1, so a cell
    full of them comes near to 1. `tree_of` has neither.
    """
    a, b = tree(reference), tree(candidate)
    return similarity(a, b, structure_only=structure_only) if a and b else 0.0


def similarity(a: Tree, b: Tree, *, structure_only: bool = False) -> float:
    """TEDS of two trees, in [0, 1]; TEDS-S if `structure_only`. Symmetric; 1 exactly if what counts is equal."""
    most = max(a.num_elements, b.num_elements)
    if not most:
        return 1.0
    roots = (bare(a.root), bare(b.root)) if structure_only else (a.root, b.root)
    return max(0.0, 1 - distance(*roots) / most)


def distance(a: Node, b: Node) -> float:
    """The tree edit distance; more than it, never less, for trees above the module's bounds."""
    left, right = _different((a,), (b,))
    if not left or not right:
        return float(sum(map(_size, (*left, *right))))
    one, other = _Forest(left), _Forest(right)
    if one.steps > other.steps:
        one, other = other, one
    if len(one.nodes) * len(other.nodes) > MOST_PAIRS or one.steps * other.steps > MOST_STEPS:
        return _by_place(left, right)
    return _edit_distance(one, other)


def _different(a: Sequence[Node], b: Sequence[Node]) -> tuple[Sequence[Node], Sequence[Node]]:
    """Two forests without what is equal at their ends and without equal single roots: their distance is the same.

    Some best mapping keeps equal first (last) trees: by the order, only one of the two can have partners outside the
    other, and these partners are worth at most what keeping the two is worth. Likewise for two roots that cost 0.
    """
    while True:
        shorter = min(len(a), len(b))
        first = next((i for i in range(shorter) if a[i] != b[i]), shorter)
        last = next((i for i in range(shorter - first) if a[-1 - i] != b[-1 - i]), shorter - first)
        a, b = a[first : len(a) - last], b[first : len(b) - last]
        if len(a) != 1 or len(b) != 1 or _rename(a[0], b[0]):
            return a, b
        a, b = a[0].children, b[0].children


def _size(node: Node) -> int:
    return 1 + sum(map(_size, node.children))


def _rename(a: Node, b: Node) -> float:
    if a[:3] != b[:3]:
        return 1.0
    return Levenshtein.normalized_distance(a.content, b.content) if a.tag == "td" else 0.0


def _by_place(a: Sequence[Node], b: Sequence[Node]) -> float:
    """The cost of pairing the k-th tree with the k-th tree, and likewise below, where that is worth it."""
    cost = float(sum(map(_size, (*a[len(b) :], *b[len(a) :]))))
    for x, y in zip(a, b, strict=False):
        cost += _rename(x, y) + _by_place(*_different(x.children, y.children))
    return cost


# --- The exact distance of two forests ----------------------------------------------------------------------------


class _Forest:
    """Nodes in postorder: a subtree is a run that ends with its root."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.nodes: list[Node] = []
        self.low: list[int] = []  # of each node: the first node of its subtree
        self.by_height: defaultdict[int, list[int]] = defaultdict(list)  # 0: leaves
        for root in roots:
            self._add(root)

    def _add(self, node: Node) -> int:
        low = len(self.nodes)
        height = 1 + max((self._add(child) for child in node.children), default=-1)
        self.by_height[height].append(len(self.nodes))
        self.nodes.append(node)
        self.low.append(low)
        return height

    @property
    def inner_heights(self) -> list[int]:
        return sorted(self.by_height)[1:]

    @property
    def steps(self) -> int:
        """The sizes of all subtrees and of the forest together."""
        return len(self.nodes) + sum(i + 1 - low for i, low in enumerate(self.low))


class _Columns(NamedTuple):
    """Subtrees of one side next to each other: each a column for nothing, then one for its forest up to each node.

    Distances between forests are kept less a column's `lift`, which rises by 1 with each node and by a large number
    with each subtree. So the minimum over all columns to the left is one over those of the same subtree, with the nodes
    between inserted.
    """

    node: Ints  # the last node of the column's forest; for nothing the number of nodes, where no cost is finite
    before: Ints  # the column of the forest without its last tree
    lift: Floats
    gain: Floats  # the lift of `before` less this one
    start: Floats  # distances from nothing
    ends: Ints  # the last column of each subtree


def _columns(g: _Forest, low: Ints, high: Ints, most: int) -> _Columns:
    """Columns for runs of nodes, from low up to but not high, beside forests of up to `most` nodes."""
    width = high - low + 1
    first = np.cumsum(width) - width
    run = np.repeat(np.arange(len(low)), width)
    size = np.arange(len(run)) - first[run]
    node = np.where(size > 0, low[run] + size - 1, len(g.nodes))
    lows = np.array([*g.low, 0])
    before = first[run] + np.where(size > 0, lows[node] - low[run], 0)
    large = np.asarray(run * float(most + 1 + width.max()), dtype=np.float64)
    lift = large + size
    return _Columns(node, before, lift, lift[before] - lift, -large, first + width - 1)


def _edit_distance(f: _Forest, g: _Forest) -> float:
    """Zhang and Shasha's recurrence, from low subtrees to high ones and at last for the whole forests."""
    num_f, num_g = len(f.nodes), len(g.nodes)
    trees = np.full((num_f, num_g + 1), np.inf)  # rename costs at first, later distances of subtrees
    trees[:, :num_g] = _renames(f.nodes, g.nodes)
    _pair_leaves(trees, f, g)
    for height in g.inner_heights:
        roots = np.array(g.by_height[height])
        columns = _columns(g, np.array(g.low)[roots], roots + 1, num_f)
        first: dict[Node, int] = {}  # equal subtrees have the same distances
        for x in chain.from_iterable(f.by_height[height] for height in f.inner_heights):
            if (same := first.setdefault(f.nodes[x], x)) != x:
                trees[x, roots] = trees[same, roots]
                continue
            rows = _rows(trees, f, f.low[x], x, columns)
            below = columns.ends - 1
            trees[x, roots] += rows[-1][below] + columns.lift[below]
            row = _row(trees[x][columns.node] + columns.gain, rows[0], rows[-1], columns)
            trees[x, roots] = row[columns.ends] + columns.lift[columns.ends]
    columns = _columns(g, np.array([0]), np.array([num_g]), num_f)
    return float(_rows(trees, f, 0, num_f, columns)[-1][-1] + columns.lift[-1])


def _rows(trees: Floats, f: _Forest, low: int, high: int, columns: _Columns) -> list[Floats]:
    """Distances of the columns' forests from nothing and from the nodes low to i of the other side, for each i."""
    rows = [columns.start]
    costs = trees[low:high, columns.node] + columns.gain
    for i in range(low, high):
        rows.append(_row(costs[i - low], rows[f.low[i] - low], rows[-1], columns))
    return rows


def _row(costs: Floats, without_tree: Floats, without_node: Floats, columns: _Columns) -> Floats:
    """One row, from the costs of pairing its last tree with each column's, and rows without that tree and its root."""
    row = without_tree[columns.before]
    row += costs
    np.minimum(row, without_node + 1, out=row)
    return np.minimum.accumulate(row, out=row)


def _pair_leaves(trees: Floats, f: _Forest, g: _Forest) -> None:
    """The distance of a leaf from a subtree: the leaf is paired with the cheapest node, the others are inserted."""
    leaves = f.by_height[0]
    costs = trees[leaves]
    for y in chain.from_iterable(g.by_height[height] for height in g.inner_heights):
        trees[leaves, y] = y - g.low[y] + costs[:, g.low[y] : y + 1].min(axis=1)
    leaves = g.by_height[0]
    costs = trees[:, leaves]
    for x in chain.from_iterable(f.by_height[height] for height in f.inner_heights):
        trees[x, leaves] = x - f.low[x] + costs[f.low[x] : x + 1].min(axis=0)


def _renames(a: Sequence[Node], b: Sequence[Node]) -> Floats:
    labels: dict[tuple[str, int, int], int] = {}
    label_a, label_b = (np.array([labels.setdefault(x[:3], len(labels)) for x in nodes]) for nodes in (a, b))
    differ = label_a[:, None] != label_b[None, :]
    costs = differ.astype(np.float64)
    cells_a, cells_b = ([i for i, node in enumerate(nodes) if node.tag == "td"] for nodes in (a, b))
    if cells_a and cells_b:
        cells = np.ix_(cells_a, cells_b)
        costs[cells] = np.maximum(costs[cells], _contents([a[i] for i in cells_a], [b[i] for i in cells_b]))
    return costs


def _contents(a: Sequence[Node], b: Sequence[Node]) -> Floats:
    """Normalised Levenshtein distances of contents; each pair of texts is compared once."""
    texts_a, texts_b = ({text: k for k, text in enumerate(dict.fromkeys(x.content for x in cells))} for cells in (a, b))
    found = cdist(list(texts_a), list(texts_b), scorer=Levenshtein.normalized_distance, dtype=np.float64)
    return found[np.ix_([texts_a[x.content] for x in a], [texts_b[x.content] for x in b])]
