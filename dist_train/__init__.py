"""dist_train: DDP fine-tuning of vision models that survives being killed.

Importing the package is free of torch, so that ``--help`` and configuration errors answer at once.
"""

__version__ = "0.2.0"
