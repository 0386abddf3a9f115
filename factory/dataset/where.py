"""Conditions on columns, such as `overflow_11 > 0 and not zeros < 0.5`: comparisons, and, or, not."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import reduce

import numpy as np
from jaxtyping import Bool, Shaped

from factory.spec import InputError

_COMPARISONS = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
_JOINS = {ast.And: np.logical_and, ast.Or: np.logical_or}
_LONGEST = 2000
_LARGEST = 2**62
"""The largest number: an int64 holds it, so that every comparison is one of numbers."""
Column = Callable[[str], np.ndarray]


def evaluate(condition: str, column: Column) -> Bool[np.ndarray, "*any"]:
    """Return where a condition holds, given the column of each name; raise InputError for what is no condition.

    The text is parsed by Python's grammar, and only these are evaluated: names of columns, numbers, comparisons of
    them, also in a row, `and`, `or`, `not` and parentheses. Nothing is ever run.
    """
    if len(condition) > _LONGEST:  # a text that is nested deeply enough ends the parser
        raise InputError(f"where must have at most {_LONGEST} characters, not {len(condition)}")
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _no_condition(condition) from None
    return _truth(tree, column, condition)


def _no_condition(text: str) -> InputError:
    return InputError(f"where must be comparisons of columns and numbers, joined by and, or, not: not {text!r}")


def _truth(node: ast.expr, column: Column, text: str) -> Bool[np.ndarray, "*any"]:
    match node:
        case ast.BoolOp(op, values):
            return reduce(_JOINS[type(op)], (_truth(value, column, text) for value in values))
        case ast.UnaryOp(ast.Not(), operand):
            return np.logical_not(_truth(operand, column, text))
        case ast.Compare(left, ops, others) if {*map(type, ops)} <= _COMPARISONS.keys():
            values = [_value(each, column, text) for each in (left, *others)]
            pairs = zip(ops, values, values[1:], strict=False)
            return np.asarray(reduce(np.logical_and, (_COMPARISONS[type(op)](a, b) for op, a, b in pairs)))
    raise _no_condition(ast.get_source_segment(text.strip(), node) or text)


def _value(node: ast.expr, column: Column, text: str) -> Shaped[np.ndarray, "*any"]:
    match node:
        case ast.Name(name):
            return column(name)
        case ast.Constant(value) if type(value) in (int, float) and abs(value) <= _LARGEST:
            return np.asarray(value)
        case ast.UnaryOp(ast.USub(), ast.Constant() as operand):
            return np.asarray(-_value(operand, column, text))
    raise _no_condition(ast.get_source_segment(text.strip(), node) or text)
