"""Pages of measurements: written, or compared with what a new run measured."""

import re

# "1.07 (0.98–1.15)" and "1.07 ± 0.02".
_RANGE = re.compile(r"([+-]?[\d.]+) \(([+-]?[\d.]+)–([+-]?[\d.]+)\)")
_AROUND = re.compile(r"([+-]?[\d.]+) ± ([\d.]+)")


def finish(text, page, options):
    """Does with a page's text what --write or --check asks for. SystemExit with
    what differs."""
    if options.write:
        page.write_text(text)
    if options.check:
        if differ := differences(page.read_text(), text):
            raise SystemExit(f"{page.name} differs:\n" + "\n".join(differ))


def add_options(parser, page):
    parser.add_argument("--write", action="store_true", help=f"write {page}")
    parser.add_argument(
        "--check", action="store_true",
        help=f"fail if {page} has other headings, tables or names in their rows, "
        "or a figure whose spread is apart from the new one's")


def differences(page, made):
    """How a page and a new run's text differ in structure, and in figures with
    a spread whose spreads have nothing in common."""
    old, new = structure(page), structure(made)
    if list(old) != list(new):
        return [f"headings: got {list(new)}, want {list(old)}"]
    found = []
    for heading, rows in old.items():
        others = new[heading]
        if len(rows) != len(others):
            found.append(f"{heading}: got {len(others)} lines of tables, want "
                         f"{len(rows)}")
            continue
        for row, other, below in zip(rows, others, [*rows[1:], [""]]):
            named = len(row) if below[0].startswith("--") else 1
            if len(row) != len(other) or row[:named] != other[:named]:
                found.append(f"{heading}: got {other}, want {row}")
                continue
            found += [f"{heading}, {row[0]}: got {after}, want {before}"
                      for before, after in zip(row, other)
                      if apart(spread_of(before), spread_of(after))]
    return found


def structure(text):
    """Heading -> the lines of its tables, as lists of cells."""
    result, heading = {}, None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line
            result[heading] = []
        elif line.startswith("|"):
            result[heading].append(
                [cell.strip() for cell in line.strip().strip("|").split("|")])
    return result


def spread_of(cell):
    """(least, most) of a figure with a spread; None of any other cell."""
    if match := _RANGE.fullmatch(cell):
        return float(match[2]), float(match[3])
    if match := _AROUND.fullmatch(cell):
        return (float(match[1]) - float(match[2]),
                float(match[1]) + float(match[2]))
    return None


def apart(first, second):
    """Whether two intervals have nothing in common; no if one is None."""
    return bool(first and second
                and (first[1] < second[0] or second[1] < first[0]))
