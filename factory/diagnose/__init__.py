"""From a mismatch to its cause: dumps of a simulator or a board against an export."""

from factory.diagnose.case import Case as Case
from factory.diagnose.case import Guess as Guess
from factory.diagnose.diagnosis import Diagnosis as Diagnosis
from factory.diagnose.diagnosis import diagnose as diagnose
from factory.diagnose.hypotheses import TABLE as TABLE
from factory.diagnose.hypotheses import Hypothesis as Hypothesis
from factory.diagnose.waveform import Waveform as Waveform
