"""The row filters of PNG, forwards and back (PNG specification, section 9).

Plain Python that numba compiles. A row of an image begins with the number of its filter; its
bytes are differences from a prediction of the bytes to the left, above, and above to the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# indexes that are known not to be negative: numba leaves out the wrap-around
from numpy import uint64 as unsigned

# numbers of the filters; 0 predicts nothing
SUB = 1
UP = 2
AVERAGE = 3
PAETH = 4


def undo_filters(rows: Any, step: int) -> int:
    """Replace the differences in `rows` by the bytes of the pixels.

    `rows` is uint8, (1 + height, 1 + bytes of a row): a row of zeros, then those of the image,
    each behind its filter. `step` is the bytes of a pixel, which divide those of a row.
    Returns 0, or the first row with a filter that does not exist.
    """

    def sub(left: int, up: int, corner: int) -> int:
        return left

    def average(left: int, up: int, corner: int) -> int:
        return (left + up) >> 1

    def paeth(left: int, up: int, corner: int) -> int:
        # whichever of the three is nearest to left + up - corner, told without the distances
        edge = 3 * corner - up - left
        low = min(left, up)
        high = max(left, up)
        best = low if high <= edge else corner
        return high if edge <= low else best

    def one(rows: Any, r: int, step: int, predict: Any) -> None:
        this, over = unsigned(r), unsigned(r - 1)
        for lane in range(1, step + 1):
            left = np.int64(0)
            corner = np.int64(0)
            for i in range(lane, rows.shape[1], step):
                up = np.int64(rows[over, unsigned(i)])
                left = (predict(left, up, corner) + rows[this, unsigned(i)]) & 255
                rows[this, unsigned(i)] = left
                corner = up

    # Each byte waits for the one before it. The next row follows a pixel behind, so that the
    # processor always has two bytes to work on.
    def two(rows: Any, r: int, step: int, predict: Any, predict_below: Any) -> None:
        this, over, below = unsigned(r), unsigned(r - 1), unsigned(r + 1)
        width = rows.shape[1]
        for lane in range(1, step + 1):
            corner = np.int64(rows[over, unsigned(lane)])
            left = (predict(np.int64(0), corner, np.int64(0)) + rows[this, unsigned(lane)]) & 255
            rows[this, unsigned(lane)] = left
            left_below = np.int64(0)
            corner_below = np.int64(0)
            for i in range(lane + step, width, step):
                behind = unsigned(i - step)
                up = np.int64(rows[over, unsigned(i)])
                predicted = predict_below(left_below, left, corner_below)
                left_below = (predicted + rows[below, behind]) & 255
                corner_below = left
                left = (predict(left, up, corner) + rows[this, unsigned(i)]) & 255
                corner = up
                rows[this, unsigned(i)] = left
                rows[below, behind] = left_below
            last = unsigned(width - 1 - step + lane)
            predicted = predict_below(left_below, left, corner_below)
            rows[below, last] = (predicted + rows[below, last]) & 255

    height, width = rows.shape
    r = 1
    while r < height:
        kind = rows[r, 0]
        after = rows[r + 1, 0] if r + 1 < height else 0
        paired = kind in (AVERAGE, PAETH) and after in (AVERAGE, PAETH)
        if kind == SUB:
            one(rows, r, step, sub)
        elif kind == UP:
            for i in range(1, width):
                rows[unsigned(r), unsigned(i)] += rows[unsigned(r - 1), unsigned(i)]
        elif kind == AVERAGE:
            if not paired:
                one(rows, r, step, average)
            elif after == AVERAGE:
                two(rows, r, step, average, average)
            else:
                two(rows, r, step, average, paeth)
        elif kind == PAETH:
            if not paired:
                one(rows, r, step, paeth)
            elif after == AVERAGE:
                two(rows, r, step, paeth, average)
            else:
                two(rows, r, step, paeth, paeth)
        elif kind:
            return r
        r += 2 if paired else 1
    return 0


def apply_filters(pixels: Any, step: int, rows: Any) -> None:
    """Set `rows` to the rows of an image, each behind the filter that suits it best.

    `pixels` is uint8, (1 + height, step + bytes of a row): a row of zeros above the image and a
    pixel of zeros, `step` bytes, before each row. `rows` is uint8, (height, 1 + bytes of a row).

    The best filter is the one with the least sum of differences, as signed bytes without their
    signs; the first of several. libpng chooses so, too.
    """
    height, width = unsigned(rows.shape[0]), unsigned(rows.shape[1] - 1)
    one, gap = unsigned(1), unsigned(step)
    tried = np.empty((5, width), np.uint8)
    for r in range(height):
        for at in range(width):
            tried[0, at] = pixels[r + one, at + gap]
        for at in range(width):
            tried[SUB, at] = pixels[r + one, at + gap] - pixels[r + one, at]
        for at in range(width):
            tried[UP, at] = pixels[r + one, at + gap] - pixels[r, at + gap]
        for at in range(width):
            both = np.uint16(pixels[r + one, at]) + np.uint16(pixels[r, at + gap])
            tried[AVERAGE, at] = pixels[r + one, at + gap] - np.uint8(both >> 1)
        for at in range(width):  # small types: more of them at a time
            left = np.int16(pixels[r + one, at])
            up = np.int16(pixels[r, at + gap])
            corner = np.int16(pixels[r, at])
            edge = np.int16(3 * corner - left - up)
            low = min(left, up)
            high = max(left, up)
            best = low if high <= edge else corner
            best = high if edge <= low else best
            tried[PAETH, at] = pixels[r + one, at + gap] - np.uint8(best)
        kind = 0
        least = np.int64(-1)
        for k in range(5):
            total = np.uint32(0)  # enough for rows of 32 MB
            for at in range(width):
                value = tried[k, at]
                total = np.uint32(total + np.uint32(min(value, np.uint8(np.uint8(0) - value))))
            if k == 0 or total < least:
                kind, least = k, np.int64(total)
        rows[r, 0] = kind
        for at in range(width):
            rows[r, at + one] = tried[kind, at]
