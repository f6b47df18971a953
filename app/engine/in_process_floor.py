"""What vLLM's engine client needs of the CPU for each token without any HTTP around it.

    python -m app.engine.in_process_floor --model DIR --load 256x192 --repeat 3

No server that takes the outputs of `AsyncLLM.generate` one by one can be cheaper than this, plus
what it costs to write them. On the simulated executor; reports for each load the median of CPU
microseconds per token of this process, the engine's not counted.
"""

import argparse
import asyncio
import statistics
import sys
from time import process_time

import uvloop
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine.async_llm import AsyncLLM

from app.core.report_line import tell

EXECUTOR = "app.engine.simulated.SimulatedExecutor"
PROMPT_TOKENS = 40
WARM_UP = 16, 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--load", action="append", required=True, help="STREAMSxTOKENS")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    tell(uvloop.run(measure_all(arguments.model, arguments.load, arguments.repeat)))
    return 0


async def measure_all(model: str, loads: list[str], repetitions: int) -> dict[str, float]:
    sizes = {load: tuple(map(int, load.split("x"))) for load in loads}
    most = max(streams for streams, _ in sizes.values())
    engine = AsyncEngineArgs(
        model=model, distributed_executor_backend=EXECUTOR, max_num_seqs=max(most, WARM_UP[0])
    )
    client = AsyncLLM.from_engine_args(engine)
    try:
        await cpu_us_per_token(client, *WARM_UP)
        freeze_gc_heap()
        return {
            load: statistics.median(
                [await cpu_us_per_token(client, *size) for _ in range(repetitions)]
            )
            for load, size in sizes.items()
        }
    finally:
        client.shutdown()


async def cpu_us_per_token(client: AsyncLLM, num_streams: int, num_tokens: int) -> float:
    begun_s = process_time()
    streams = (read(client, number, num_tokens) for number in range(num_streams))
    total = sum(await asyncio.gather(*streams))
    return (process_time() - begun_s) / total * 1e6


async def read(client: AsyncLLM, number: int, num_tokens: int) -> int:
    """Tokens of one stream, read as they come."""
    params = SamplingParams(
        max_tokens=num_tokens, ignore_eos=True, output_kind=RequestOutputKind.DELTA
    )
    tokens = [1 + (number + place) % 50 for place in range(PROMPT_TOKENS)]
    prompt = {"type": "token", "prompt_token_ids": tokens}
    total = 0
    async for output in client.generate(prompt, params, f"floor-{number}-{num_tokens}"):
        total += len(output.outputs[0].token_ids)
    return total


if __name__ == "__main__":
    sys.exit(main())
