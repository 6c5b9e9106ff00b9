"""SavedModels for TensorFlow Serving: a model under each of its solver configurations.

`export_saved_models` writes them, and `write_models_config` lists all of them for TensorFlow
Serving.
"""

from tfnode.export.repositories import solver_slug, write_models_config
from tfnode.export.saved_models import check_exportable, export_saved_models

__all__ = ["check_exportable", "export_saved_models", "solver_slug", "write_models_config"]
