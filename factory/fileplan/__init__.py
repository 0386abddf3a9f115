"""The plan of an export: its options, and every file it has, before anything is computed or read."""

from factory.fileplan.files import ExportPlan as ExportPlan
from factory.fileplan.files import FileSet as FileSet
from factory.fileplan.files import LayerFiles as LayerFiles
from factory.fileplan.files import layer_files as layer_files
from factory.fileplan.loader import read_plan as read_plan
from factory.fileplan.options import PE_ACTIVATIONS as PE_ACTIVATIONS
from factory.fileplan.options import ExportOptions as ExportOptions
