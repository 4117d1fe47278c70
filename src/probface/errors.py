"""Every error that ProbFace raises on purpose.

    ProbFaceError                   catch this one to catch them all
    |-- InvalidValue                an argument or array breaks a stated rule (also a ValueError)
    |-- ImageError                  the bytes are no image that can be used
    |   |-- UnreadableImage         missing, empty, truncated, of no known format
    |   |-- ImageTooLarge           more pixels than the limit (a decompression bomb)
    |   `-- NoFace                  an image without a face
    |-- ModelError                  a file that cannot serve as the model
    |   |-- ModelNotFound           no such name, or the weights are nowhere to be found
    |   |-- DigestMismatch          the weights are not the ones named
    |   `-- NotAFaceModel           an ONNX graph without one image input and one embedding
    |-- ProviderUnavailable         the execution provider asked for is not there
    |-- StorageError                a folder or file that cannot be written, a full disk
    |   `-- NotWiped                rows were deleted, but their bytes are not yet out of the files
    |-- DataError                   a data set, list or protocol file that breaks its format
    |-- InsufficientData            too few comparisons for the rate asked
    |-- TrainingError               training cannot go on (NaN, a changed recipe on resume)
    `-- MissingExtra                an optional part is not installed (also an ImportError)

The message of each names the value, the rule that it breaks and the mend, on one line: the command line prints it
as it is, and ends with exit code 2.
"""

from __future__ import annotations


class ProbFaceError(Exception):
    """Base of all errors that ProbFace raises on purpose."""


class InvalidValue(ProbFaceError, ValueError):
    """An argument or array breaks a stated rule."""


class ImageError(ProbFaceError):
    """The input is no image that can be used."""


class UnreadableImage(ImageError):
    """Missing, empty, truncated, a folder, or of no known format."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit allows."""


class NoFace(ImageError):
    """No face was found in the image."""


class ModelError(ProbFaceError):
    """A file that cannot serve as the model."""


class ModelNotFound(ModelError):
    """No model of that name, or its weights are nowhere to be found."""


class DigestMismatch(ModelError):
    """The weights found are not the ones named."""


class NotAFaceModel(ModelError):
    """The ONNX graph has not one image input and one embedding output."""


class ProviderUnavailable(ProbFaceError):
    """The ONNX Runtime execution provider asked for is not there."""


class StorageError(ProbFaceError):
    """A folder or file cannot be written, or the disk is full. Nothing half-written is left."""


class NotWiped(StorageError):
    """Rows are deleted, durably; their bytes may still be in the files.

    Attributes:
        references: how many were removed or replaced.
    """

    def __init__(self, message: str, references: int) -> None:
        super().__init__(message)
        self.references = references


class DataError(ProbFaceError):
    """A data set, list or protocol file breaks its format."""


class InsufficientData(ProbFaceError):
    """Too few comparisons for the error rate asked."""


class TrainingError(ProbFaceError):
    """Training cannot go on."""


class MissingExtra(ProbFaceError, ImportError):
    """An optional part of the package is not installed."""
