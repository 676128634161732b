"""Check a data set: do its people disagree, where, about what, and who?"""

from hidden_context.check.config import CheckConfig
from hidden_context.check.results import Found
from hidden_context.check.workflow import check, run

__all__ = ["CheckConfig", "Found", "check", "run"]
