"""Wrong vectors: each changes one file of a flat export that holds activation, weight, out, psum and conv."""

from collections.abc import Callable
from dataclasses import dataclass

ACTIVATION = "activation_tile0.txt"
WEIGHT = "weight_itile1_otile0_kij4.txt"
PSUM = "psum_itile1_otile1_kij2.txt"
PARTIAL = "acc_itile0_otile1.txt"
ACC = "acc_otile0.txt"
OUT = "out_otile1.txt"
JOBS = "testbench/jobs.txt"


@dataclass(frozen=True)
class Mutant:
    """`change` gives the new text of the file `path` from its own and, where named, that of the file `other`."""

    what: str
    path: str
    change: Callable[..., str]
    other: str | None = None


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    return lambda text: "".join(f"{line}\n" for line in change(text.splitlines()))


def _flip(line: str, at: int) -> str:
    at %= len(line)
    return line[:at] + "10"[int(line[at])] + line[at + 1 :]


def _at(place: int, change: Callable[[str], str]) -> Callable[[str], str]:
    return _lines(lambda lines: [change(line) if i == place else line for i, line in enumerate(lines)])


def _fields(bits: int, change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    def changed(line: str) -> str:
        return "".join(change([line[i : i + bits] for i in range(0, len(line), bits)]))

    return _lines(lambda lines: list(map(changed, lines)))


def _negative_to_magnitude(field: str) -> str:
    return f"1{format((1 << 16) - int(field, 2), '015b')}" if field[0] == "1" else field


def _one_more(line: str) -> str:
    return format(int(line, 2) + 1, f"0{len(line)}b")


MUTANTS = (
    Mutant("an activation's low bit is wrong", ACTIVATION, _at(8, lambda line: _flip(line, -1))),
    Mutant("a weight's sign is wrong", WEIGHT, _at(2, lambda line: _flip(line, 4))),
    Mutant("activations are one pixel late", ACTIVATION, _lines(lambda lines: lines[-1:] + lines[:-1])),
    Mutant("activation lanes are reversed", ACTIVATION, _fields(4, lambda fields: fields[::-1])),
    Mutant("weight lanes are reversed", WEIGHT, _fields(4, lambda fields: fields[::-1])),
    Mutant("weight columns are reversed", WEIGHT, _lines(lambda lines: lines[::-1])),
    Mutant("weights are those of the next kij", WEIGHT, lambda text, other: other, "weight_itile1_otile0_kij5.txt"),
    Mutant("weights are those of the other ot", WEIGHT, lambda text, other: other, "weight_itile1_otile1_kij4.txt"),
    Mutant("it are swapped", ACTIVATION, lambda text, other: other, "activation_tile1.txt"),
    Mutant("psums are those of the next kij", PSUM, lambda text, other: other, "psum_itile1_otile1_kij3.txt"),
    Mutant("one psum is one too large", PSUM, _at(9, _one_more)),
    Mutant("what is accumulated after an it is that after the next", PARTIAL, lambda text, other: other,
           "acc_itile1_otile1.txt"),
    Mutant("two output pixels are swapped", OUT, _lines(lambda lines: [lines[1], lines[0], *lines[2:]])),
    Mutant("output lanes are reversed", OUT, _fields(16, lambda fields: fields[::-1])),
    Mutant("ReLU is missing", OUT, lambda text, other: other, "acc_otile1.txt"),
    Mutant("accumulators are sign and magnitude", ACC, _fields(16, lambda x: list(map(_negative_to_magnitude, x)))),
    Mutant("the last word is missing", PSUM, _lines(lambda lines: lines[:-1])),
    Mutant("there is a word too many", WEIGHT, _lines(lambda lines: [*lines, lines[-1]])),
    Mutant("the last line has no newline", OUT, lambda text: text[:-1]),
    Mutant("a digit is unknown", ACTIVATION, _at(7, lambda line: f"x{line[1:]}")),
    Mutant("a digit is not binary", OUT, _at(1, lambda line: f"2{line[1:]}")),
    Mutant("a word is too wide", WEIGHT, _at(0, lambda line: f"1{line}")),
    Mutant("a header is in the way", ACTIVATION, lambda text: f"#time0row7#\n{text}"),
    Mutant("a file is empty", OUT, lambda text: ""),
    Mutant("a job is left out", JOBS, _lines(lambda lines: [*lines[:-2], lines[-1]])),
    Mutant("a job is left out of the counts too", JOBS, lambda text: _without_last_job(text)),
    Mutant("the jobs end early", JOBS, _lines(lambda lines: lines[:-1])),
    Mutant("there are no jobs", JOBS, lambda text: "end 0 0\n"),
)  # fmt: skip


def _without_last_job(text: str) -> str:
    """Leave out the last job, and say in the last line what is compared without it."""
    *lines, job, end = text.splitlines()
    walks = list(map(int, job.split()[2 + 19 + 2 * 9 :]))
    words = sum(walks[i] * walks[i + 1] * walks[i + 2] for i in range(0, len(walks), 9))
    _, jobs, compared = end.split()
    return "".join(f"{line}\n" for line in (*lines, f"end {int(jobs) - 1} {int(compared) - words}"))
