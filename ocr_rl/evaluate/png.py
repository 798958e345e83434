"""A matplotlib figure as the bytes of a PNG, the same bytes for the same figure."""

from __future__ import annotations

import io


def as_png(figure) -> bytes:  # type: ignore[no-untyped-def]
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
