"""SavedModels for TensorFlow Serving: a model under each of its solver configurations.

`export_saved_models` writes them, and `write_models_config` lists all of them for TensorFlow
Serving.
"""

from tfnode.export.names import solver_name, solver_slug
from tfnode.export.repositories import write_models_config
from tfnode.export.saved_models import check_exportable, export_saved_models

__all__ = [
    "check_exportable",
    "export_saved_models",
    "solver_name",
    "solver_slug",
    "write_models_config",
]
