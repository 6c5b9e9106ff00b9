"""SavedModels through TensorFlow's C API, as a model server loads them: no Python package of it.

    python tests/capi.py saved_models/mnist/rk4_h0p25/1

prints the signatures. The symbols are in the libraries of the installed wheel.
"""

import contextlib
import ctypes
import importlib.util
import json
import pathlib
import sys

import numpy as np

DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
NUMBERS = {np.dtype(dtype): number for number, dtype in DTYPES.items()}


class Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def _library():
    # `find_spec` looks for the package and does not import it.
    package = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    # Their symbols stay local: among them are those of a TLS library that Python has its own of.
    ctypes.CDLL(package / "libtensorflow_framework.so.2")
    library = ctypes.CDLL(package / "libtensorflow_cc.so.2")
    pointers = (
        "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_NewBuffer TF_LoadSessionFromSavedModel "
        "TF_GraphOperationByName TF_AllocateTensor TF_TensorData"
    )
    for name in pointers.split():
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    for name in ("TF_TensorByteSize", "TF_Dim"):
        getattr(library, name).restype = ctypes.c_int64
    return library


class SavedModel:
    """A loaded SavedModel, which may be called from many threads.

    Args:
        path: Path of the version's directory.

    Attributes:
        signatures: Dictionary from a signature's name to two dictionaries, of its inputs and its
            outputs, from names to names of tensors.
    """

    def __init__(self, path):
        self._library = _library()
        options = ctypes.c_void_p(self._library.TF_NewSessionOptions())
        self._graph = ctypes.c_void_p(self._library.TF_NewGraph())
        meta_graph = ctypes.c_void_p(self._library.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        with self._status() as status:
            session = self._library.TF_LoadSessionFromSavedModel(
                options, None, str(path).encode(), tags, 1, self._graph, meta_graph, status
            )
        self._session = ctypes.c_void_p(session)
        buffer = Buffer.from_address(meta_graph.value)
        self.signatures = signatures_of(ctypes.string_at(buffer.data, buffer.length))
        self._library.TF_DeleteBuffer(meta_graph)
        self._library.TF_DeleteSessionOptions(options)

    def __call__(self, inputs, signature="serving_default"):
        """Returns the outputs for one request.

        Args:
            inputs: Dictionary of NumPy arrays.
            signature: String.

        Raises:
            RuntimeError: With TensorFlow's code and message, if the graph fails.
        """
        input_names, output_names = self.signatures[signature]
        fed = [self._output(input_names[name]) for name in inputs]
        fetched = [self._output(name) for name in output_names.values()]
        tensors = [self._tensor(array) for array in inputs.values()]
        values = (ctypes.c_void_p * len(fetched))()
        try:
            with self._status() as status:
                self._library.TF_SessionRun(
                    self._session,
                    None,
                    (Output * len(fed))(*fed),
                    (ctypes.c_void_p * len(fed))(*tensors),
                    len(fed),
                    (Output * len(fetched))(*fetched),
                    values,
                    len(fetched),
                    None,
                    0,
                    None,
                    status,
                )
        finally:
            for tensor in tensors:
                self._library.TF_DeleteTensor(ctypes.c_void_p(tensor))
        return {name: self._array(value) for name, value in zip(output_names, values)}

    @contextlib.contextmanager
    def _status(self):
        status = ctypes.c_void_p(self._library.TF_NewStatus())
        try:
            yield status
            code = self._library.TF_GetCode(status)
            if code:
                raise RuntimeError(f"{code}: {self._library.TF_Message(status).decode()}")
        finally:
            self._library.TF_DeleteStatus(status)

    def _output(self, tensor_name):
        operation, index = tensor_name.split(":")
        pointer = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        return Output(pointer, int(index))

    def _tensor(self, array):
        array = np.ascontiguousarray(array)
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        number = NUMBERS[array.dtype]
        tensor = self._library.TF_AllocateTensor(
            number, shape, array.ndim, ctypes.c_size_t(array.nbytes)
        )
        data = self._library.TF_TensorData(ctypes.c_void_p(tensor))
        ctypes.memmove(data, array.ctypes.data, array.nbytes)
        return tensor

    def _array(self, value):
        tensor = ctypes.c_void_p(value)
        rank = self._library.TF_NumDims(tensor)
        shape = [self._library.TF_Dim(tensor, axis) for axis in range(rank)]
        data = ctypes.string_at(
            self._library.TF_TensorData(tensor), self._library.TF_TensorByteSize(tensor)
        )
        dtype = DTYPES[self._library.TF_TensorType(tensor)]
        self._library.TF_DeleteTensor(tensor)
        return np.frombuffer(data, dtype).reshape(shape)


# === Protocol buffers, as far as a signature needs them ===
def fields(message):
    """Yields the number and the value of each field: bytes, or an integer."""
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        key = varint()
        wire_type = key & 7
        if wire_type == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}[wire_type] if wire_type != 2 else varint()
        yield key >> 3, message[position : position + size]
        position += size


def field_map(message, number):
    """A `map<string, message>` field as a dictionary from strings to bytes."""
    entries = [dict(fields(value)) for key, value in fields(message) if key == number]
    return {entry[1].decode(): entry[2] for entry in entries}


def signatures_of(meta_graph):
    """The signatures of a serialized `MetaGraphDef`; see `SavedModel.signatures`."""

    def tensor_names(signature, number):
        infos = field_map(signature, number)
        return {name: dict(fields(info))[1].decode() for name, info in infos.items()}

    return {
        name: (tensor_names(signature, 1), tensor_names(signature, 2))
        for name, signature in field_map(meta_graph, 5).items()
        if not name.startswith("__")
    }


if __name__ == "__main__":
    print(json.dumps(SavedModel(sys.argv[1]).signatures, indent=2))
