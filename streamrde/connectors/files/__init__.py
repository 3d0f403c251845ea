"""Recorded files: samples in, predictions out.

recordings       find the files that a pattern names
reading          turn their rows into samples: `read`, `SampleReader`
sample_file      convert a file's columns, or say which row cannot be used
record_batches   read one file of any format batch by batch
formats/         one module per format: parquet, arrow_ipc, csv
text_files       open text files in any dialect; recogniser finds the dialect out
csv_dialect      explain a text file that lacks columns; cells judges texts
filters, units   choose rows, convert channels to the model's units
long_form, spread, together   rows with one channel each, channels in several files, rows of one time as one
restarts         recognise a stream that begins again
sorting          put samples in order of time on disk
writing          write predictions: `PredictionWriter`
arrow, parts     the predictions of a live run as one file, or as a folder of them
file             dead letters as lines of a file
errors           name the file and the remedy in errors of pyarrow and the system
"""

from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.writing import PredictionWriter

__all__ = ["PredictionWriter", "SampleReader", "read"]
