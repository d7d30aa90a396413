"""What you would have typed: Engine API calls as ``docker`` commands."""

from dockerlab.commands.log import CommandLog, Commands, build_folder, unlisted
from dockerlab.commands.typed import Call, translate

__all__ = ["Call", "CommandLog", "Commands", "build_folder", "translate", "unlisted"]
