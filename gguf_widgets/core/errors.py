"""Every error this package raises on purpose, as one tree.

Promises: each class stands for one thing a person can act on; its message says what was wrong, the
value, the limit and what to do; an error keeps its class and details across the worker's socket
(`to_wire`, `from_wire`). Leaves to others: wording (whoever raises) and display (the widgets).

The tree::

    GgufWidgetsError
      InvalidValueError           a setting or an argument outside what is allowed
        UnsupportedSchemaError      a JSON schema, or a part of one, that cannot be followed
        GrammarError                a grammar (GBNF) that is not one, or that cannot be followed
        ImageError                  an image that is none, too large, damaged or not here
      ModelFileError              the file, before anything is loaded
        ModelNotFoundError          no such file or name
        NotAFileError               a folder, a socket, a device
        UnreadableFileError         no permission, or the disk failed
        NotGgufError                not a GGUF file at all
        UnsupportedVersionError     a GGUF version this program does not know
        BigEndianFileError          written for big-endian machines
        TruncatedFileError          the file ends before its own header says
        MalformedHeaderError        counts, lengths or types that cannot be true
        VocabularyOnlyError         holds a vocabulary and no weights
        ProjectorFileError          an mmproj companion chosen as a model
        MmprojFileError             chosen as a companion (mmproj): none, or not one for this model
        NotAModelError              an adapter, an importance matrix, ...: GGUF, but no model
        AdapterFileError            chosen as an adapter (LoRA): none, or not one for this model
        SplitFileError              a part of a split model is missing or out of place
      ModelLoadError              the file is fine, loading it failed
        NotEnoughMemoryError        it needs more memory than is free
        LoadCancelledError          the loading was stopped on request
      RequestError                one request could not be carried out
        ContextOverflowError        more tokens than the context has room for
        ChatTemplateError           the chat template failed, refused or took too long
        DecodeError                 llama.cpp reported a failure while computing
        RequestCancelledError       the request was taken back before it began
        UnsupportedByModelError     this model cannot do that: write, or turn texts into vectors
      WorkerError                 the process that runs the model
        WorkerStartError            it did not start
        WorkerDiedError             it ended while it was needed
        WorkerBusyError             its queue is full
        ProtocolError               the two sides do not understand each other
      ModelTransferError          a model on its way to this machine
        UploadError                 from a browser
        DownloadError               from the network
      FileChangeError             a model file could not be renamed, removed, restored or converted
        ModelInUseError             because it is loaded; whoever asks has to say so again
      ModelUnloadedError          the model was used after it had been unloaded
      BatchError                  a batch run, or a part of one
        RowError                    one row cannot be asked: its values, its template
        OutputError                 a reply cannot be read as what was asked for
        TableFileError              a table's file cannot be read or written
      StoreError                  the database file
      StateFileError              a saved prefix: its file, or what it was saved with
      DeviceQueryError            the list of processors and graphics cards could not be had
      ServerStartError            the dashboard's or JupyterLab's server could not start
      MissingDependencyError      an optional package is not installed
"""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = [
    "AdapterFileError",
    "BatchError",
    "BigEndianFileError",
    "ChatTemplateError",
    "ContextOverflowError",
    "DecodeError",
    "DeviceQueryError",
    "DownloadError",
    "FileChangeError",
    "GgufWidgetsError",
    "GrammarError",
    "ImageError",
    "InvalidValueError",
    "LoadCancelledError",
    "MalformedHeaderError",
    "MissingDependencyError",
    "MmprojFileError",
    "ModelFileError",
    "ModelInUseError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelTransferError",
    "ModelUnloadedError",
    "NotAFileError",
    "NotAModelError",
    "NotEnoughMemoryError",
    "NotGgufError",
    "OutputError",
    "ProjectorFileError",
    "ProtocolError",
    "RequestCancelledError",
    "RequestError",
    "RowError",
    "ServerStartError",
    "SplitFileError",
    "StateFileError",
    "StoreError",
    "TableFileError",
    "TruncatedFileError",
    "UnreadableFileError",
    "UnsupportedByModelError",
    "UnsupportedSchemaError",
    "UnsupportedVersionError",
    "UploadError",
    "VocabularyOnlyError",
    "WireError",
    "WorkerBusyError",
    "WorkerDiedError",
    "WorkerError",
    "WorkerStartError",
    "from_wire",
    "to_wire",
]


class WireError(TypedDict):
    """An error as it crosses the worker's socket."""

    kind: str
    message: str
    details: dict[str, Any]


class GgufWidgetsError(Exception):
    """The root of every error this package raises on purpose.

    Parameters
    ----------
    message : str
        One or two plain sentences for the person at the screen.
    **details
        Facts a program may want (``path``, ``limit``, ``needed_bytes``, ...). Values must be
        JSON's: str, int, float, bool, None, and lists and dicts of these.

    Attributes
    ----------
    message : str
    details : dict
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _BY_NAME[cls.__name__] = cls

    def __reduce__(self) -> tuple[Any, ...]:
        # Keeps `details` when a test runner or a process pool copies the error.
        return (_rebuild, (type(self), self.message, self.details))


def _rebuild(
    cls: type[GgufWidgetsError], message: str, details: dict[str, Any]
) -> GgufWidgetsError:
    error = cls(message)
    # Not as keywords: one that came out of a file may have any name, "message" too.
    error.details = dict(details)
    return error


# Filled as each class of the tree is defined, so that `from_wire` needs no list of its own.
_BY_NAME: dict[str, type[GgufWidgetsError]] = {}


class InvalidValueError(GgufWidgetsError, ValueError):
    """A setting or an argument is outside what is allowed."""


class UnsupportedSchemaError(InvalidValueError):
    """A JSON schema that is not one, or a part of it that cannot be turned into a grammar."""


class GrammarError(InvalidValueError):
    """A grammar (GBNF) that is malformed, or that llama.cpp could not follow."""


class ImageError(InvalidValueError):
    """An image cannot be sent to the model: no image, too large, damaged, or only an address."""


class ModelFileError(GgufWidgetsError):
    """Something is wrong with a model file; nothing was loaded."""


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """There is no such file, or no model of that name."""

    # OSError's own __str__ would print its errno pair; the message is all there is here.
    __str__ = Exception.__str__


class NotAFileError(ModelFileError):
    """The path is a folder or something else that is not a plain file."""


class UnreadableFileError(ModelFileError):
    """The file cannot be read: no permission, or the disk failed."""


class NotGgufError(ModelFileError):
    """The file does not begin as a GGUF file does."""


class UnsupportedVersionError(ModelFileError):
    """The file is GGUF of a version this program does not know."""


class BigEndianFileError(ModelFileError):
    """The file was written for big-endian machines."""


class TruncatedFileError(ModelFileError):
    """The file ends before its own header says it should."""


class MalformedHeaderError(ModelFileError):
    """The header holds counts, lengths or types that cannot be true."""


class VocabularyOnlyError(ModelFileError):
    """The file holds a vocabulary and no weights."""


class ProjectorFileError(ModelFileError):
    """The file is the vision or audio companion (mmproj) of a model, not a model."""


class MmprojFileError(ModelFileError):
    """A file chosen as a model's image companion (mmproj) is none, or belongs to another model."""


class NotAModelError(ModelFileError):
    """The file is GGUF and not a model: an adapter, an importance matrix, a retired format."""


class AdapterFileError(ModelFileError):
    """A file chosen as an adapter (LoRA) is none, or belongs to another model."""


class SplitFileError(ModelFileError):
    """A part of a split model is missing or does not belong."""


class ModelLoadError(GgufWidgetsError):
    """The file's header is fine, but the model could not be loaded."""


class NotEnoughMemoryError(ModelLoadError, MemoryError):
    """The model needs more memory than is free."""


class LoadCancelledError(ModelLoadError):
    """The loading was stopped because a person or a program asked for it."""


class RequestError(GgufWidgetsError):
    """One request could not be carried out; the model is still there."""


class ContextOverflowError(RequestError):
    """The prompt, or the prompt and its answer, does not fit the context."""


class ChatTemplateError(RequestError):
    """The model's chat template failed, refused these messages or took too long."""


class DecodeError(RequestError):
    """llama.cpp reported a failure while it computed this request."""


class RequestCancelledError(RequestError):
    """The request was taken back before it began."""


class UnsupportedByModelError(RequestError):
    """The model cannot do that: an embedding model cannot write; demo mode has no vectors."""


class WorkerError(GgufWidgetsError):
    """The process that runs the model failed."""


class WorkerStartError(WorkerError):
    """The worker process did not start."""


class WorkerDiedError(WorkerError):
    """The worker process ended while it was needed."""


class WorkerBusyError(WorkerError):
    """The worker's queue is full; try again in a moment."""


class ProtocolError(WorkerError):
    """The two sides of the socket do not understand each other."""


class ModelTransferError(GgufWidgetsError):
    """A model did not arrive; what had arrived is kept where it can go on.

    ``details["problem"]`` names which of its reasons it is.
    """


class UploadError(ModelTransferError):
    """A file that is uploaded from a browser is refused, or could not be written."""


class DownloadError(ModelTransferError):
    """A file could not be fetched from the network, or is not the one that was promised."""


class FileChangeError(GgufWidgetsError):
    """A model file could not be renamed, removed, restored, checked or converted."""


class ModelInUseError(FileChangeError):
    """The model is loaded, so whoever wants to change its file has to confirm it."""


class ModelUnloadedError(GgufWidgetsError):
    """The model was used after it had been unloaded."""


class BatchError(GgufWidgetsError):
    """A batch run could not be made, found or carried out."""


class RowError(BatchError):
    """One row of a table cannot be asked: a value is missing, or the template fails on it."""


class OutputError(BatchError):
    """A reply cannot be read as what was asked for."""


class TableFileError(BatchError):
    """A table's file cannot be read or written."""


class StoreError(GgufWidgetsError):
    """The database file could not be read or written."""


class StateFileError(GgufWidgetsError):
    """A saved prefix could not be written, or its file is not one that can be used here.

    ``details["problem"]`` names which of these it is; `core.state_file` lists them.
    """


class DeviceQueryError(GgufWidgetsError):
    """ggml could not say which processors and graphics cards this machine has."""


class ServerStartError(GgufWidgetsError):
    """The dashboard's or JupyterLab's server could not start: address, port or files."""


class MissingDependencyError(GgufWidgetsError, ImportError):
    """An optional package is not installed; the message says how to install it."""


def to_wire(error: BaseException) -> WireError:
    """Turn an error into plain data for the socket.

    An error from outside the tree becomes a `RequestError` whose message names the original class,
    so that nothing is hidden and the other side still gets an error of the tree.
    """
    if isinstance(error, GgufWidgetsError):
        return {"kind": type(error).__name__, "message": error.message, "details": error.details}
    return {
        "kind": RequestError.__name__,
        "message": f"The worker met an error it did not expect: {type(error).__name__}: {error}",
        "details": {},
    }


def from_wire(wire: WireError) -> GgufWidgetsError:
    """Turn what `to_wire` made back into an error; an unknown kind becomes a `WorkerError`."""
    return _rebuild(_BY_NAME.get(wire["kind"], WorkerError), wire["message"], wire["details"])
