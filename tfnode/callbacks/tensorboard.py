"""Writing to TensorBoard, by `tf.summary`."""

import io


class Writer:
    """Writes scalars and figures below a directory; its event file is made at the first of them.

    Args:
        log_dir: Path of the directory.
    """

    def __init__(self, log_dir):
        self._log_dir = str(log_dir)
        self._writer = None

    def scalars(self, iteration, values):
        """Writes a dictionary of numbers, each under its name."""
        import tensorflow as tf

        with self._open().as_default(step=iteration):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def figure(self, iteration, name, figure):
        """Writes a matplotlib `Figure` as an image."""
        import tensorflow as tf

        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=100)
        with self._open().as_default(step=iteration):
            tf.summary.image(name, tf.image.decode_png(png.getvalue(), channels=4)[None])
        self._writer.flush()

    def _open(self):
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._log_dir)
        return self._writer
