"""The HDF5 store: what it holds, its writer and its reader."""

from factory.store.reader import Store as Store
from factory.store.reader import StoredImages as StoredImages
from factory.store.reader import StoredLayer as StoredLayer
from factory.store.reader import open_store as open_store
from factory.store.schema import COMPRESSIONS as COMPRESSIONS
from factory.store.schema import SCHEMA as SCHEMA
from factory.store.schema import ImageOrigin as ImageOrigin
from factory.store.schema import StorePlan as StorePlan
from factory.store.schema import Variable as Variable
from factory.store.schema import activation_dtype as activation_dtype
from factory.store.schema import layer_path as layer_path
from factory.store.schema import plan_store as plan_store
from factory.store.writer import StoreWriter as StoreWriter
from factory.store.writer import create_store as create_store
from factory.store.writer import partial_folder as partial_folder
