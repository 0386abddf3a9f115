"""Self-checking testbenches: what is fed, what is compared, and the SystemVerilog that does it."""

from factory.testbench.bench import bench_of as bench_of
from factory.testbench.dump import streamed_files as streamed_files
from factory.testbench.dump import write_given as write_given
from factory.testbench.emit import DEVICE_LIST as DEVICE_LIST
from factory.testbench.emit import DEVICE_SOURCES as DEVICE_SOURCES
from factory.testbench.emit import FOLDER as FOLDER
from factory.testbench.emit import LIST as LIST
from factory.testbench.emit import TOP as TOP
from factory.testbench.emit import bench_files as bench_files
from factory.testbench.emit import device_sources as device_sources
from factory.testbench.emit import jobs_text as jobs_text
from factory.testbench.emit import package_text as package_text
from factory.testbench.records import Bench as Bench
from factory.testbench.records import Device as Device
from factory.testbench.records import EdgeDevice as EdgeDevice
from factory.testbench.records import EdgeJob as EdgeJob
from factory.testbench.records import Job as Job
from factory.testbench.records import Load as Load
from factory.testbench.records import Stream as Stream
from factory.testbench.records import Walk as Walk
from factory.testbench.words import JobWords as JobWords
from factory.testbench.words import read_jobs as read_jobs
