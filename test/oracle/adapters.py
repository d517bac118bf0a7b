"""How torchbind is called for what an OpInfo entry calls in Python.

Most entries name one of torch's built-in functions, which torchbind has under the same name. The others are Python
code around such functions; where that code only rearranges arguments, or is one short expression, it is repeated here
in terms of the functions that torchbind has.
"""

import torch
import torch.nn.functional as F


class Call:
    """A call of a function, a method or (`attribute`) a property of torchbind, by PyTorch's name. Arguments may be calls."""

    def __init__(self, name, *args, method=False, attribute=False, pick=None, **kwargs):
        self.name, self.args, self.kwargs = name, list(args), kwargs
        self.method, self.attribute, self.pick = method, attribute, pick


def method(name, x, *args, **kwargs):
    return Call(name, x, *args, method=True, **kwargs)


def changed_copy(name, x, *args, **kwargs):
    return method(name, method("clone", x), *args, **kwargs)


ADAPTERS = {}


def adapts(*names):
    def register(function):
        for name in names:
            ADAPTERS[name] = function
        return function

    return register


def builtin(op):
    """The name of a built-in function in torchbind, or None where the entry calls something else."""
    function = op.op
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return "ops." + str(function).removeprefix("torch.ops.")
    if type(function).__name__ != "builtin_function_or_method":
        return None
    name = function.__name__
    space = function.__module__.removeprefix("torch._C._")
    if space in ("linalg", "fft", "special"):
        return f"{space}.{name.removeprefix(space + '_')}"
    return f"ops.aten.{name}" if name.startswith("_") else name


def adapt(op, values, args, kwargs):
    """The call for one sample; None where torchbind has nothing that takes its place."""
    adapter = adapter_of(op)
    if adapter is not None:
        return adapter(values, *args, **kwargs)
    name = builtin(op)
    return None if name is None else Call(name, values, *args, **kwargs)


def adapter_of(op):
    return ADAPTERS.get(op.full_name) or ADAPTERS.get(op.name)


def has_adapter(op):
    return adapter_of(op) is not None or builtin(op) is not None


# Functions and methods whose entries hide behind a lambda.

# Their samples say requires_grad=False, which torchbind takes in the functions that make tensors from sizes alone.


def without_requires_grad(name, *args, requires_grad=False, **kwargs):
    return None if requires_grad else Call(name, *args, **kwargs)


for _name in "empty_strided empty_permuted".split():
    ADAPTERS[_name] = lambda *args, _name=_name, **kwargs: without_requires_grad(_name, *args, **kwargs)


@adapts("nonzero")
def nonzero(x, as_tuple=False):
    return Call("nonzero_numpy" if as_tuple else "nonzero", x)


@adapts("arange")
def arange(*args, **kwargs):
    """Named bounds are given in their places; booleans are no numbers in JavaScript."""
    args = [*args, *[kwargs.pop(name) for name in ("start", "end", "step") if name in kwargs]]
    return None if any(isinstance(arg, bool) for arg in args) else Call("arange", *args, **kwargs)


for _name in "randn randn_like rand_like randint randint_like multinomial normal bernoulli".split():
    ADAPTERS[_name] = lambda *args, _name=_name, **kwargs: Call(_name, *args, **kwargs)

for _name in (
    "item contiguous sum_to_size expand expand_as reshape_as view view_as unfold repeat to_sparse "
    "new_zeros new_ones new_empty new_empty_strided new_full "
    "bfloat16 bool byte char double float half int long short cdouble cfloat chalf"
).split():
    ADAPTERS[_name] = lambda x, *args, _name=_name, **kwargs: method(_name, x, *args, **kwargs)

for _name in "cauchy exponential geometric log_normal uniform".split():
    ADAPTERS[_name] = lambda x, *args, _name=_name, **kwargs: method(_name + "_", x, *args, **kwargs)
ADAPTERS["normal.in_place"] = lambda x, *args, **kwargs: method("normal_", x, *args, **kwargs)

for _name in "resize_ resize_as_ zero_".split():
    ADAPTERS[_name] = lambda x, *args, _name=_name: changed_copy(_name, x, *args)

for _name in "T H mT mH".split():
    ADAPTERS[_name] = lambda x, _name=_name: Call(_name, x, attribute=True)


@adapts("normal.number_mean")
def normal_number_mean(std, mean, *args, **kwargs):
    return Call("normal", mean, std, *args, **kwargs)


@adapts("to")
def to(x, *args, **kwargs):
    count = 2 if len(args) > 1 and isinstance(args[1], torch.dtype) else 1
    return method("to", x, *args[:count], **dict(zip(["non_blocking", "copy"], args[count:])), **kwargs)


@adapts("polygamma", "special.polygamma")
def polygamma(x, n, **kwargs):
    return Call("polygamma", n, x, **kwargs)


@adapts("where")
def where(values, condition, other, **kwargs):
    return Call("where", condition, values, other, **kwargs)


@adapts("einsum")
def einsum(tensors, equation):
    return Call("einsum", equation, tensors)


@adapts("linalg.lstsq.grad_oriented")
def lstsq(a, b, driver):
    return Call("linalg.lstsq", a, b, driver=driver, pick=[0, 1])


@adapts("linalg.pinv.singular")
def pinv_singular(a, b):
    return Call("linalg.pinv", Call("matmul", a, method("transpose", b, -2, -1)))


@adapts("__getitem__")
def get_item(x, index):
    return method("at", x, *(index if isinstance(index, tuple) else [index]))


# Operators with the tensor on the right.

REFLECTED = {"__radd__": "add", "__rmul__": "mul", "__rand__": "bitwise_and", "__ror__": "bitwise_or"}
REFLECTED |= {"__rxor__": "bitwise_xor", "__rsub__": "rsub"}
for _name, _target in REFLECTED.items():
    ADAPTERS[_name] = lambda x, other, _target=_target: Call(_target, x, other)
for _name, _target in {"__rmatmul__": "matmul", "__rmod__": "remainder", "__rpow__": "pow"}.items():
    ADAPTERS[_name] = lambda x, other, _target=_target: Call(_target, other, x)


@adapts("__rdiv__")
def rdiv(x, other):
    return Call("mul", method("reciprocal", x), other)


# torch.functional

for _name in "broadcast_tensors block_diag cartesian_prod".split():
    ADAPTERS[_name] = lambda first, *rest, _name=_name: Call(_name, [first, *rest])


@adapts("meshgrid")
def meshgrid(first, *rest, **kwargs):
    return Call("meshgrid", first if isinstance(first, (list, tuple)) else [first, *rest], **kwargs)


for _name in "atleast_1d atleast_2d atleast_3d".split():
    ADAPTERS[_name] = lambda first, *rest, _name=_name: Call(_name, [first, *rest] if rest else first)


@adapts("cdist")
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    modes = {"use_mm_for_euclid_dist_if_necessary": None, "use_mm_for_euclid_dist": 1}
    return Call("cdist", x1, x2, p, modes.get(compute_mode, 2))


@adapts("stft")
def stft(x, n_fft, *args, **kwargs):
    names = "hop_length win_length window center pad_mode normalized onesided return_complex align_to_window".split()
    return Call("stft", x, n_fft, **{"center": True, **dict(zip(names, args)), **kwargs})


@adapts("lu")
def lu(x, pivot=True, get_infos=False):
    return Call("ops.aten._lu_with_info", x, pivot, not get_infos, pick=[0, 1, 2] if get_infos else [0, 1])


@adapts("split", "split.list_args")
def split(x, size, dim=0):
    return method("split", x, size, dim)


@adapts("tensordot")
def tensordot(a, b, dims=2):
    if isinstance(dims, int):
        dims = [list(range(-dims, 0)), list(range(dims))]
    return Call("tensordot", a, b, *dims)


@adapts("unique")
def unique(x, sorted=True, return_inverse=False, return_counts=False, dim=None):
    return Call(
        "unique", x, sorted=sorted, return_inverse=return_inverse, return_counts=return_counts, dim=dim
    )


@adapts("unique_consecutive")
def unique_consecutive(x, return_inverse=False, return_counts=False, dim=None):
    return Call("unique_consecutive", x, return_inverse=return_inverse, return_counts=return_counts, dim=dim)


@adapts("norm", "norm.nuc", "norm.fro", "norm.inf")
def norm(x, p="fro", dim=None, keepdim=False, dtype=None):
    dims = [dim] if isinstance(dim, int) else dim
    if isinstance(p, str):
        if p == "fro" and (dims is None or len(dims) <= 2):
            return Call("linalg.vector_norm", x, 2, dims, keepdim, dtype=dtype)
        return Call("linalg.matrix_norm", x, p, dims or list(range(x.ndim)), keepdim, dtype=dtype)
    return Call("linalg.vector_norm", x, 2.0 if p is None else p, dims, keepdim, dtype=dtype)


# torch.nn.functional: layers

REDUCTION = {"none": 0, "mean": 1, "sum": 2}


def adapt_functional(names, make):
    for name in names.split():
        ADAPTERS["nn.functional." + name] = lambda *args, _name=name, **kwargs: make(_name, *args, **kwargs)


adapt_functional(
    "adaptive_avg_pool2d adaptive_avg_pool3d relu hardswish selu silu hardsigmoid mish relu6 glu",
    lambda name, x, *args, inplace=False, **kwargs: Call(name, x, *args, **kwargs),
)
adapt_functional("leaky_relu", lambda name, x, negative_slope=0.01, inplace=False: Call(name, x, negative_slope))
adapt_functional("elu celu", lambda name, x, alpha=1.0, inplace=False: Call(name, x, alpha))
adapt_functional("hardtanh", lambda name, x, min_val=-1.0, max_val=1.0, inplace=False: Call(name, x, min_val, max_val))
adapt_functional("threshold", lambda name, x, threshold, value, inplace=False: Call(name, x, threshold, value))
adapt_functional(
    "rrelu", lambda name, x, lower=1 / 8, upper=1 / 3, training=False, inplace=False: Call(name, x, lower, upper, training)
)
adapt_functional(
    "scaled_dot_product_attention", lambda name, *args, **kwargs: Call("nn.functional." + name, *args, **kwargs)
)
adapt_functional("softsign", lambda name, x: Call("div", x, Call("add", Call("abs", x), 1)))
adapt_functional("tanhshrink", lambda name, x: Call("sub", x, Call("tanh", x)))


@adapts("nn.functional.softmin")
def softmin(x, dim, dtype=None):
    return method("softmax", Call("neg", x), dim, dtype=dtype)


@adapts("nn.functional.dropout")
def dropout(x, p=0.5, training=True, inplace=False):
    return Call("nn.functional.dropout", x, p, training)


DROPOUTS = {"dropout2d": "feature_dropout", "dropout3d": "feature_dropout", "alpha_dropout": "alpha_dropout"}
DROPOUTS |= {"feature_alpha_dropout": "feature_alpha_dropout"}


def feature_dropout(name, x, p=0.5, training=None, inplace=False):
    training = name in ("dropout2d", "dropout3d") if training is None else training
    if name == "dropout3d" and x.ndim != 5:
        return method("squeeze", Call(DROPOUTS[name], method("unsqueeze", x, 0), p, training), 0)
    return Call(DROPOUTS[name], x, p, training)


adapt_functional(" ".join(DROPOUTS), feature_dropout)


@adapts("nn.functional.layer_norm")
def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    return Call("nn.functional.layer_norm", x, shape, weight, bias, eps)


@adapts("nn.functional.rms_norm")
def rms_norm(x, shape, weight=None, eps=None):
    return Call("rms_norm", x, shape, weight, eps)


@adapts("nn.functional.group_norm")
def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    return Call("group_norm", x, groups, weight, bias, eps)


@adapts("nn.functional.instance_norm")
def instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    return Call(
        "instance_norm", x, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, True
    )


@adapts("nn.functional.batch_norm", "nn.functional.batch_norm.without_cudnn")
def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    return Call("batch_norm", x, weight, bias, running_mean, running_var, training, momentum, eps, True)


@adapts("nn.functional.normalize")
def normalize(x, p=2.0, dim=1, eps=1e-12):
    length = Call("linalg.vector_norm", x, p, [dim], True)
    return Call("div", x, method("expand_as", method("clamp_min", length, eps), x))


@adapts("nn.functional.local_response_norm")
def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    if x.numel() == 0:
        return None
    squares, before, after = Call("mul", x, x), size // 2, (size - 1) // 2
    if x.ndim == 3:
        padded = Call("pad", method("unsqueeze", squares, 1), [0, 0, before, after])
        mean = method("squeeze", Call("avg_pool2d", padded, [size, 1], 1), 1)
    else:
        sizes = x.shape
        padded = Call("pad", method("view", squares, [sizes[0], 1, sizes[1], sizes[2], -1]), [0, 0, 0, 0, before, after])
        mean = method("view", method("squeeze", Call("avg_pool3d", padded, [size, 1, 1], 1), 1), list(sizes))
    return Call("div", x, method("pow", method("add", method("mul", mean, alpha), k), beta))


@adapts("nn.functional.embedding")
def embedding(weight, index, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    if max_norm is not None:
        return None
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    padding_idx = -1 if padding_idx is None else padding_idx
    if scale_grad_by_freq or sparse:
        return Call("embedding", weight, index, padding_idx, scale_grad_by_freq, sparse)
    return Call("nn.functional.embedding", index, weight, padding_idx=padding_idx)


@adapts("nn.functional.embedding_bag")
def embedding_bag(
    weight,
    index,
    offsets=None,
    max_norm=None,
    norm_type=2,
    scale_grad_by_freq=False,
    mode="mean",
    sparse=False,
    per_sample_weights=None,
    include_last_offset=False,
    padding_idx=None,
):
    if max_norm is not None:
        return None
    if index.ndim == 2:
        offsets = torch.arange(0, index.numel(), index.size(1), dtype=index.dtype)
        index, include_last_offset = index.reshape(-1), False
        per_sample_weights = None if per_sample_weights is None else method("reshape", per_sample_weights, [-1])
    return Call(
        "embedding_bag",
        weight,
        index,
        offsets,
        scale_grad_by_freq,
        ["sum", "mean", "max"].index(mode),
        sparse,
        per_sample_weights,
        include_last_offset,
        padding_idx,
        pick=0,
    )


@adapts("nn.functional.pad")
def pad(x, pad, mode="constant", value=None):
    return Call("pad", x, pad, mode, value)


@adapts("nn.functional.unfold")
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    return Call("im2col", x, kernel_size, dilation, padding, stride)


@adapts("nn.functional.grid_sample")
def grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    modes, paddings = ["bilinear", "nearest", "bicubic"], ["zeros", "border", "reflection"]
    return Call("grid_sampler", x, grid, modes.index(mode), paddings.index(padding_mode), bool(align_corners))


# torch.nn.functional: pooling and resizing


def adaptive_max_pool(name, x, output_size, return_indices=False):
    return Call(name, x, sizes(output_size, x, int(name[-2])), pick=None if return_indices else 0)


def sizes(output_size, x, count):
    """None stands for the size that the input has."""
    values = [output_size] * count if not isinstance(output_size, (list, tuple)) else list(output_size)
    return [x.shape[i - count] if value is None else value for i, value in enumerate(values)]


adapt_functional("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", adaptive_max_pool)
adapt_functional(
    "adaptive_avg_pool2d adaptive_avg_pool3d", lambda name, x, size: Call(name, x, sizes(size, x, int(name[-2])))
)


def max_pool(name, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    stride = [] if stride is None else stride
    name = name + "_with_indices" if return_indices else name
    return Call(name, x, kernel_size, stride, padding, dilation, ceil_mode)


adapt_functional("max_pool1d max_pool2d max_pool3d", max_pool)


def max_unpool(name, x, indices, kernel_size, stride=None, padding=0, output_size=None):
    count = int(name[-2])
    many = lambda value: [value] * count if isinstance(value, int) else list(value)
    kernel = many(kernel_size)
    stride, padding = kernel if stride is None else many(stride), many(padding)
    size = F._unpool_output_size(x, kernel, stride, padding, output_size)
    size = list(size)[-count:]
    if count == 1:
        lift = lambda value: method("unsqueeze", value, -1)
        return method("squeeze", Call("max_unpool2d", lift(x), lift(indices), [*size, 1]), -1)
    return Call(name, x, indices, size, *([stride, padding] if count == 3 else []))


adapt_functional("max_unpool1d max_unpool2d max_unpool3d", max_unpool)


def fractional_max_pool(
    name, x, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None
):
    count = int(name[-2])
    if output_size is None:
        ratio = [output_ratio] * count if not isinstance(output_ratio, (list, tuple)) else output_ratio
        output_size = [int(x.shape[i - count] * ratio[i]) for i in range(count)]
    if _random_samples is None:
        batch = 1 if x.ndim == count + 1 else x.shape[0]
        torch.manual_seed(42)
        _random_samples = torch.rand(batch, x.shape[-count - 1], count, dtype=x.dtype)
    return Call(name, x, kernel_size, output_size, _random_samples, pick=None if return_indices else 0)


adapt_functional("fractional_max_pool2d fractional_max_pool3d", fractional_max_pool)

UPSAMPLE = {"nearest": "upsample_nearest{}d", "nearest-exact": "ops.aten._upsample_nearest_exact{}d"}
UPSAMPLE |= {"linear": "upsample_linear1d", "bilinear": "upsample_bilinear2d", "trilinear": "upsample_trilinear3d"}
UPSAMPLE |= {"bicubic": "upsample_bicubic2d"}


@adapts("nn.functional.interpolate")
def interpolate(
    x,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    count = x.ndim - 2
    if mode == "area" or recompute_scale_factor or antialias:
        return None
    many = lambda value: list(value) if isinstance(value, (list, tuple)) else [value] * count
    size = None if size is None else many(size)
    scale = None if scale_factor is None else [float(value) for value in many(scale_factor)]
    name = UPSAMPLE[mode].format(count)
    if "nearest" in mode:
        return Call(name, x, size, scale)
    return Call(name, x, size, bool(align_corners), scale)


@adapts("nn.functional.upsample_bilinear")
def upsample_bilinear(x, size=None, scale_factor=None):
    return interpolate(x, size, scale_factor, "bilinear", True)


@adapts("nn.functional.upsample_nearest")
def upsample_nearest(x, size=None, scale_factor=None):
    return interpolate(x, size, scale_factor, "nearest")


@adapts("max_pool2d_with_indices_backward")
def max_pool2d_backward(*args, **kwargs):
    return None


# torch.nn.functional: losses


def loss(name, *arguments):
    """A loss of aten: (input, target, *arguments, reduction)."""

    def make(_, x, target, *args, reduction="mean", **kwargs):
        given = {**dict(zip(["weight", "size_average", "reduce"], args)), **kwargs}
        if given.get("size_average") is not None or given.get("reduce") is not None:
            return None
        values = [given.get(key, default) for key, default in arguments]
        return Call(name, x, target, *values, REDUCTION[reduction])

    return make


adapt_functional("binary_cross_entropy", loss("binary_cross_entropy", ("weight", None)))
adapt_functional(
    "binary_cross_entropy_with_logits",
    loss("binary_cross_entropy_with_logits", ("weight", None), ("pos_weight", None)),
)
adapt_functional("soft_margin_loss", loss("soft_margin_loss"))
adapt_functional("multilabel_margin_loss", loss("multilabel_margin_loss"))
adapt_functional("hinge_embedding_loss", loss("hinge_embedding_loss", ("margin", 1.0)))
adapt_functional(
    "poisson_nll_loss", loss("poisson_nll_loss", ("log_input", True), ("full", False), ("eps", 1e-8))
)


@adapts("nn.functional.multi_margin_loss")
def multi_margin_loss(x, target, p=1, margin=1.0, weight=None, reduction="mean"):
    return Call("multi_margin_loss", x, target, p, margin, weight, REDUCTION[reduction])


@adapts("nn.functional.l1_loss")
def l1_loss(x, target, reduction="mean", weight=None):
    if weight is not None or x.shape != target.shape:
        return None
    return Call("l1_loss", x, target, REDUCTION[reduction])


@adapts("nn.functional.mse_loss")
def mse_loss(x, target, reduction="mean", weight=None):
    if weight is not None or x.shape != target.shape:
        return None
    return Call("nn.functional.mse_loss", x, target, reduction=reduction)


@adapts("nn.functional.smooth_l1_loss")
def smooth_l1_loss(x, target, reduction="mean", beta=1.0):
    if x.shape != target.shape:
        return None
    if beta == 0:
        return Call("l1_loss", x, target, REDUCTION[reduction])
    return Call("smooth_l1_loss", x, target, REDUCTION[reduction], beta)


@adapts("nn.functional.huber_loss")
def huber_loss(x, target, reduction="mean", delta=1.0, weight=None):
    if weight is not None or x.shape != target.shape:
        return None
    return Call("huber_loss", x, target, REDUCTION[reduction], delta)


@adapts("nn.functional.margin_ranking_loss")
def margin_ranking_loss(a, b, target, margin=0, reduction="mean"):
    return Call("margin_ranking_loss", a, b, target, margin, REDUCTION[reduction])


@adapts("nn.functional.cosine_embedding_loss")
def cosine_embedding_loss(a, b, target, margin=0, reduction="mean"):
    return Call("cosine_embedding_loss", a, b, target, margin, REDUCTION[reduction])


@adapts("nn.functional.triplet_margin_loss")
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, reduction="mean"):
    return Call("triplet_margin_loss", anchor, positive, negative, margin, p, eps, swap, REDUCTION[reduction])


@adapts("nn.functional.kl_div")
def kl_div(x, target, reduction="mean", log_target=False):
    if reduction == "batchmean":
        return Call("div", Call("kl_div", x, target, 2, log_target=log_target), x.shape[0])
    return Call("kl_div", x, target, REDUCTION[reduction], log_target=log_target)


@adapts("nn.functional.nll_loss")
def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean"):
    return Call("nll_loss_nd", x, target, weight, REDUCTION[reduction], ignore_index)


@adapts("nn.functional.cross_entropy")
def cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    return Call(
        "nn.functional.cross_entropy",
        x,
        target,
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


@adapts("nn.functional.ctc_loss")
def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    return Call(
        "ctc_loss", log_probs, targets, input_lengths, target_lengths, blank, REDUCTION[reduction], zero_infinity
    )
