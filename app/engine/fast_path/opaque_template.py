"""A chat template that takes opaque texts, and is what it was in everything else."""

from types import NoneType
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame

from app.engine.fast_path.opaque_text import OpaqueText, joined, refuse

_PRINTED = frozenset({str, int, float, bool, NoneType})
# What gives the same each time. `lipsum` does not, and neither does the clock.
_STEADY = frozenset({"range", "dict", "cycler", "joiner", "namespace", "raise_exception"})


class OpaqueCode(CodeGenerator):
    """Has what is printed or joined by `~` made a text by `printed`, not by `str`."""

    def _output_child_pre(self, _: nodes.Expr, frame: Frame, __: Any) -> None:
        self._write_printed(frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat((")
        for each in node.nodes:
            self._write_printed(frame)
            self.visit(each, frame)
            self.write("), ")
        self.write("))")

    def _write_printed(self, frame: Frame) -> None:
        if frame.eval_ctx.autoescape or frame.eval_ctx.volatile or self.environment.finalize:
            refuse()
        self.write("environment.printed(")


def opaque_template(environment: Any, source: str) -> Any:
    """The template that `environment` makes of `source`, for opaque texts. Raises LookedAt."""
    own = environment.overlay()
    own.code_generator_class = OpaqueCode
    own.concat, own.printed = joined, printed
    # Of operators this alone takes other objects for what they are not: 'a' % {} is 'a'.
    own.intercepted_binops, own.call_binop = frozenset("%"), modulo
    own.globals = {
        name: refuse if callable(value) and name not in _STEADY else value
        for name, value in environment.globals.items()
    }
    own.filters = {**environment.filters, "random": refuse}
    own.tests = {**environment.tests, "sameas": refuse}  # equal texts may be one object or two
    return own.from_string(source)


def printed(value: Any) -> Any:
    """A text; what might be worded by its address in memory, or by what is in it, is refused."""
    if type(value) is OpaqueText:
        return value
    return str(value) if type(value) in _PRINTED or isinstance(value, Undefined) else refuse()


def modulo(_: Any, __: str, left: Any, right: Any) -> Any:
    return refuse() if OpaqueText in (type(left), type(right)) else left % right
