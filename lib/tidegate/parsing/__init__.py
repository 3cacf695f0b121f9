"""Values in what models write: found, repaired where that is certain, validated; refused where nobody can know.

No network here: what asks a model is handed a callable.
"""

from tidegate.parsing.asking import LLMStrategy
from tidegate.parsing.found import Asked, Found, Parser, Repair
from tidegate.parsing.models import AgentAction, ToolCall
from tidegate.parsing.partial import PartialReader
from tidegate.parsing.reading import RobustParser, create_robust_parser, parse
from tidegate.parsing.result import ParseResult
from tidegate.parsing.tags import XMLTags

__all__ = [
    "AgentAction",
    "Asked",
    "Found",
    "LLMStrategy",
    "ParseResult",
    "Parser",
    "PartialReader",
    "Repair",
    "RobustParser",
    "ToolCall",
    "XMLTags",
    "create_robust_parser",
    "parse",
]
