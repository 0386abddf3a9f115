"""Verification: stores recomputed by a second path, and exports decoded by readers of their own."""

from factory.verify.either import verify as verify
from factory.verify.exported import verify_export as verify_export
from factory.verify.result import Recovered as Recovered
from factory.verify.result import VerifyReport as VerifyReport
from factory.verify.stored import verify_store as verify_store
