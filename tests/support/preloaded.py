"""Import every module of ``dist_train``: once in the server that ranks are forked from, not in each rank."""

import importlib
import pkgutil

import dist_train

for module in pkgutil.walk_packages(dist_train.__path__, "dist_train."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
