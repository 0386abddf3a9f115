"""Memory files: layouts and profiles as data, formats, and their readers."""

from factory.memfile.explain import explain as explain
from factory.memfile.explain import explain_profile as explain_profile
from factory.memfile.explain import list_profiles as list_profiles
from factory.memfile.formats import FORMATS as FORMATS
from factory.memfile.formats import encode as encode
from factory.memfile.header import HEADERS as HEADERS
from factory.memfile.keys import keys_as_comments as keys_as_comments
from factory.memfile.layout import Layout as Layout
from factory.memfile.layout import Split as Split
from factory.memfile.memory import Memory as Memory
from factory.memfile.names import complete_template as complete_template
from factory.memfile.profile import POSTS as POSTS
from factory.memfile.profile import Profile as Profile
from factory.memfile.readers import decode as decode
from factory.memfile.roles import DATAFLOWS as DATAFLOWS
from factory.memfile.roles import INCLUDES as INCLUDES
from factory.memfile.roles import ROLES as ROLES
from factory.memfile.roles import Role as Role
from factory.memfile.toml import load_profile as load_profile
from factory.memfile.toml import profile_names as profile_names
from factory.memfile.toml import profile_to_toml as profile_to_toml
