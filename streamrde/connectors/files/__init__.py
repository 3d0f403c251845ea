"""Recorded files: samples in, predictions out.

recordings       find the files that a pattern names
reading          turn their rows into samples: `read`, `SampleReader`
record_batches   read one file of any format batch by batch
csv_files        read CSV, csv_dialect explains one that cannot be read
filters, units   choose rows, convert channels to the model's units
restarts         recognise a stream that begins again
sorting          put samples in order of time on disk
writing          write predictions: `PredictionWriter`
sink, parts      the predictions of a live run as one file, or as a folder of them
errors           name the file and the remedy in errors of pyarrow and the system
"""

from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.writing import PredictionWriter

__all__ = ["PredictionWriter", "SampleReader", "read"]
