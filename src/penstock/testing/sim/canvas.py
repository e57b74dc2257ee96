"""Lines, boxes and words on a page, written as SVG, or as PNG through Pillow (the extra `plot`). Coordinates are pixels from the top left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol
from xml.sax.saxutils import escape

from penstock.kit.errors import InvalidInput, Unavailable

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
FONT_SIZE = 12
SCALE = 2
"""PNG pixels per unit, so that thin lines stay thin."""


class Canvas(Protocol):
    """What a plot is drawn on."""

    def line(self, points: Sequence[Point], colour: str, width: float = 1.5, *, dashed: bool = False) -> None:
        """A line through the points."""
        ...

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled box."""
        ...

    def text(self, at: Point, text: str, anchor: Anchor = "start", colour: str = "#333333") -> None:
        """Words whose base line begins, is centred, or ends at the point."""
        ...

    def save(self, path: Path) -> None:
        """Writes the file."""
        ...


class SvgCanvas:
    """Text that any browser shows; the same drawing gives the same bytes."""

    def __init__(self, width: int, height: int) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="{FONT_SIZE}">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def line(self, points: Sequence[Point], colour: str, width: float = 1.5, *, dashed: bool = False) -> None:
        """One polyline."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'
        )

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """One rectangle."""
        self._parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
        )

    def text(self, at: Point, text: str, anchor: Anchor = "start", colour: str = "#333333") -> None:
        """Escaped."""
        self._parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
        )

    def save(self, path: Path) -> None:
        """UTF-8."""
        path.write_text("\n".join([*self._parts, "</svg>", ""]), encoding="utf-8")


class PngCanvas:
    """Raises Unavailable where Pillow is not installed."""

    def __init__(self, width: int, height: int) -> None:
        try:
            from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415  an extra
        except ImportError:
            raise Unavailable(
                "a plot as PNG needs Pillow, which is not installed",
                hint="pip install 'penstock[plot]', or name a file that ends in .svg",
            ) from None
        self._image = Image.new("RGB", (width * SCALE, height * SCALE), "#ffffff")
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(FONT_SIZE * SCALE)

    def line(self, points: Sequence[Point], colour: str, width: float = 1.5, *, dashed: bool = False) -> None:
        """Dashes are pieces of the straight line from the first point to the last."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        thick = max(1, round(width * SCALE))
        if not dashed:
            self._draw.line(scaled, fill=colour, width=thick, joint="curve")
            return
        (x0, y0), (x1, y1) = scaled[0], scaled[-1]
        pieces = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / (9 * SCALE)))
        for n in range(pieces):
            a, b = n / pieces, (n + 5 / 9) / pieces
            ends = [(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part) for part in (a, b)]
            self._draw.line(ends, fill=colour, width=thick)

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """Its right and lower edges are outside."""
        right, bottom = (left + width) * SCALE, (top + height) * SCALE
        self._draw.rectangle((left * SCALE, top * SCALE, right, bottom), fill=colour)

    def text(self, at: Point, text: str, anchor: Anchor = "start", colour: str = "#333333") -> None:
        """In Pillow's own font."""
        place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        self._draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=colour, font=self._font, anchor=place)

    def save(self, path: Path) -> None:
        """As PNG."""
        self._image.save(path, "PNG")


def canvas_for(path: Path, width: int, height: int) -> Canvas:
    """By the file's ending. Raises InvalidInput for another than .svg and .png, Unavailable without Pillow."""
    kinds: dict[str, type[SvgCanvas] | type[PngCanvas]] = {".svg": SvgCanvas, ".png": PngCanvas}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise InvalidInput(f"--plot: found {path.name!r}, expected a name that ends in .svg or .png")
    return kind(width, height)
