"""A real browser without a window: what it makes of a page, as text and as a picture."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabfile.lab.engine import apt_install, is_debian, root_prefix

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DARK = "--blink-settings=preferredColorScheme=0"
MEASURE = """
<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
addEventListener("load", () => {
  const outside = [], overlapping = [];
  for (const svg of document.querySelectorAll("svg")) {
    const room = svg.getBoundingClientRect(), boxes = [];
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect(), said = text.textContent;
      if (!box.width) continue;
      if (box.left < room.left - 1 || box.right > room.right + 1 || box.top < room.top - 1
          || box.bottom > room.bottom + 1) outside.push(said);
      for (const [other, name] of boxes)
        if (box.left < other.right && other.left < box.right && box.top < other.bottom - 1
            && other.top < box.bottom - 1) overlapping.push([name, said]);
      boxes.push([box, said]);
    }
  }
  const page = document.documentElement;
  const found = document.createElement("pre");
  found.id = "measured";
  found.textContent = JSON.stringify({
    errors, outside, overlapping,
    texts: document.querySelectorAll("svg text").length,
    wide: page.scrollWidth - page.clientWidth,
    requests: performance.getEntriesByType("resource").map(entry => entry.name),
  });
  document.body.append(found);
});
</script>
"""


def find() -> str:
    """A browser; installed where that is in our power. Empty: there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), "")
    root = root_prefix()
    if not found and root is not None and is_debian():
        apt_install(root, "chromium")
        found = shutil.which("chromium") or ""
    return found


@dataclass
class Browser:
    """One browser with a profile of its own, under ``folder``."""

    program: str
    folder: Path

    def run(self, page: Path, *flags: str) -> str:
        argv = [self.program, *FLAGS, f"--user-data-dir={self.folder}/profile", *flags]
        done = subprocess.run(
            [*argv, page.as_uri()], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def measured(self, page: Path, width: int) -> dict[str, Any]:
        """What a script finds that is put into a copy of the page."""
        copy = self.folder / "measured.html"
        copy.write_text(page.read_text().replace("</head>", f"{MEASURE}</head>"))
        dom = self.run(copy, f"--window-size={width},1000", "--dump-dom")
        found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
        assert found, dom[-2000:]
        text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        measured: dict[str, Any] = json.loads(text)
        return measured

    def picture(self, page: Path, *flags: str) -> Picture:
        out = self.folder / "picture.png"
        self.run(page, "--window-size=320,400", f"--screenshot={out}", *flags)
        return Picture(out.read_bytes())


class Picture:
    """A PNG, as far as one can say whether it shows anything: 8 bits, no interlacing."""

    def __init__(self, png: bytes) -> None:
        assert png.startswith(b"\x89PNG")
        self.data = png
        width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
        assert depth == 8
        parts, place = [], 8
        while place < len(png):
            (length,) = struct.unpack(">I", png[place : place + 4])
            if png[place + 4 : place + 8] == b"IDAT":
                parts.append(png[place + 8 : place + 8 + length])
            place += length + 12
        self.letters = {2: 3, 6: 4}[kind]
        self.rows = self._rows(zlib.decompress(b"".join(parts)), width * self.letters, height)

    def _rows(self, raw: bytes, stride: int, height: int) -> list[bytearray]:
        rows: list[bytearray] = []
        above = bytearray(stride)
        for number in range(height):
            start = number * (stride + 1)
            row = bytearray(raw[start + 1 : start + 1 + stride])
            self._unfilter(raw[start], row, above)
            rows.append(row)
            above = row
        return rows

    def _unfilter(self, kind: int, row: bytearray, above: bytearray) -> None:
        """The five filters of PNG, section 9 of its specification."""
        step = self.letters
        for place in range(len(row)):
            left = row[place - step] if place >= step else 0
            corner = above[place - step] if place >= step else 0
            up = above[place]
            guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
            row[place] = (row[place] + guess) & 255

    @property
    def brightness(self) -> float:
        """0 to 255, on average."""
        return sum(map(sum, self.rows)) / sum(map(len, self.rows))

    @property
    def colours(self) -> int:
        """How many different ones."""
        step = self.letters
        return len({bytes(r[i : i + step]) for r in self.rows for i in range(0, len(r), step)})


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))
