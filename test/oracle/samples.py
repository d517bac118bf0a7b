"""Runs PyTorch's own operator samples (OpInfo) and writes what went in and what came out, for torchbind to repeat.

    python samples.py DIRECTORY

Each file in DIRECTORY is a torch.save of [text, tensors]: the text is JSON that describes calls and refers to tensors by
their place in the list. Prints a JSON document about the files and about the entries that could not be written.
"""

import collections
import itertools
import json
import math
import os
import sys
import warnings

import torch
from torch.testing._internal.common_methods_invocations import op_db

from adapters import Call, adapt, has_adapter

SEED = 42
OPERATORS_PER_FILE = 25
# Bytes of a storage beyond which a sample is left out: a few grid and convolution samples hold megabytes.
LARGEST = 1 << 19
# Samples of an operator by dtype: many of the first that it takes in each row, and a few of the others.
DTYPES = [
    (12, [torch.float64, torch.float32, torch.int64, torch.bool]),
    (6, [torch.float32]),
    (4, [torch.complex64, torch.complex128]),
    (4, [torch.int64, torch.uint8]),
    (2, [torch.bfloat16, torch.float16]),
    (2, [torch.bool]),
]
# Operators whose values nobody set.
UNSET = {"empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "empty_permuted", "resize_", "resize_as_"}


class Skip(Exception):
    """Why a sample cannot be handed over."""


class Writer:
    """Collects the calls of a few operators and the tensors that they refer to."""

    def __init__(self):
        self.tensors, self.places, self.cases = [], {}, []

    def place(self, tensor):
        """Where a tensor stands in the list. The list keeps it alive, so that its id stays its own."""
        if id(tensor) not in self.places:
            self.places[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return self.places[id(tensor)]

    def encode(self, value):
        if isinstance(value, torch.Tensor):
            return {"$": "tensor", "at": self.place(value)}
        if isinstance(value, Call):
            return self.encode_call(value)
        if isinstance(value, (list, tuple)):
            return [self.encode(item) for item in value]
        return encode_plain(value)

    def encode_call(self, call):
        return {
            "$": "call",
            "name": call.name,
            "form": "method" if call.method else "attribute" if call.attribute else "function",
            "args": [self.encode(arg) for arg in call.args],
            "options": {key: self.encode(value) for key, value in call.kwargs.items() if value is not None},
            "pick": call.pick,
        }

    def encode_result(self, value):
        if isinstance(value, torch.Tensor):
            dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
            plain = dense.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
            strides = list(value.stride()) if value.layout == torch.strided else None
            return {"$": "tensor", "at": self.place(plain), "strides": strides}
        if isinstance(value, (list, tuple)):
            return [self.encode_result(item) for item in value]
        return encode_plain(value)


def encode_plain(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else {"$": "bigint", "value": str(value)}
    if isinstance(value, float):
        if math.isfinite(value) and (value != math.trunc(value) or (value == 0 and math.copysign(1, value) < 0)):
            return value
        return {"$": "float", "value": str(value)}
    if isinstance(value, complex):
        return {"$": "complex", "re": encode_plain(value.real), "im": encode_plain(value.imag)}
    if isinstance(value, torch.dtype):
        return {"$": "dtype", "name": str(value).removeprefix("torch.")}
    if isinstance(value, (torch.layout, torch.memory_format)):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, slice):
        return ":".join("" if part is None else str(part) for part in (value.start, value.stop, value.step or 1))
    if value is Ellipsis:
        return "..."
    raise Skip(f"an argument is a {type(value).__name__}")


def flatten(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from flatten(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from flatten(item)


def replace(value, make):
    if isinstance(value, torch.Tensor):
        return make(value)
    if isinstance(value, torch.Size):
        return list(value)
    if isinstance(value, (list, tuple)):
        return type(value)(*[replace(item, make) for item in value]) if hasattr(value, "_fields") else type(value)(
            replace(item, make) for item in value
        )
    if isinstance(value, dict):
        return {key: replace(item, make) for key, item in value.items()}
    return value


def leaf(tensor):
    """The tensor without a graph behind it, in memory of its own: some samples share tensors that operators change."""
    if tensor.layout != torch.strided:
        raise Skip("an input is sparse")
    if tensor.untyped_storage().nbytes() > LARGEST:
        raise Skip("an input is large")
    return copied(tensor.detach().resolve_conj().resolve_neg()).requires_grad_(tensor.requires_grad)


def copied(tensor):
    """A tensor of the same sizes and strides over a copy of its storage."""
    fresh = torch.empty(0, dtype=tensor.dtype)
    storage = tensor.untyped_storage().clone()
    return fresh.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())


def weights(output):
    """Fixed gradients for an output: different for each element, exactly the same at every run."""
    values = torch.arange(output.numel(), dtype=torch.float64).mul(0.7).cos()
    if output.is_complex():
        values = torch.complex(values, values.neg().add(0.5))
    return values.to(output.dtype).reshape(output.shape)


class Case:
    """One sample of an operator in one dtype, run in Python."""

    def __init__(self, op, dtype, sample):
        self.op, self.dtype = op, dtype
        self.input, self.args, self.kwargs = replace((sample.input, sample.args, sample.kwargs), leaf)
        self.tensors = list({id(t): t for t in flatten((self.input, self.args, self.kwargs))}.values())

    def run(self):
        before = [(tensor._version, copied(tensor)) for tensor in self.tensors]
        torch.manual_seed(SEED)
        # The entry for rand_like calls randn_like.
        function = torch.rand_like if self.op.name == "rand_like" else self.op.op
        self.output = function(self.input, *self.args, **self.kwargs)
        self.outputs = list(flatten(self.output))
        self.changed = [
            (tensor, copy) for tensor, (version, copy) in zip(self.tensors, before) if tensor._version != version
        ]
        if any(tensor.requires_grad for tensor, _ in self.changed):
            raise Skip("the operator writes into an input that asks for gradients")
        if sum(output.numel() * output.element_size() for output in self.outputs) > LARGEST:
            raise Skip("an output is large")

    def differentiate(self):
        """Gradients of the outputs, with fixed weights, for the inputs that ask for them; the error's text if refused."""
        wanted = [tensor for tensor in self.tensors if tensor.requires_grad]
        outputs = [output for output in self.outputs if output.requires_grad]
        if not wanted or not outputs:
            return None
        gradients = [weights(output) for output in outputs]
        try:
            found = torch.autograd.grad(outputs, wanted, gradients, allow_unused=True)
        except RuntimeError as error:
            return wanted, gradients, str(error)
        return wanted, gradients, list(found)

    def in_place(self):
        """What the operator's in-place method gives, or None."""
        function = self.op.inplace_variant
        if type(function).__name__ != "method_descriptor" or not isinstance(self.input, torch.Tensor):
            return None
        target = self.input.detach().clone()
        torch.manual_seed(SEED)
        try:
            with torch.no_grad():
                return function.__name__, function(target, *self.args, **self.kwargs)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None

    def write(self, writer):
        call = adapt(self.op, self.input, self.args, self.kwargs)
        if call is None:
            raise Skip("no counterpart for these arguments")
        gradient = self.differentiate()
        case = {"op": self.op.full_name, "dtype": str(self.dtype).removeprefix("torch."), "seed": SEED}
        case["unset"] = self.op.name in UNSET
        stand_ins = {id(tensor): copy for tensor, copy in self.changed}
        before = lambda tensor: stand_ins.get(id(tensor), tensor)
        case["call"] = writer.encode(replace_in_call(call, before))
        case["method"] = self.method_name(call)
        case["output"] = writer.encode_result(self.output)
        case["changed"] = [[writer.place(copy), writer.encode_result(tensor)] for tensor, copy in self.changed]
        if gradient is not None:
            case["gradient"] = self.encode_gradient(writer, *gradient)
        straight = not self.changed and call.args[:1] and call.args[0] is self.input
        in_place = self.in_place() if straight else None
        if in_place is not None:
            case["inPlace"] = {"name": in_place[0], "output": writer.encode_result(in_place[1])}
        writer.cases.append(case)

    def encode_gradient(self, writer, wanted, gradients, found):
        encoded = {"inputs": [writer.place(t) for t in wanted], "weights": [writer.place(g) for g in gradients]}
        if isinstance(found, str):
            return {**encoded, "error": found}
        return {**encoded, "found": [writer.encode_result(gradient) for gradient in found]}

    def method_name(self, call):
        """Tensor's method of the same name, if there is one and the function is called straight."""
        method = self.op.method_variant
        plain = type(method).__name__ == "method_descriptor" and not self.changed
        if not plain or call.method or call.attribute or not isinstance(self.input, torch.Tensor):
            return None
        same = method.__name__ == call.name and call.args[:1] and call.args[0] is self.input
        return method.__name__ if same else None


def replace_in_call(call, make):
    def item(value):
        return replace_in_call(value, make) if isinstance(value, Call) else replace_items(value)

    def replace_items(value):
        return [item(entry) for entry in value] if isinstance(value, (list, tuple)) else replace(value, make)

    made = Call(call.name, *map(item, call.args), method=call.method, attribute=call.attribute, pick=call.pick)
    made.kwargs = {key: item(value) for key, value in call.kwargs.items()}
    return made


def dtypes_of(op):
    """(count, dtype): how many samples to take in which dtypes."""
    supported, taken = op.supported_dtypes("cpu"), set()
    for count, wanted in DTYPES:
        dtype = next((dtype for dtype in wanted if dtype in supported), None)
        if dtype is not None and dtype not in taken:
            taken.add(dtype)
            yield count, dtype


def samples_of(op, dtype, count):
    differentiable = op.supports_autograd and (dtype.is_floating_point or dtype.is_complex)
    return itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=differentiable), count)


def write_operator(op, writer):
    """Writes an operator's samples; returns why samples were left out, with how many."""
    left_out = collections.Counter()
    if not has_adapter(op):
        return left_out
    for count, dtype in dtypes_of(op):
        torch.manual_seed(SEED)
        try:
            samples = list(samples_of(op, dtype, count))
        except (RuntimeError, NotImplementedError) as error:
            left_out[f"PyTorch cannot make samples: {first_line(error)}"] += 1
            continue
        for sample in samples:
            try:
                case = Case(op, dtype, sample)
                case.run()
                case.write(writer)
            except Skip as reason:
                left_out[str(reason)] += 1
            except (RuntimeError, TypeError, ValueError, NotImplementedError, IndexError) as error:
                left_out[f"{type(error).__name__} in Python: {first_line(error)}"] += 1
    return left_out


def first_line(error):
    return (str(error).splitlines() or [""])[0][:160]


def why_not_covered(op):
    if op.name.startswith("jiterator"):
        return "compiles CUDA code while it runs"
    return "composite in Python" if not has_adapter(op) else "no usable sample"


def main(directory):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    files, entries, writer = [], [], Writer()

    def close():
        nonlocal writer
        path = os.path.join(directory, f"samples-{len(files)}.pt")
        torch.save([json.dumps(writer.cases), [tensor.detach() for tensor in writer.tensors]], path)
        files.append(path)
        writer = Writer()

    for index, op in enumerate(op_db):
        before = len(writer.cases)
        left_out = write_operator(op, writer)
        entry = {"name": op.full_name, "samples": len(writer.cases) - before, "leftOut": left_out}
        if entry["samples"] == 0:
            entry["why"] = why_not_covered(op)
        entries.append(entry)
        if index % OPERATORS_PER_FILE == OPERATORS_PER_FILE - 1 or index == len(op_db) - 1:
            close()
    versions = {"torch": torch.__version__, "python": sys.version.split()[0]}
    print(json.dumps({"files": files, "entries": entries, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1])
