"""Agents: tasks that a model finishes with tools, within limits that hold."""

from tidegate.agent.arithmetic import calculator
from tidegate.agent.conversation import Agent
from tidegate.agent.events import (
    AgentEvent,
    AgentResult,
    AgentStep,
    AnswerText,
    AnswerWithdrawn,
    Done,
    StepFinished,
    ThoughtText,
    ToolFinished,
    ToolStarted,
)
from tidegate.agent.functions import FunctionTool, tool
from tidegate.agent.pages import fetch_tool, fetch_url
from tidegate.agent.times import clock
from tidegate.agent.toolbox import Toolbox, ToolOutcome

__all__ = [
    "Agent",
    "AgentEvent",
    "AgentResult",
    "AgentStep",
    "AnswerText",
    "AnswerWithdrawn",
    "Done",
    "FunctionTool",
    "StepFinished",
    "ThoughtText",
    "ToolFinished",
    "ToolOutcome",
    "ToolStarted",
    "Toolbox",
    "calculator",
    "clock",
    "fetch_tool",
    "fetch_url",
    "tool",
]
