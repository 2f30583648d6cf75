"""What a known defect is declared as; everything measured about it is found by running."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A line of the installed upstream code, found again in every version instead of remembered.

    Attributes:
        file: below the folder that packages are installed in.
        after: a text that an earlier line contains, such as a function's head.
        line: a text that the line itself contains.
    """

    file: str
    after: str
    line: str

    def located(self) -> str:
        """File, line number and the line.

        Raises:
            LookupError: the installed version has no such line, so the entry's cause is outdated.
        """
        package, *inner = self.file.split("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise LookupError(f"expected the package {package} to be installed")
        lines = Path(spec.submodule_search_locations[0], *inner).read_text().splitlines()
        begun = False
        for number, line in enumerate(lines, 1):
            begun = begun or self.after in line
            if begun and self.line in line:
                return f"`{self.file}:{number}`: `{line.strip()}`"
        raise LookupError(
            f"expected a line with {self.line!r} after {self.after!r} in {self.file}: the "
            "installed version has none; read its code again and correct the entry"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A defect: where to look for it, and what people made of what was found.

    Attributes:
        title: the function, and what is wrong.
        path: the loss path that shows it.
        kind: of finding.
        format: dtype name of the format that the row is taken from.
        mode: that the row is taken from.
        families: to search in, so that other defects of the path stay out.
        shape: of the batches.
        rows: for every cell, at the least.
        harm: who meets it.
        cause: why it happens.
        quotes: the lines that do it.
        advice: what users can do now, and what would mend it.
        definition: ``loss(*x)`` of one row in mpmath, from the loss's definition; it may use
            ``target``.
        against: a mode that the row is also run in, where the two should agree.
        beside: paths measured on the same rows: relatives that share it, and sound ones.
    """

    title: str
    path: str
    kind: str
    format: str
    mode: str
    families: tuple[str, ...]
    shape: tuple[int, ...] = (256, 10)
    rows: int = 64
    harm: str
    cause: str
    quotes: tuple[Quote, ...]
    advice: str
    definition: str
    against: str = ""
    beside: tuple[str, ...] = ()
