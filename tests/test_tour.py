"""The tour: its ten cells run one after the other, show something, and end with the cause."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "scripts" / "tour.ipynb"


def run_cell(source: str, names: dict) -> object:
    """Run a cell as a notebook does, and return its last expression's value; None where it ends with none."""
    *lines, last = source.splitlines()
    try:
        shown = compile(last, "cell", "eval")
    except SyntaxError:
        exec(compile(source, "cell", "exec"), names)
        return None
    exec(compile("\n".join(lines), "cell", "exec"), names)
    return eval(shown, names)


@pytest.mark.untyped
def test_the_tour_ends_with_the_cause(capsys, monkeypatch):
    monkeypatch.delenv("CHECKPOINT", raising=False)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 10 and not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    names: dict = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in cells]
    assert [type(value).__name__ for value in shown] == [
        "tuple", "Store", "Figure", "StoredLayer", "Figure", "Figure", "ExportSummary", "Figure", "int", "Figure",
    ]  # fmt: skip
    assert all("<table>" in shown[place]._repr_html_() for place in (1, 3, 6))
    assert all(shown[place]._repr_png_().startswith(b"\x89PNG") for place in (2, 4, 5, 7, 9))
    assert "  1. lanes reversed\n" in capsys.readouterr().out
    names["store"].close()
