# SPDX-License-Identifier: Apache-2.0
"""Small changes of a module, each of which some test should notice."""

from __future__ import annotations

import ast
import copy
import re
from typing import Iterator, NamedTuple, Optional

_COMPARE = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult}
# A string that is a key, an option or a name, and no text for people.
_WORD = re.compile(r'[a-z]+(_[a-z]+)+|[a-z]{2,12}')


class Mutant(NamedTuple):
    """A change of one module.

    :ivar tree: the module
    :ivar old: a node of it
    :ivar new: what is put in its place
    """

    tree: ast.AST
    old: ast.AST
    new: ast.AST

    def __str__(self) -> str:
        return f'{_short(self.old)} -> {_short(self.new)}'

    @property
    def source(self) -> str:
        """The whole module, changed."""
        return ast.unparse(_replaced(self.tree, self.old, self.new))


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all changes of a module."""
    tree = ast.parse(source)
    skipped = {id(node) for part in _skipped(tree) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped or not hasattr(node, 'lineno'):
            continue
        changed = _change(node)
        if changed is not None:
            yield Mutant(tree, node, changed)


def _short(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0][:70]


def _skipped(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what no test can notice, or need not: docstrings, types, the log, texts."""
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
        ):
            yield node.body[0]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from filter(None, [node.returns, *node.decorator_list])
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield node.annotation
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
            yield node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__':
            yield node
        if isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)):
            yield node
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function.startswith('LOG.') or function.endswith('add_argument'):
                yield node


def _change(node: ast.AST) -> Optional[ast.AST]:
    """Return a node with one change, None for one that is left as it is."""
    changed: Optional[ast.AST] = None
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        changed = copy.copy(node)
        changed.ops = [_COMPARE[type(node.ops[0])]()]
    elif isinstance(node, ast.BoolOp):
        changed = copy.copy(node)
        changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        changed = node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        changed = copy.copy(node)
        changed.op = _ARITHMETIC[type(node.op)]()
    elif isinstance(node, (ast.If, ast.IfExp)):
        changed = copy.copy(node)
        changed.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return) and node.value is not None:
        if ast.unparse(node.value) != 'None':
            changed = ast.Return(ast.Constant(None))
    elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or isinstance(
        node, ast.Raise
    ):
        changed = ast.Pass()
    elif isinstance(node, ast.Constant):
        changed = _other_constant(node.value)
    return changed


def _other_constant(value: object) -> Optional[ast.Constant]:
    if isinstance(value, bool):
        return ast.Constant(not value)
    if isinstance(value, int):
        return ast.Constant(value + 1)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return ast.Constant(f'{value}_')
    return None


def _replaced(tree: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    """Return a copy of the tree with another node in the place of one."""

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return new if node is old else self.generic_visit(_shallow(node))

    return ast.fix_missing_locations(Replace().visit(tree))


def _shallow(node: ast.AST) -> ast.AST:
    copied = copy.copy(node)
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            setattr(copied, name, list(value))
    return copied
