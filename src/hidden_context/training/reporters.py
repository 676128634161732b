"""Experiment trackers: whether they can be used, found before any work is done."""

from __future__ import annotations

from hidden_context.errors import ConfigError, MissingDependencyError, first_line
from hidden_context.training.config import TrainConfig


def check_reporters(config: TrainConfig) -> None:
    """Check that the experiment trackers that a run names are known and installed.

    Args:
        config: The options.

    Raises:
        ConfigError: If Transformers knows no tracker of the name.
        MissingDependencyError: If its package is not installed, or cannot be used.
    """
    wanted = config.training_arguments.get("report_to", config.report_to) or ()
    names = {wanted} if isinstance(wanted, str) else {*wanted}
    for name in sorted(names - {"none", "all"}):  # "all" takes what is installed
        from transformers.integrations import get_reporting_integration_callbacks

        try:
            for kind in get_reporting_integration_callbacks([name]):
                kind()
        except ValueError as error:
            raise ConfigError(f"--report_to {name}: {first_line(error)}") from error
        except (RuntimeError, ImportError) as error:
            raise MissingDependencyError(
                f"--report_to {name} cannot be used: {first_line(error).rstrip('.')}, or leave "
                "--report_to out."
            ) from error
