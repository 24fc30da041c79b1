"""Programs near a program: mutants that should behave otherwise, and rewrites that behave the same."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_MIRRORED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq,
}  # fmt: skip


def bare(source: str) -> str:
    """The source without docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def mutants(source: str, most: int) -> Iterator[str]:
    """The source with one operator swapped or one whole number raised by 1; at most `most`, spread over the program."""
    tree = ast.parse(source)
    places = [
        (number, field)
        for number, node in enumerate(ast.walk(tree))
        for field in ("op", "ops", "value")
        if _mutable(node, field)
    ]
    for index in range(0, len(places), max(1, -(-len(places) // most))):
        number, field = places[index]
        mutant = copy.deepcopy(tree)
        _mutate(list(ast.walk(mutant))[number], field)
        yield ast.unparse(mutant)


def rewrites(source: str) -> Iterator[str]:
    """The source with its locals renamed; comparisons and branches turned round; results held in a name first."""
    yield ast.unparse(_Renamed(ast.parse(source)).visit(ast.parse(source)))
    yield ast.unparse(ast.fix_missing_locations(_TurnedRound().visit(ast.parse(source))))
    yield ast.unparse(ast.fix_missing_locations(_Held().visit(ast.parse(source))))


def _mutable(node: ast.AST, field: str) -> bool:
    if field == "value":
        return isinstance(node, ast.Constant) and type(node.value) is int
    return type(_operator(node, field)) in SWAPS


def _mutate(node: Any, field: str) -> None:
    if field == "value":
        node.value += 1
        return
    new = SWAPS[type(_operator(node, field))]()
    setattr(node, field, [new, *node.ops[1:]] if field == "ops" else new)


def _operator(node: ast.AST, field: str) -> Any:
    found = getattr(node, field, None)
    return found[0] if isinstance(found, list) and found else found


class _Renamed(ast.NodeTransformer):
    def __init__(self, tree: ast.Module) -> None:
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        nodes = [node for function in functions for node in ast.walk(function)]
        stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self._names = stored | {node.arg for node in nodes if isinstance(node, ast.arg)}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id += "_" * (node.id in self._names)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg += "_" * (node.arg in self._names)
        return self.generic_visit(node)  # type: ignore[return-value]  # its annotation


class _TurnedRound(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        self.generic_visit(node)
        if len(node.ops) == 1 and type(node.ops[0]) in _MIRRORED:
            mirrored = _MIRRORED[type(node.ops[0])]()
            return ast.Compare(node.comparators[0], [mirrored], [node.left])  # type: ignore[list-item]
        return node

    def visit_If(self, node: ast.If) -> ast.If:
        self.generic_visit(node)
        return ast.If(ast.UnaryOp(ast.Not(), node.test), node.orelse or [ast.Pass()], node.body)

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        self.generic_visit(node)
        return ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.orelse, node.body)


class _Held(ast.NodeTransformer):
    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        if node.value is None:
            return [node]
        held = ast.Assign([ast.Name("held_", ast.Store())], node.value)
        return [held, ast.Return(ast.Name("held_", ast.Load()))]
