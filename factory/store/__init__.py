"""The HDF5 store: what it holds, its writer and its reader."""

from factory.store.reader import LayerStore as LayerStore
from factory.store.reader import Store as Store
from factory.store.reader import StoredImages as StoredImages
from factory.store.reader import StoredLayer as StoredLayer
from factory.store.reader import layers_html as layers_html
from factory.store.reader import open_store as open_store
from factory.store.reader import opened as opened
from factory.store.variables import COMPRESSIONS as COMPRESSIONS
from factory.store.variables import KEPT as KEPT
from factory.store.variables import SCHEMA as SCHEMA
from factory.store.variables import ImageOrigin as ImageOrigin
from factory.store.variables import LayerOrigin as LayerOrigin
from factory.store.variables import PlannedLayer as PlannedLayer
from factory.store.variables import StorePlan as StorePlan
from factory.store.variables import Variable as Variable
from factory.store.variables import activation_dtype as activation_dtype
from factory.store.variables import layer_path as layer_path
from factory.store.variables import lowered_layer as lowered_layer
from factory.store.variables import plan_store as plan_store
from factory.store.writer import StoreWriter as StoreWriter
from factory.store.writer import create_store as create_store
from factory.store.writer import is_store as is_store
from factory.store.writer import partial_folder as partial_folder
