"""Reports at the end of training: TensorBoard's validity figure, and SavedModels.

Callbacks of their own, which `StepAdaption` makes if it is given `log_dir` or `export_dir`. They
report when all callbacks of `fit` have ended, so that what is reported is the model as `fit` leaves
it: `EarlyStopping(restore_best_weights=True)` may stand before them or behind them. In a training
loop of one's own they report in their turn.
"""

import io
import os
from typing import Any

import keras
from keras import ops

from tfnode import arguments, export, files, parts, validity
from tfnode.adaption import Rule
from tfnode.batches import joined
from tfnode.callbacks.batches import endless_batches
from tfnode.callbacks.processes import is_first, of_first
from tfnode.models import held_blocks, reached_blocks
from tfnode.typing import Data, PathLike
from tfnode.validity.trials import check_one_method

_NUM_SAMPLES = 1000


class TensorBoardWriter:
    """Writes scalars and figures below a directory; its event file is made at the first of them.

    Of several processes that train one model the first one writes.

    Args:
        log_dir: Path of the directory.

    Raises:
        ImportError: If TensorBoard or matplotlib, which draws the figures, is not installed.
    """

    def __init__(self, log_dir: PathLike) -> None:
        arguments.path("log_dir", log_dir)
        parts.require("`log_dir`", "tensorboard", "matplotlib")
        # As it was given: a `pathlib.Path` has one slash where an address has two.
        self._log_dir = os.fspath(log_dir)
        # TensorFlow also writes to other places than the file system.
        if "://" not in self._log_dir:
            files.check_writable(self._log_dir, "log_dir")
        self._writer: Any = None

    def scalars(self, iteration: int, values: dict[str, float]) -> None:
        """Writes a dictionary of numbers, each under its name."""
        import tensorflow as tf

        if not is_first():
            return
        with self._open().as_default(step=iteration):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def figure(self, iteration: int, name: str, figure: Any) -> None:
        """Writes a matplotlib `Figure` as an image."""
        import tensorflow as tf

        if not is_first():
            return
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=100)
        with self._open().as_default(step=iteration):
            tf.summary.image(name, tf.image.decode_png(png.getvalue(), channels=4)[None])
        self._writer.flush()

    def _open(self) -> Any:
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._log_dir)
        return self._writer


class FinalReport(keras.callbacks.Callback):
    """Base of what is reported of a model when all callbacks of `fit` have ended.

    In a training loop of one's own, whose list of callbacks has no history, it is reported in turn.

    Args:
        data: Batches or arrays, as for `StepAdaption`; as many of them as hold 1000 samples are
            what the model is judged on.
        batch_size: Integer, the samples of a batch of arrays.
    """

    def __init__(self, data: Data, batch_size: int = 128) -> None:
        super().__init__()
        self._data = data
        self._batch_size = batch_size

    def report(self, samples: tuple) -> None:
        """Reports on the model, judged on arrays `(x, y)`."""
        raise NotImplementedError

    def on_train_begin(self, logs: Any = None) -> None:
        # What is reported is a sweep, which this refuses at the end.
        check_one_method(self.model, held_blocks(self.model))
        self._epochs = self._epochs_of_history()

    def on_train_end(self, logs: Any = None) -> None:
        # Keras puts its own history behind all callbacks that `fit` is given. One that has not
        # begun since this callback did is of another training, or ends before.
        if self._epochs_of_history() is self._epochs:
            self.report(self._samples())
            return
        history = self.model.history
        end = history.on_train_end

        def end_and_report(logs: Any = None) -> None:
            history.on_train_end = end
            history.on_train_end(logs)
            self.report(self._samples())

        history.on_train_end = end_and_report

    def _epochs_of_history(self) -> list[int] | None:
        """The list of epochs that a history begins anew with every training, if there is one."""
        return getattr(getattr(self.model, "history", None), "epoch", None)

    def _samples(self) -> tuple:
        stream = endless_batches(self._data, self._batch_size)
        drawn: list[tuple] = []
        while sum(len(batch[1]) for batch in drawn) < _NUM_SAMPLES:
            drawn.append(next(stream))
        x, y, weights = joined(drawn)
        return of_first((x, y) if weights is None else (x, y, weights))


class ValidityFigure(FinalReport):
    """Draws the validity figure of the trained model for TensorBoard.

    Args:
        writer: `TensorBoardWriter`, one for all that is written of a training.
        data: As for `FinalReport`.
        batch_size: Likewise.
    """

    def __init__(self, writer: TensorBoardWriter, data: Data, batch_size: int = 128) -> None:
        super().__init__(data, batch_size)
        self._writer = writer

    def report(self, samples: tuple) -> None:
        figure = validity.check(self.model, samples, verbose=0).plot()
        iterations = int(ops.convert_to_numpy(self.model.optimizer.iterations))
        self._writer.figure(iterations, "validity", figure)


class ExportAtEnd(FinalReport):
    """Exports the trained model under its own solver and a better one.

    Args:
        export_dir: Path of the directory; see `tfnode.export.export_saved_models`.
        rule: `tfnode.adaption.Rule`, which says what the better solver is.
        data: As for `FinalReport`.
        batch_size: Likewise.
    """

    def __init__(self, export_dir: PathLike, rule: Rule, data: Data, batch_size: int = 128) -> None:
        super().__init__(data, batch_size)
        self._export_dir = arguments.path("export_dir", export_dir)
        files.check_writable(self._export_dir, "export_dir")
        self._rule = rule

    def on_train_begin(self, logs: Any = None) -> None:
        export.check_exportable(self.model, self._export_dir)
        super().on_train_begin(logs)

    def report(self, samples: tuple) -> None:
        reached = reached_blocks(self.model, samples[0])
        solver, length = reached[0].block.solver, min(found.way for found in reached)
        export.export_saved_models(
            self.model,
            self._export_dir,
            [solver, self._rule.reference(solver, length)],
            samples,
            data_name="batches that StepAdaption was given",
            verbose=0,
        )
