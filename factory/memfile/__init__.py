"""Memory files: layouts and profiles as data, where each value lies in them, and every format both ways."""

from factory.memfile.explain import explain as explain
from factory.memfile.explain import explain_profile as explain_profile
from factory.memfile.explain import keys_as_comments as keys_as_comments
from factory.memfile.explain import list_profiles as list_profiles
from factory.memfile.formats import FORMATS as FORMATS
from factory.memfile.formats import HEADERS as HEADERS
from factory.memfile.formats import decode as decode
from factory.memfile.formats import encode as encode
from factory.memfile.layout import Align as Align
from factory.memfile.layout import Layout as Layout
from factory.memfile.layout import complete_template as complete_template
from factory.memfile.layout import template_fields as template_fields
from factory.memfile.placement import Placement as Placement
from factory.memfile.placement import Spot as Spot
from factory.memfile.profile import POSTS as POSTS
from factory.memfile.profile import Profile as Profile
from factory.memfile.profile import load_profile as load_profile
from factory.memfile.profile import profile_names as profile_names
from factory.memfile.profile import profile_to_toml as profile_to_toml
from factory.memfile.regroup import Split as Split
from factory.memfile.word import Beats as Beats
from factory.memfile.word import Memory as Memory
from factory.memfile.word import WordFormat as WordFormat
