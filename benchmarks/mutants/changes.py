"""The wrong changes that benchmarks.mutants makes: each one a single place of one file.

Texts, annotations, decorators and `__all__` are left alone: what is wrong there is no wrong result.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

__all__ = ["Mutant", "mutants_of"]

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change: `before` became `after` at the lines `line` to `end` of `file`, inside `where` (a function's name
    with its classes)."""

    file: Path
    line: int
    end: int
    where: str
    before: str
    after: str
    tree: ast.Module

    def code(self) -> CodeType:
        """What Python runs in the file's place."""
        return compile(ast.fix_missing_locations(self.tree), self.file, "exec")


def mutants_of(file: Path) -> list[Mutant]:
    """All changes of a file, in the order of its lines."""
    source = file.read_text(encoding="utf-8")
    found = []
    for number, (node, where) in enumerate(_places(ast.parse(source))):
        for put in _changed(node):
            tree = ast.parse(source)
            old = next(old for n, (old, _) in enumerate(_places(tree)) if n == number)
            _replace(tree, old, put)
            found.append(Mutant(file, node.lineno, node.end_lineno, where, _text(node), _text(put), tree))
    return sorted(found, key=lambda mutant: mutant.line)


def _text(node: ast.AST) -> str:
    """A piece of code on one line; of a statement with a body, its head."""
    return " ".join(ast.unparse(node).split("\n")[0].split())


def _places(tree: ast.AST, where: str = "") -> Iterator[tuple[ast.AST, str]]:
    """(node, function it stands in) of everything that may be changed."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases", "pattern"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, (ast.JoinedStr, ast.Import, ast.ImportFrom)):
                continue
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                continue
            inside = f"{where}.{node.name}".lstrip(".") if hasattr(node, "body") and hasattr(node, "name") else where
            if isinstance(node, (ast.expr, ast.stmt)):
                yield node, inside
            yield from _places(node, inside)


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the node's place."""
    put = copy.deepcopy(node)
    match put:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            put.ops = [COMPARISONS[type(op)]()]
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            put.op = OPERATORS[type(op)]()
        case ast.BoolOp(op=op):
            put.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            put = put.operand
        case ast.Constant(value=bool(value)):
            put.value = not value
        case ast.Constant(value=int(value) | float(value)):
            put.value = value + 1
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            put.test = ast.UnaryOp(ast.Not(), test)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp() if put.generators[0].ifs:
            put.generators[0].ifs = put.generators[0].ifs[1:]
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            put.value = ast.Constant(None)
        case ast.Expr(value=ast.Call()) | ast.Raise():
            put = ast.Pass()
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            put.func.id = NAMES[name]
        case _:
            return
    yield put


def _replace(tree: ast.AST, old: ast.AST, put: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, ast.copy_location(put, old))
            elif isinstance(value, list) and any(one is old for one in value):
                value[:] = [ast.copy_location(put, old) if one is old else one for one in value]
