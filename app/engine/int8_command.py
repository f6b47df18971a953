"""`python -m app check-int8`: vLLM's int8 matrix product on this machine against the exact one."""

import argparse

from app.core.llama_shape import SHAPES
from app.core.number_arguments import read_numbers

# Both sides of every size at which vLLM's CUTLASS kernels change their tiles, and the ends.
ROWS = "1,2,7,16,17,32,33,64,65,128,129,256,257,512,1024,2048,4096,8192"
DIFFERS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b", help="default: %(default)s")
    parser.add_argument("--rows", default=ROWS, help="tokens at a time (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Exits with 1 where an output is off by more than its rounding."""
    rows = read_numbers(arguments.rows, "--rows")
    import torch

    from app.engine.device import describe_device
    from app.engine.int8_product import Int8Kernel, compare, make_inputs, random_layer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)  # vLLM's kernels take their output type from here
    about = describe_device()
    print(f"{about['device']}, vLLM {about['vllm']}, torch {about['torch']}")
    print("| product | outputs x inputs | tokens | kernel | largest error | allowed | off |")
    print("|---|---|--:|---|--:|--:|--:|")
    total = 0
    for name, (widths, inputs) in SHAPES[arguments.shape].products.items():
        layer = random_layer(widths, inputs, device)
        kernel = Int8Kernel(layer, device)
        for number in rows:
            found = compare(make_inputs(number, inputs, torch.bfloat16, device), layer, kernel)
            print(
                f"| {name} | {sum(widths)} x {inputs} | {number} | {found.kernel} | "
                f"{found.largest:.6f} | {found.allowed:.6f} | {found.num_wrong} |",
                flush=True,
            )
            total += found.num_wrong
    print(f"{total} outputs are off by more than the rounding of their type.")
    return DIFFERS if total else 0
